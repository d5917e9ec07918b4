"""Make networks of the package from what benchmarks/nodia_gpu.py wrote.

    python benchmarks/nodia_gpu.py OUT && python benchmarks/nodia_weights.py OUT --code COMMIT

Those whose training is not in OUT stay as they are.

With the difference image and without it, those trained on all kinds of sources, as alerts
are of all of them; without anything but stamps, the best of those that there are. Among several the
accuracy on the validation candidates decides. They look once at a stamp: averaging over its eight
turns costs eight times as much. A temperature, fitted to the same validation candidates, goes into
each file.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from rb.models.checkpoint import load_checkpoint
from rb.models.classifier import PACKAGE_FORMAT
from rb.models.contract import Provenance, TrainingSet
from rb.models.pretrained import published_file
from rb.stamps.inputs import InputSpec
from rb.stamps.layout import STAMP_SIZE
from rb.uncertainty.calibration import fit_temperature

SEED, KINDS_SEED, N_KINDS, PSF_SIZE = 2203, 3581, 20_000, 25
WITH_KINDS = ("dia", "nodia")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, help="folder with results.csv, weights.pt and scores")
    parser.add_argument("--to", type=Path, help="folder to write to; by default the package")
    parser.add_argument("--code", required=True, help="commit that trained them")
    options = parser.parse_args()
    table = pd.read_csv(options.out / "results.csv")
    table["label"] = [f"{r.variant}-{r.n_train}-{r.seed}" for r in table.itertuples()]
    weights = torch.load(options.out / "weights.pt", weights_only=True)
    candidates = pd.read_parquet(options.out / "candidates.parquet")
    held = (candidates["subset"] == "val").to_numpy()
    labels = candidates["label"].to_numpy()[held]
    largest = table[table["label"].isin(weights) & (table["n_train"] == table["n_train"].max())]
    for name, variant in (
        ("dia", "dia_kinds"),
        ("nodia", "nodia_all_kinds"),
        ("nodia_stamps", "nodia"),
        ("dia_30px", "dia_30px"),
        ("nodia_30px", "nodia_matched_30px"),
    ):
        among = largest[largest["variant"] == variant]
        if among.empty:
            continue
        chosen = among.sort_values("accuracy_val", ascending=False).iloc[0]
        p_real = 1 / (1 + np.exp(-_logit(options.out, f"{chosen['label']}-plain")[held]))
        temperature = fit_temperature(labels, p_real)
        file = published_file(name)
        assert file is not None
        target = file if options.to is None else options.to / file.name
        package = _package(name, weights[chosen["label"]], int(chosen["n_train"]), options.code)
        package["temperature"] = temperature
        state = {f"network.{k}": v for k, v in weights[chosen["label"]]["state"].items()}
        torch.save({"rb": package, "state_dict": state}, target)
        load_checkpoint(target)
        print(f"{name}: {chosen['label']}, temperature {temperature:.4f}, {target}")


def _logit(folder: Path, name: str) -> np.ndarray:
    for file in sorted(folder.glob("scores*.npz")):
        with np.load(file, allow_pickle=False) as found:
            if name in found:
                return found[name].astype(np.float64)
    raise SystemExit(f"{folder}: no scores of {name}")


def _package(name: str, found: dict[str, Any], n_train: int, code: str) -> dict[str, Any]:
    inputs = InputSpec(
        size=30 if name.endswith("30px") else STAMP_SIZE,
        channels=found["channels"],
        stacking="depth",
        scaling=dict.fromkeys(found["channels"], "raw"),
        side=found["side"],
        psf_size=PSF_SIZE,
    )
    network = {
        "_target_": "rb.models.modern.network.StampNetwork",
        "channels": found["channels"],
        "side": found["side"],
        "tta": False,
        **found["network"],
    }
    survey = f"simulated survey of seed {SEED}"
    if name in WITH_KINDS:
        survey, n_train = f"{survey}, and of {KINDS_SEED} with all kinds", n_train + N_KINDS
    training = TrainingSet(survey, "simulated", "", "", "", n_train)
    provenance = Provenance(name, None, training, code_version=code, licence="BSD-3-Clause")
    return {
        "format": PACKAGE_FORMAT,
        "network": network,
        "inputs": inputs.to_dict(),
        "threshold": 0.5,
        "provenance": provenance.to_dict(),
    }


if __name__ == "__main__":
    main()
