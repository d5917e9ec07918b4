"""Train with and without the difference image on one GPU: many networks in a few minutes.

    python benchmarks/nodia_gpu.py OUT [--budget 480] [--toy]

The survey is simulated on all cores into memory (training and validation frames from one seed, test
frames from others), the planes of each network are made once and stay on the GPU, and networks are
trained in the order of their importance until the budget is spent. What is finished is kept in
`--work`, and running it again goes on. It needs neither Hydra nor MLflow; the recipe is that of
`conf/trainer/modern.yaml`. Written into OUT:

    results.csv      one row a training: metrics on the test set, time, settings
    offsets.csv      the same metrics on test candidates that are not in the middle of their stamps
    kinds.csv        share called real of each kind of source, on a survey with all of them
    scores.npz       logit(p_real) of every test and validation candidate by each training, float16
    candidates.parquet  their labels and what the survey knows of them
    weights.pt       weights of the largest trainings, with what describes their networks
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from nodia_training import (
    CUT,
    PAIR,
    ROOM,
    SIDE,
    TRIPLET,
    Planes,
    Raw,
    Recipe,
    Trainer,
    Variant,
    random_offsets,
    score,
    simulate,
    start,
)
from torch import Tensor

from rb.models.modern.network import StampNetwork

TRAIN_SEED, TEST_SEED, KINDS_TRAIN_SEED, KINDS_TEST_SEED = 2203, 7390, 3581, 8841
OFFSETS = (0, 2, 4, 6, 8, 10, 12, 15)
KEPT = (
    "id", "label", "group", "kind", "snr", "mag", "mag_ref", "nn_dist_arcsec", "ellipticity",
    "true_mag", "host_mag", "host_sep_arcsec", "seeing_srch", "seeing_tmpl", "band", "field",
)  # fmt: skip
MATCHED: dict[str, Any] = {"side": tuple(SIDE), "matching": ("cross", "fit"), "conditions": True}
MAIN = {
    "dia": Variant(TRIPLET),
    "nodia": Variant(PAIR),
    "nodia_matched": Variant(PAIR, **MATCHED),
    "dia_matched": Variant(TRIPLET, **MATCHED),
}
MATCHINGS = {
    "nodia_full": Variant(PAIR, **MATCHED | {"matching": ("cross", "fit", "fit_all")}),
    "nodia_white": Variant(
        PAIR, **MATCHED | {"matching": ("cross", "fit", "white_cross", "white_fit")}
    ),
    "nodia_all": Variant(
        PAIR, **MATCHED | {"matching": ("cross", "fit", "fit_all", "white_cross", "white_fit_all")}
    ),
}
LONGER = {
    "dia_long": replace(MAIN["dia"], longer=2.0),
    "nodia_matched_long": replace(MAIN["nodia_matched"], longer=2.0),
    "nodia_full_long": replace(MATCHINGS["nodia_full"], longer=2.0),
}
OTHERS = {
    f"{name}_{what}": replace(MAIN[name], **changes)
    for what, changes in {
        "shifted": {"trained_on": "shifted"},
        "sharp": {"trained_on": "sharp"},
        "half": {"trained_on": "half"},
        "30px": {"size": 30},
    }.items()
    for name in ("dia", "nodia_matched")
} | {
    f"{name}_kinds": replace(variant, trained_on="kinds")
    for name, variant in (MAIN | MATCHINGS).items()
}
PARTS = {
    "nodia_cross": Variant(PAIR, tuple(SIDE), ("cross",)),
    "nodia_fit": Variant(PAIR, (), ("fit",)),
    "nodia_conditions": Variant(PAIR, tuple(SIDE), (), True),
    "nodia_matched_narrow": Variant(PAIR, **MATCHED, network={"width": 16}),
    "dia_narrow": Variant(TRIPLET, network={"width": 16}),
}
PIXELWISE = {
    "pixelwise_matched": Variant(PAIR, **MATCHED, network={"trunk": "pixelwise", "width": 12}),
    "pixelwise": Variant(PAIR, network={"trunk": "pixelwise", "width": 12}),
}
VARIANTS = MAIN | MATCHINGS | LONGER | OTHERS | PARTS | PIXELWISE


def plan(sizes: list[int], seeds: int) -> list[tuple[str, int, int]]:
    """(variant, training candidates, seed), the most important first."""
    large, others = sizes[-1], sizes[-2::-1]
    few = range(1, seeds + 1)
    jobs = [(name, large, 1) for name in (*MAIN, *MATCHINGS, *LONGER)]
    jobs += [(name, large, seed) for seed in few for name in MAIN]
    jobs += [(name, large, 1) for name in OTHERS]
    jobs += [(name, n, 1) for n in others for name in MAIN]
    jobs += [(name, large, seed) for seed in few for name in LONGER]
    jobs += [(name, large, 1) for name in PARTS]
    jobs += [(name, n, seed) for seed in few for n in others for name in MAIN]
    jobs += [(name, large, 1) for name in PIXELWISE]
    jobs += [(name, large, seed) for seed in few for name in (*OTHERS, *PARTS)]
    return list(dict.fromkeys(jobs))


def epochs_for(n: int, most: int = 60_000, fewest: int = 25) -> int:
    """More rounds through fewer candidates: 25 for 60,000, 43 for 20,000, 87 for 5,000."""
    return round(fewest * (most / n) ** 0.5)


# --- the survey ---------------------------------------------------------------------------------


# --- numbers ------------------------------------------------------------------------------------


def metrics(labels: np.ndarray, logit: np.ndarray) -> dict[str, float]:
    """Accuracy, AUC, and the share of real ones missed at two false-positive rates."""
    from sklearn.metrics import roc_auc_score

    real = labels == 0
    bogus = np.sort(logit[~real])[::-1]
    out = {
        "accuracy": float(((logit > 0) == real).mean()),
        "auc": float(roc_auc_score(real, logit)),
    }
    for rate in (0.01, 0.05):
        threshold = bogus[int(rate * len(bogus))]
        out[f"mdr_at_fpr_{rate}"] = float((logit[real] <= threshold).mean())
    return out


def table(results: pd.DataFrame) -> str:
    """Mean and scatter over seeds, and the difference in accuracy to the first variant."""
    rows = []
    for (variant, n), group in results.groupby(["variant", "n_train"], sort=False):
        first = results[(results["variant"] == "dia") & (results["n_train"] == n)]
        both = group.merge(first, on="seed", suffixes=("", "_dia"))
        spread = group["accuracy"].std() if len(group) > 1 else float("nan")
        rows.append({
            "variant": variant, "n": n, "seeds": len(group),
            "acc %": 100 * group["accuracy"].mean(), "sd": 100 * spread,
            "plain %": 100 * group["accuracy_plain"].mean(), "auc": group["auc"].mean(),
            "mdr.01": group["mdr_at_fpr_0.01"].mean(), "mdr.05": group["mdr_at_fpr_0.05"].mean(),
            "-dia %": 100 * (both["accuracy"] - both["accuracy_dia"]).mean(),
            "s": group["seconds"].mean(),
        })  # fmt: skip
    return pd.DataFrame(rows).to_string(index=False, float_format=lambda v: f"{v:.3f}")


def flops(network: StampNetwork, variant: Variant, size: int, n_side: int) -> int:
    """Floating-point operations for one candidate, without the averaging over turns."""
    from torch.utils.flop_counter import FlopCounterMode

    twin = variant.build(size).eval()
    twin.tta = False
    side = torch.zeros(1, n_side) if variant.side else None
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        twin(torch.zeros(1, len(variant.channels), size, size), side)
    return int(counter.get_total_flops())


# --- all of it ----------------------------------------------------------------------------------


def main() -> None:
    begun = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, help="folder for results")
    parser.add_argument("--work", type=Path, default=Path("/tmp/nodia"), help="kept between calls")
    parser.add_argument("--budget", type=float, default=480, help="seconds in all")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--sizes", type=int, nargs="+", default=[5_000, 20_000, 60_000])
    parser.add_argument("--train", type=int, nargs="+", help="of these sizes, now; else all")
    parser.add_argument("--room", type=int, default=ROOM, help="px round a stamp, for offsets")
    parser.add_argument("--validation", type=int, default=6_000)
    parser.add_argument("--test", type=int, default=20_000)
    parser.add_argument("--kinds", type=int, nargs=2, default=[20_000, 10_000])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="of the largest training; by default 25")
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), help="these variants alone")
    parser.add_argument("--no-graph", action="store_true", help="launch kernels one by one")
    parser.add_argument("--toy", action="store_true", help="minutes on a CPU: does it run?")
    options = parser.parse_args()
    if options.toy:
        options.sizes, options.validation, options.test = [300, 600], 100, 300
        options.seeds, options.epochs, options.kinds = 1, 2, [200, 200]
    out, work = options.out, options.work
    out.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)

    def left() -> float:
        return options.budget - (time.monotonic() - begun)

    test, training = options.test, options.sizes[-1]
    deadline = time.monotonic() + 0.4 * options.budget
    with multiprocessing.get_context("fork").Pool(options.processes, start) as pool:
        size = CUT + 2 * options.room
        tested = simulate(pool, TEST_SEED, test, deadline, work, size)
        trained = simulate(pool, TRAIN_SEED, training + options.validation, deadline, work, size)
        more, others = (
            simulate(pool, seed, n, deadline, work, size, kinds=True)
            for seed, n in zip((KINDS_TRAIN_SEED, KINDS_TEST_SEED), options.kinds, strict=True)
        )
        pool.close()
        pool.join()
    n_train = len(trained) - options.validation
    if n_train < options.sizes[0]:
        raise SystemExit("the survey took too long: raise --budget")
    print(
        f"{n_train:,} training, {options.validation:,} validation, {len(tested):,} test "
        f"candidates after {time.monotonic() - begun:.0f} s, "
        f"{(trained.catalogue['label'] == 0).mean():.1%} of them real",
        flush=True,
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    recipe = Recipe.read()
    sets = [trained, tested, others, more]
    begin = np.cumsum([0, *map(len, sets)])
    every = pd.concat([one.catalogue for one in sets], ignore_index=True)
    labels = torch.from_numpy(every["label"].to_numpy(np.int64)).to(device)
    held = slice(n_train, int(begin[3]))
    kept = every.iloc[held].assign(
        subset=np.repeat(["val", "test", "kinds"], [options.validation, len(tested), len(others)])
    )
    kept = kept[[c for c in ("subset", *KEPT) if c in kept]].reset_index(drop=True)
    kept.to_parquet(out / "candidates.parquet")
    truth, subset = kept["label"].to_numpy(), kept["subset"].to_numpy()
    sharp = np.flatnonzero(
        every["seeing_srch"].iloc[:n_train] < every["seeing_srch"].iloc[:n_train].median()
    )

    def rows_of(trained_on: str, n: int) -> np.ndarray:
        """Rows that a network is trained on."""
        if trained_on == "sharp":
            return sharp[sharp < n]
        if trained_on == "half":
            return np.arange(len(sharp[sharp < n]))
        if trained_on == "kinds":
            return np.concatenate([np.arange(n), np.arange(begin[3], begin[4])])
        return np.arange(n)

    done = work / "results.json"
    rows: list[dict[str, Any]] = json.loads(done.read_text()) if done.exists() else []
    finished = {(r["variant"], r["n_train"], r["seed"]) for r in rows}
    pace: dict[str, float] = {}
    offsets_done = work / "offsets.json"
    offset_rows = json.loads(offsets_done.read_text()) if offsets_done.exists() else []
    planes_of: dict[Any, Planes] = {}
    raw = Raw(sets, device)
    all_rows = torch.arange(int(begin[4]), device=device)
    written = time.monotonic()
    jobs = [
        job
        for job in plan([min(n, n_train) for n in options.sizes], options.seeds)
        if job not in finished
        and (not options.only or job[0] in options.only)
        and (not options.train or job[1] in options.train)
    ]
    for name, n, seed in jobs:
        variant = VARIANTS[name]
        chosen = torch.from_numpy(rows_of(variant.trained_on, n)).to(device)
        epochs = round(variant.longer * epochs_for(n, options.sizes[-1], options.epochs or 25))
        steps = epochs * (len(chosen) // recipe.batch_size)
        expected = 1.1 * steps * pace.get(name, max(pace.values(), default=0.0)) + 4
        if expected > left() - 10:
            continue
        torch.manual_seed(seed)
        network = variant.build(variant.size).to(device)
        started = time.monotonic()
        if variant.planes not in planes_of:
            planes_of[variant.planes] = Planes(network, variant, raw, all_rows)
        held_data = data = planes_of[variant.planes]
        of_data = labels
        if variant.trained_on == "shifted":
            # Each candidate at three places, the first of which is the middle.
            several = chosen.repeat(3)
            offsets = random_offsets(len(several), (0, ROOM), seed, device)
            offsets[:n] = 0
            data, of_data = Planes(network, variant, raw, several, offsets), labels[several]
            chosen, epochs = torch.arange(len(several), device=device), -(-epochs // 3)
        making = time.monotonic() - started
        graph = device.type == "cuda" and not options.no_graph and "pixelwise" not in name
        trainer = Trainer(network, data, of_data, chosen, recipe, epochs)
        seconds = trainer.fit(seed, graph)
        pace[name] = seconds / max(steps, 1)
        del data, trainer.data
        averaged, plain = score(network, held_data, held)
        row: dict[str, Any] = {"variant": name, "n_train": n, "seed": seed, "epochs": epochs}
        test, val = subset == "test", subset == "val"
        row |= metrics(truth[test], averaged[test])
        row |= {f"{k}_plain": v for k, v in metrics(truth[test], plain[test]).items()}
        row |= {f"{k}_val": v for k, v in metrics(truth[val], averaged[val]).items()}
        row |= {
            "loss": float(trainer.loss),
            "seconds": seconds,
            "parameters": sum(p.numel() for p in network.parameters()),
            "flops": flops(network, variant, variant.size, trained.psf[0].size + len(SIDE) - 1),
        }
        rows.append(row)
        roomy = options.room == ROOM and n == options.sizes[-1] and variant.size == CUT
        if roomy and (name in MAIN or variant.trained_on == "shifted"):
            offset_rows += _offsets(row, network, variant, raw, labels, begin)
        label = f"{name}-{n}-{seed}"
        np.savez(work / f"{label}.npz", averaged=averaged.astype("f2"), plain=plain.astype("f2"))
        torch.save({k: v.cpu() for k, v in network.state_dict().items()}, work / f"{label}.pt")
        done.write_text(json.dumps(rows))
        offsets_done.write_text(json.dumps(offset_rows))
        print(
            f"{time.monotonic() - begun:5.0f} s  {name:18} {n:6} seed {seed}: "
            f"acc {row['accuracy']:.4f} (plain {row['accuracy_plain']:.4f}) auc {row['auc']:.5f} "
            f"mdr {row['mdr_at_fpr_0.01']:.4f} {row['mdr_at_fpr_0.05']:.4f}  loss {row['loss']:.3f}"
            f"  {seconds:.1f} s, planes {making:.1f} s",
            flush=True,
        )
        if time.monotonic() - written > 60:
            _write(out, work, rows, offset_rows, kept)
            written = time.monotonic()
    _write(out, work, rows, offset_rows, kept)
    with contextlib.suppress(ValueError):
        print(table(pd.DataFrame(rows)))


def _offsets(
    row: dict[str, Any],
    network: StampNetwork,
    variant: Variant,
    raw: Raw,
    labels: Tensor,
    begin: np.ndarray,
    most: int = 5000,
) -> list[dict[str, Any]]:
    """Metrics on test candidates that were cut beside the middle of their stamps."""
    first, stop = int(begin[1]), min(int(begin[2]), int(begin[1]) + most)
    chosen = torch.arange(first, stop, device=labels.device)
    truth = labels[chosen].cpu().numpy()
    found = []
    for radius in OFFSETS:
        offsets = random_offsets(len(chosen), (radius, radius), 5, labels.device)
        data = Planes(network, variant, raw, chosen, offsets)
        averaged, _ = score(network, data, slice(0, len(chosen)))
        known = {k: row[k] for k in ("variant", "n_train", "seed")}
        found.append(known | {"offset_px": radius, "n": len(chosen)} | metrics(truth, averaged))
    return found


def _kinds(row: dict[str, Any], kept: pd.DataFrame, logit: np.ndarray) -> list[dict[str, Any]]:
    """Share of each kind of source that is called real, on the survey with all kinds."""
    known = {k: row[k] for k in ("variant", "n_train", "seed")}
    table = kept.assign(real=logit > 0)[kept["subset"] == "kinds"]
    return [
        known
        | {"kind": kind, "label": int(label), "n": len(some), "called_real": some["real"].mean()}
        for (kind, label), some in table.groupby(["kind", "label"])
    ]


def _write(
    out: Path,
    work: Path,
    rows: list[dict[str, Any]],
    offset_rows: list[dict[str, Any]],
    kept: pd.DataFrame,
    most: float = 15.5e6,
) -> None:
    pd.DataFrame(rows).to_csv(out / "results.csv", index=False)
    pd.DataFrame(offset_rows).to_csv(out / "offsets.csv", index=False)
    scores: dict[str, np.ndarray] = {}
    weights: dict[str, Any] = {}
    taken = 0
    kinds: list[dict[str, Any]] = []
    for row in rows:
        label = f"{row['variant']}-{row['n_train']}-{row['seed']}"
        with np.load(work / f"{label}.npz") as file:
            scores |= {label: file["averaged"], f"{label}-plain": file["plain"]}
        if VARIANTS[row["variant"]].size == CUT:
            kinds += _kinds(row, kept, scores[label])
    pd.DataFrame(kinds).to_csv(out / "kinds.csv", index=False)
    # Of the largest trainings, as many as fit into a file that is easily carried.
    first = {name: place for place, name in enumerate(VARIANTS)}
    rows = sorted(rows, key=lambda r: (-r["n_train"], r["seed"], first[r["variant"]]))
    for row in rows:
        label = f"{row['variant']}-{row['n_train']}-{row['seed']}"
        file = work / f"{label}.pt"
        taken += file.stat().st_size
        if taken > most:
            break
        variant = VARIANTS[row["variant"]]
        weights[label] = {
            "channels": list(variant.channels), "side": list(variant.side),
            "network": variant.network | {
                "matching": list(variant.matching), "conditions": variant.conditions
            },
            "state": torch.load(file, weights_only=True),
        }  # fmt: skip
    # Two files, because not all ways of fetching them take large ones.
    names = list(scores)
    for part, chosen in enumerate((names[::2], names[1::2])):
        np.savez_compressed(out / f"scores{part}.npz", **{name: scores[name] for name in chosen})
    torch.save(weights, out / "weights.pt")


if __name__ == "__main__":
    main()
