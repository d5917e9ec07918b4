"""How many of the labels that were flipped on purpose the ranking of suspects finds.

    python benchmarks/label_noise.py
    python benchmarks/label_noise.py --models nodia --epochs 20 --candidates 6000 --out FOLDER
    python benchmarks/label_noise.py --no-training

Of the simulated candidates, whose labels are right, 3 % of the real ones are called bogus and 3 %
of the bogus ones real. The commands of the workflow do the rest, as a user types them: k-fold
training on the flipped labels (train.py -m), evaluate.py study=labels for the suspects, and
training again on labels of which the suspects' were put right. Printed are precision and recall of
the suspects, for each kind of flipped label, and the accuracies by the true labels, with 95 %
intervals. Jobs that are finished are not run again: after an interruption, start it again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.table import Table

from rb.config import project_root, register_resolvers, resolved
from rb.evaluation.choose import select
from rb.evaluation.paired import compare
from rb.evaluation.results import RunResult
from rb.labels.suspects import read_suspects
from rb.metrics.intervals import Estimate, proportion
from rb.sources import open_stamps
from rb.stamps import StampSet
from rb.stamps.label_table import as_text
from rb.stamps.layout import BOGUS, REAL
from rb.stamps.splits import make_split
from rb.tracking import Tracking

TOP = (0.01, 0.02, 0.03, 0.05, 0.1)
"""Shares of the candidates, most suspicious first, for which precision and recall are told."""

console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


def flip(stamps: StampSet, rate: float, seed: int) -> pd.DataFrame:
    """A table that turns the labels of a share `rate` of each class round: id, verdict."""
    rng = np.random.default_rng(seed)
    parts = []
    for label in (REAL, BOGUS):
        rows = np.flatnonzero(stamps.labels == label)
        chosen = np.sort(rng.permutation(rows)[: round(rate * len(rows))])
        parts.append(pd.DataFrame({"id": stamps.ids[chosen], "verdict": 1 - label}))
    return pd.concat(parts, ignore_index=True)


def command(told: argparse.Namespace, script: str, *overrides: str) -> None:
    """One of the project's commands in a process of its own, as a user would type it."""
    places = [f"paths.{k}={told.out / v}" for k, v in (("root", ""), ("runs", "mlruns"))]
    words = [script, *overrides, *places, f"paths.cache={told.cache}"]
    console.print("python " + " ".join(words), markup=False, style="dim", soft_wrap=True)
    subprocess.run([sys.executable, *words], cwd=project_root(), check=True)


def suspects_of(told: argparse.Namespace, model: str) -> pd.DataFrame:
    """Train the folds on flipped labels and rank the candidates."""
    folds = ",".join(map(str, range(told.folds)))
    table = told.out / f"suspects-{model}.parquet"
    name = sweep(
        told, f"{model}-folds", f"model={model}", *quick(told),
        f"split.folds={told.folds}", f"split.fold={folds}",
        f"data.labels={told.out / 'flipped.parquet'}",
    )  # fmt: skip
    command(told, "evaluate.py", "study=labels", f"runs={name}", f"study.table={table}")
    return read_suspects(table)


def quick(told: argparse.Namespace) -> list[str]:
    """Settings that all trainings share."""
    words = ["trainer=quick", f"data.candidates={told.candidates}", f"data.seed={told.seed}"]
    return words + ([f"trainer.max_epochs={told.epochs}"] if told.epochs else [])


def tracking_of(told: argparse.Namespace) -> Tracking:
    return Tracking(None, told.out / "mlruns", "rb")


def sweep(told: argparse.Namespace, what: str, *overrides: str) -> str:
    """Name of the sweep that these settings make, trained now unless it has been.

    A sweep that is finished is left as it is, so the newest one need not be the one that is
    meant: the name says which settings are.
    """
    settings = zlib.crc32(" ".join(overrides).encode())
    name = f"{what}-{settings:08x}"
    command(told, "train.py", "-m", f"name={name}", *overrides)
    return name


def found_table(table: pd.DataFrame, flipped: set[str], model: str) -> Table:
    """Precision and recall of the suspects, and of the first few per cent by rank."""
    shown = Table(title=f"{model}: flipped labels among {len(table):,} ranked candidates")
    for column in ("looked at", "label", "candidates", "flipped", "precision, %", "recall, %"):
        shown.add_column(column, justify="left" if column in ("looked at", "label") else "right")
    wrong = table["id"].isin(flipped).to_numpy()
    label = table["label"].to_numpy()
    looks = {"suspects": table["suspect"].to_numpy(dtype=bool)}
    for part in TOP:
        looks[f"first {part:.0%}"] = table["rank"].to_numpy() <= round(part * len(table))
    for name, looked in looks.items():
        for kind, of in (("bogus", label == BOGUS), ("real", label == REAL), ("both", label >= 0)):
            hit = int(np.sum(looked & of & wrong))
            shown.add_row(
                name if kind == "bogus" else "",
                kind,
                f"{int(np.sum(looked & of)):,}",
                f"{hit:,}",
                percent(proportion(hit, int(np.sum(looked & of)))),
                percent(proportion(hit, int(np.sum(of & wrong)))),
            )
    return shown


def variants(
    stamps: StampSet, flipped: pd.DataFrame, suspects: pd.DataFrame
) -> dict[str, pd.DataFrame | None]:
    """Labels to train on, as tables; None where the set's own, the true ones, are used.

    ``inspected``: every suspect was looked at and given its true label. ``suggested``: every
    suspect got the other label unseen.
    """
    wrong = set(as_text(flipped["id"].to_numpy()))
    flagged = set(suspects.loc[suspects["suspect"], "id"])
    truth = dict(zip(as_text(stamps.ids), stamps.labels.tolist(), strict=True))

    def table(ids: set[str]) -> pd.DataFrame:
        return pd.DataFrame([{"id": i, "verdict": 1 - truth[i]} for i in sorted(ids)])

    return {
        "true": None,
        "flipped": table(wrong),
        "inspected": table(wrong - flagged),
        # A suspect that was flipped becomes right, one that was right becomes wrong.
        "suggested": table(wrong ^ flagged),
    }


def retrained(
    told: argparse.Namespace,
    model: str,
    stamps: StampSet,
    labels: dict[str, pd.DataFrame | None],
) -> Table:
    """Accuracy by the true labels of networks trained on each variant of the labels."""
    tracking = tracking_of(told)
    # No variant makes a label unknown, so all have the same split.
    rows = make_split(stamps.labels, stamps.groups, **composed(told, model)["split"])["test"]
    results = {}
    for name, table in labels.items():
        words = [f"model={model}", *quick(told)]
        if table is not None:
            file = told.out / f"labels-{model}-{name}.parquet"
            table.to_parquet(file, index=False)
            words.append(f"data.labels={file}")
        # A sweep of one, because a sweep does not repeat a job that is finished.
        (trained,) = select(tracking, [sweep(told, f"{model}-{name}", *words)], told.cache)
        network = trained.model
        p_real = network.score(stamps, rows)
        results[name] = RunResult(
            name=name,
            run_id=trained.run_id,
            inputs=network.inputs.kind,
            model=model,
            data_name=stamps.name,
            data_digest=stamps.digest,
            subset="test",
            ids=stamps.ids[rows],
            labels=stamps.labels[rows],
            p_real=p_real,
        )
    shown = Table(title=f"{model}: trained on labels that are …, tested on {len(rows):,} true ones")
    for column in (
        "labels", "wrong, %", "accuracy, %", "− flipped", "McNemar p",
        "AUC", "− flipped", "DeLong p",
    ):  # fmt: skip
        shown.add_column(column, justify="left" if column == "labels" else "right")
    for name, result in results.items():
        table = labels[name]
        metrics = result.metrics()
        accuracy, auc = ["", ""], ["", ""]
        if name != "flipped":
            pair = compare(result, results["flipped"])
            accuracy = [percent(pair.accuracy), f"{pair.mcnemar_p:.2g}"]
            auc = [share(pair.auc), f"{pair.auc_p:.2g}"]
        wrong = 100 * (0 if table is None else len(table)) / len(stamps)
        shown.add_row(
            name,
            f"{wrong:.1f}",
            percent(metrics["accuracy"]),
            *accuracy,
            share(metrics["auc"]),
            *auc,
        )
    return shown


def composed(told: argparse.Namespace, model: str) -> dict[str, Any]:
    """The configuration of a training."""
    with initialize_config_dir(str(project_root() / "conf"), version_base="1.3"):
        overrides = [f"model={model}", *quick(told), f"paths.cache={told.cache}"]
        return resolved(compose("train", overrides))


def percent(part: Estimate) -> str:
    if not part.defined:
        return "–"
    return f"{100 * part.value:.1f} ({100 * part.low:.1f} to {100 * part.high:.1f})"


def share(part: Estimate) -> str:
    return f"{part.value:.4f} ({part.low:.4f} to {part.high:.4f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["nodia", "dia"], metavar="MODEL")
    parser.add_argument("--candidates", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=1, help="of the survey and of the flips (1)")
    parser.add_argument(
        "--rate", type=float, default=0.03, help="share flipped in each class (.03)"
    )
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="of each training (those of trainer=quick)")
    cache = project_root() / ".cache"
    parser.add_argument("--out", type=Path, default=cache / "label-noise", help="tables and runs")
    parser.add_argument("--cache", type=Path, default=cache, help="stamp sets (.cache)")
    parser.add_argument("--no-training", action="store_true", help="stop after the suspects")
    told = parser.parse_args()
    told.out, told.cache = told.out.absolute(), told.cache.absolute()
    told.out.mkdir(parents=True, exist_ok=True)
    register_resolvers()
    stamps = open_stamps(composed(told, told.models[0])["data"])
    flipped = flip(stamps, told.rate, told.seed)
    flipped.to_parquet(told.out / "flipped.parquet", index=False)
    wrong = set(as_text(flipped["id"].to_numpy()))
    console.print(
        f"{len(flipped):,} of {len(stamps):,} labels flipped: "
        f"{int((flipped['verdict'] == BOGUS).sum()):,} real ones now bogus, "
        f"{int((flipped['verdict'] == REAL).sum()):,} bogus ones now real"
    )
    for model in told.models:
        suspects = suspects_of(told, model)
        console.print(found_table(suspects, wrong, model))
        if not told.no_training:
            labels = variants(stamps, flipped, suspects)
            console.print(retrained(told, model, stamps, labels))


if __name__ == "__main__":
    main()
