"""Make the networks of the package from what benchmarks/nodia_gpu.py wrote.

    python benchmarks/nodia_gpu.py OUT && python benchmarks/nodia_weights.py OUT

Of the largest trainings, those with the best accuracy on the validation candidates: with the
difference image, without it, and without it and without anything but stamps. A temperature,
fitted to the same validation candidates, goes into each file.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from rb.evaluation.repeats import from_folder
from rb.models.checkpoint import load_checkpoint
from rb.models.classifier import PACKAGE_FORMAT
from rb.models.contract import Provenance, TrainingSet
from rb.models.pretrained import published_file
from rb.stamps.inputs import InputSpec
from rb.uncertainty.calibration import fit_temperature

CODE = "0a70410"
"""The commit that trained them."""
SEED, PSF_SIZE = 2203, 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, help="folder with results.csv, weights.pt and scores")
    parser.add_argument("--to", type=Path, help="folder to write to; by default the package")
    parser.add_argument("--code", default=CODE, help="commit that trained them")
    options = parser.parse_args()
    table = pd.read_csv(options.out / "results.csv")
    table["label"] = [f"{r.variant}-{r.n_train}-{r.seed}" for r in table.itertuples()]
    weights = torch.load(options.out / "weights.pt", weights_only=True)
    validation = from_folder(options.out).validation
    assert validation is not None
    table["row"] = np.arange(len(table))
    largest = table[table["label"].isin(weights) & (table["n_train"] == table["n_train"].max())]
    with_diff = np.array(["diff" in weights[label]["channels"] for label in largest["label"]])
    with_side = np.array([bool(weights[label]["side"]) for label in largest["label"]])
    labels = validation.candidates["label"].to_numpy()
    for name, among in (
        ("dia", with_diff),
        ("nodia", ~with_diff),
        ("nodia_stamps", ~with_diff & ~with_side),
    ):
        chosen = largest[among].sort_values("accuracy_val", ascending=False).iloc[0]
        temperature = fit_temperature(labels, validation.p_real[chosen["row"]])
        file = published_file(name)
        assert file is not None
        target = file if options.to is None else options.to / file.name
        package = _package(name, weights[chosen["label"]], int(chosen["n_train"]), options.code)
        package["temperature"] = temperature
        state = {f"network.{k}": v for k, v in weights[chosen["label"]]["state"].items()}
        torch.save({"rb": package, "state_dict": state}, target)
        load_checkpoint(target)
        print(f"{name}: {chosen['label']}, temperature {temperature:.4f}, {target}")


def _package(name: str, found: dict[str, Any], n_train: int, code: str) -> dict[str, Any]:
    inputs = InputSpec(
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
        "tta": True,
        **found["network"],
    }
    training = TrainingSet(f"simulated survey of seed {SEED}", "simulated", "", "", "", n_train)
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
