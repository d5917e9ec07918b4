"""The published networks beyond the candidates that they were made for.

    python benchmarks/nodia_beyond.py --alerts ztf/ --alerts fink/ --alerts pgir/

(a) Accuracy of what is left when the least certain, or the strangest, candidates are set aside.
(b) How well strangeness (docs/score.md) tells ordinary candidates from perturbed ones and from
    other surveys' alerts, beside what the score's own certainty tells.
(c) Accuracy on pairs that no pipeline has prepared: turned, off centre, unscaled, other pixels.
(d) Another survey, of coarser pixels, worse seeing and less depth: as they are, and after
    fine-tuning on 16 to 1,024 of its labels, beside training from nothing.
(e) `nodia` and `nodia_stamps` minus `dia`, candidate by candidate, on many fresh ones. These are
    weights that are fixed: the intervals hold the test set, whole exposures resampled, and no
    scatter of trainings.

Simulated survey; seeds 7391 (test), 2205 (reference), 6101 (the other survey) and 7392 (e) are used
for nothing else. Writes `benchmarks/results/nodia_*.csv`, each with its command and commit.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hydra import compose, initialize_config_dir
from sklearn.metrics import roc_auc_score

import rb
from rb.config import register_resolvers, resolved
from rb.console import make_console
from rb.evaluation.perturbations import PERTURBATIONS, Strength
from rb.metrics.intervals import Estimate, proportion
from rb.metrics.repeated import estimates, measure
from rb.scoring.load import embeddings_of, weights_digest_of
from rb.sources import open_stamps
from rb.stamps.batch import Stamps
from rb.stamps.stampset import StampSet
from rb.tracking import git_commit
from rb.training.job import train
from rb.uncertainty.strangeness import Reference

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = ("dia", "nodia", "nodia_stamps")
TEST_SEED, REFERENCE_SEED, OTHER_SEED, MANY_SEED = 7391, 2205, 6101, 7392
OTHER = (
    "data.scene.pixel_scale=0.6", "data.exposure.search_fwhm_px=2.6",
    "data.exposure.template_fwhm_px=2.4", "data.exposure.fwhm_range_px=[2.0,5.0]",
    "data.exposure.sky_noise=70", "data.exposure.deep_exposures=[3,8]",
)  # fmt: skip
KEEPS_LABELS = (
    "turned", "turned template", "off centre", "template's unit", "other unit", "nan rows",
    "finer pixels", "coarser pixels", "bright star", "saturated star",
)  # fmt: skip
LABELLED = (16, 64, 256, 1024)
SNR_EDGES = (0.0, 5.0, 7.0, 10.0, np.inf)


def configured(*overrides: str) -> dict[str, Any]:
    """What `train.py` would work with."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return resolved(compose("train", list(overrides)))


def simulated(seed: int, n: int, *overrides: str) -> StampSet:
    """Candidates of a survey of its own."""
    return open_stamps(configured(f"data.seed={seed}", f"data.candidates={n}", *overrides)["data"])


def share(right: np.ndarray) -> str:
    """A share of candidates with its 95 % interval."""
    found = proportion(int(right.sum()), len(right))
    return f"{found.value:.4f} ({found.low:.4f}-{found.high:.4f})"


def rejected(name: str, p: np.ndarray, strange: np.ndarray, labels: np.ndarray) -> Iterator[dict]:
    """Accuracy of the rest by what is set aside."""
    right = (p >= 0.5) == (labels == 0)
    orders = {"least certain": np.argsort(np.abs(p - 0.5)), "strangest": np.argsort(-strange)}
    for part in (0.0, 0.01, 0.02, 0.05, 0.1, 0.2):
        row: dict[str, Any] = {"network": name, "set aside": part}
        for what, order in orders.items():
            row[f"accuracy without the {what}"] = share(right[order[round(part * len(p)) :]])
        yield row


def told_apart(
    name: str, what: str, p: np.ndarray, far: np.ndarray, p_ordinary: np.ndarray, own: np.ndarray
) -> dict[str, Any]:
    """How well the unusual is told from the ordinary."""
    is_odd = np.r_[np.zeros(len(own)), np.ones(len(far))]
    finite = np.r_[own, far]
    finite[~np.isfinite(finite)] = 1e9
    certain = -np.abs(np.nan_to_num(np.r_[p_ordinary, p], nan=0.5) - 0.5)
    return {
        "network": name,
        "stamps": what,
        "n": len(far),
        "AUC of strangeness": round(roc_auc_score(is_odd, finite), 4),
        "AUC of uncertainty": round(roc_auc_score(is_odd, certain), 4),
        "tagged unlike": round(float((far > 1).mean()), 4),
        "ordinary ones tagged": round(float((own > 1).mean()), 4),
        "median strangeness": round(float(np.median(far)), 2),
        "called real": round(float((p >= 0.5).mean()), 3),
    }


def alerts_of(folder: Path, model: Any) -> Stamps | None:
    """Stamps of a folder of alerts as the model takes them."""
    from rb.scoring.alerts import AlertSource

    with tempfile.TemporaryDirectory() as scratch:
        chunks = list(AlertSource(folder, model.inputs, 100_000).chunks(None, Path(scratch)))
    if not chunks:
        return None
    stamps = chunks[0].stamps
    return stamps[np.isfinite(stamps.images[:, 1]).any((1, 2))]


def fine_tuned(name: str, other: StampSet, n: int, seed: int, root: Path, fresh: bool) -> Any:
    """A network that has learned from `n` labels of the other survey."""
    epochs = (40 if n < 200 else 20) * (2 if fresh else 1)
    words = [
        f"model={'dia_modern' if name == 'dia' else 'nodia_modern'}" if fresh else "model=nodia",
        *([] if fresh else [f"model.init_from=published:{name}"]),
        "data=stamps", f"data.path={other.path}", "trainer=modern", f"split.train={n}",
        "split.val=200", "split.test=3000", f"seed={seed}", f"paths.root={root}",
        f"trainer.max_epochs={epochs}", "trainer.batch_size=32", "trainer.accelerator=cpu",
        *([] if fresh else ["trainer.optimizer.lr=0.0003", "trainer.scheduler.max_lr=0.0003"]),
        "trainer.ema=null",
    ]  # fmt: skip
    run = f"{name}-{n}-{seed}-{fresh}"
    train(configured(*words, f"name={run}"), console=make_console())
    return rb.load(run, root / "mlruns")


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--alerts", type=Path, action="append", default=[])
    parser.add_argument("--candidates", type=int, default=6000)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--seeds", type=int, default=3, help="of fine-tuning")
    parser.add_argument("--labels", nargs="+", type=int, default=list(LABELLED))
    parser.add_argument("--many", type=int, default=120_000, help="candidates of (e)")
    parser.add_argument("--only", choices=("a-c", "d", "e"))
    told = parser.parse_args()
    register_resolvers()
    if told.only in (None, "a-c"):
        beyond(told)
    if told.only in (None, "d"):
        other_survey(told)
    if told.only in (None, "e"):
        minus_dia(told)


def beyond(told: argparse.Namespace) -> None:
    """Parts (a) to (c)."""
    test = simulated(TEST_SEED, told.candidates)
    examples = simulated(REFERENCE_SEED, 2000)
    aside, odd, pairs = [], [], []
    by = Strength()
    for name in told.networks:
        model = rb.load(f"published:{name}")
        rows = np.arange(len(test))
        columns = examples.columns(["kind"])["kind"].astype(str).to_numpy()
        made = Reference.of(
            embeddings_of(model, examples, np.arange(len(examples))),
            examples.labels, columns, {"weights_digest": weights_digest_of(model)},
        )  # fmt: skip
        p = model.score(test)
        own = made.compare(embeddings_of(model, test, rows))[0]
        aside += rejected(name, p, own, test.labels)
        some = np.sort(np.random.default_rng(1).choice(rows, 1500, False))
        stamps = test.read(some, model.inputs)
        labels = test.labels[some]
        pairs.append(
            {"network": name, "pairs": "as they are",
             "accuracy": share((p[some] >= 0.5) == (labels == 0))}
        )  # fmt: skip
        for what, perturbation in PERTURBATIONS.items():
            changed = perturbation.make(stamps, by)
            found, hidden = model.run(changed, embedding=True)
            far = made.compare(hidden)[0]
            odd.append(told_apart(name, what, found, far, p, own))
            if what in KEEPS_LABELS:
                right = (found >= 0.5) == (labels == 0)
                pairs.append({"network": name, "pairs": what, "accuracy": share(right)})
        for folder in told.alerts:
            alerts = alerts_of(folder, model)
            if alerts is not None and len(alerts):
                if model.inputs.side and alerts.psf is None:
                    alerts = replace(
                        alerts, psf=np.full((len(alerts), 2, *test.psf.shape[2:]), np.nan, "f4")
                    )
                found, hidden = model.run(alerts, embedding=True)
                far = made.compare(hidden)[0]
                odd.append(told_apart(name, f"alerts: {folder.name}", found, far, p, own))
        print(f"{name}: done", file=sys.stderr)
    write("nodia_rejected", aside, told)
    write("nodia_strangeness", odd, told)
    write("nodia_pairs", pairs, told)


def other_survey(told: argparse.Namespace) -> None:
    """Part (d)."""
    other = simulated(OTHER_SEED, 4400, *OTHER)
    rows = []
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for name in told.networks:
            test = None
            for n in told.labels:
                accuracies: dict[bool, list[float]] = {False: [], True: []}
                for seed in range(1, told.seeds + 1):
                    for fresh in (False, True):
                        model = fine_tuned(name, other, n, seed, root, fresh)
                        test = _held_out(other, seed, n)
                        right = (model.score(other, test) >= 0.5) == (other.labels[test] == 0)
                        accuracies[fresh].append(float(right.mean()))
                        print(name, n, seed, fresh, right.mean(), file=sys.stderr)
                before = rb.load(f"published:{name}").score(other, test)
                row: dict[str, Any] = {"network": name, "labels": n, "trainings": told.seeds}
                row["as published"] = share((before >= 0.5) == (other.labels[test] == 0))
                for fresh, what in ((False, "fine-tuned"), (True, "from nothing")):
                    values = np.array(accuracies[fresh])
                    row[what] = f"{values.mean():.4f}"
                    row[f"{what}, scatter"] = f"{values.std(ddof=1):.4f}" if len(values) > 1 else ""
                rows.append(row)
                write("nodia_other_survey", rows, told)


def minus_dia(told: argparse.Namespace) -> None:
    """Part (e)."""
    many = simulated(MANY_SEED, told.many)
    p = {}
    for name in ("dia", *(name for name in told.networks if name != "dia")):
        p[name] = rb.load(f"published:{name}").score(many, progress=make_console())[None]
        print(f"{name}: done", file=sys.stderr)
    snr = many.columns(["snr"])["snr"].to_numpy(float)
    parts = {"all": np.ones(len(many), bool)}
    for low, high in itertools.pairwise(SNR_EDGES):
        parts[f"{low:g} to {high:g}"] = (snr >= low) & (snr < high)
    rows = []
    for part, these in parts.items():
        labels, groups = many.labels[these], many.groups[these]
        found = {name: measure(labels, scores[:, these], groups) for name, scores in p.items()}
        for name, one in found.items():
            row: dict[str, Any] = {"network": name, "SNR": part, "n": int(these.sum())}
            for measured, value in estimates(one).items():
                row[measured] = _with_limits(value)
            if name != "dia":
                row["accuracy minus dia"] = _with_limits(estimates(one, found["dia"])["accuracy"])
            rows.append(row)
    write("nodia_minus_dia", rows, told)


def _with_limits(found: Estimate) -> str:
    return f"{found.value:.5f} ({found.low:.5f} to {found.high:.5f})"


def _held_out(other: StampSet, seed: int, n: int) -> np.ndarray:
    from rb.training.job import split_of

    config = configured(
        "model=nodia", f"split.train={n}", "split.val=200", "split.test=3000", f"seed={seed}"
    )
    return split_of(other, config).test


def write(name: str, rows: list[dict], told: argparse.Namespace) -> None:
    """A table with what made it."""
    file = ROOT / "benchmarks" / "results" / f"{name}.csv"
    words = [Path(word).name + "/" if "/" in word else word for word in sys.argv[1:]]
    command = " ".join(["python benchmarks/nodia_beyond.py", *words])
    head = (
        f"# {command}, at commit {(git_commit() or 'unknown')[:10]}; published networks\n"
        f"# simulated survey of code version 4, seeds {TEST_SEED} (test, {told.candidates:,} "
        f"candidates), {REFERENCE_SEED} (reference), {OTHER_SEED} (other survey), {MANY_SEED} "
        f"(minus dia, {told.many:,} candidates)\n"
    )
    table = pd.DataFrame(rows)
    file.write_text(head + table.to_csv(index=False))
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
