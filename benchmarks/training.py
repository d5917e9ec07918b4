"""Epochs through `train.py` against a bare PyTorch loop over the same tensors.

    python benchmarks/training.py
    python benchmarks/training.py --candidates 8000 --epochs 5 --repeats 3

Both train the same network on the same stamps with the same optimiser and validate after each
epoch; the bare loop neither logs, saves, nor shows anything. They take turns in one process, so
that a machine whose speed drifts slows both. Random stamps: the time does not depend on them.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from hydra import compose, initialize_config_dir
from rich.console import Console
from torch.nn import functional as F

from rb.config import project_root, register_resolvers, resolved
from rb.models.build import build_network, build_optimizer
from rb.stamps import StampSet, StampSetWriter
from rb.tracking import Tracking
from rb.training.job import input_spec, split_of, train


def random_set(path: Path, n: int) -> StampSet:
    rng = np.random.default_rng(0)
    with StampSetWriter(path, source="random", parameters={"n": n}) as writer:
        for start in range(0, n, 1000):
            ids = np.arange(start, min(start + 1000, n))
            stamps = rng.normal(size=(len(ids), 3, 51, 51)).astype(np.float32)
            writer.append(stamps, pd.DataFrame({"id": ids, "label": ids % 2}))
    return StampSet.open(path)


def bare_loop(config: dict[str, Any], stamp_set: StampSet) -> float:
    """Seconds that the epochs take without any framework."""
    inputs, split = input_spec(config), split_of(stamp_set, config)
    data = {}
    for subset in ("train", "val"):
        rows = split[subset]
        labels = torch.from_numpy(stamp_set.labels[rows].astype(np.int64))
        data[subset] = inputs.prepare(stamp_set.stamps[rows]), labels
    network = build_network(config["model"]["network"], inputs)
    optimizer = build_optimizer(config["trainer"]["optimizer"], None, network.parameters())
    size = config["trainer"]["batch_size"]
    started = time.perf_counter()
    for _ in range(config["trainer"]["max_epochs"]):
        network.train()
        x, labels = data["train"]
        for rows in torch.randperm(len(x)).split(size):
            loss = F.cross_entropy(network(x[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        network.eval()
        x, labels = data["val"]
        with torch.no_grad():
            for rows in torch.arange(len(x)).split(max(size, 500)):
                F.cross_entropy(network(x[rows]), labels[rows])
    return time.perf_counter() - started


def through_train(config: dict[str, Any]) -> float:
    """Seconds that `train.py` records for the same epochs, save points included."""
    with open(os.devnull, "w") as nowhere:
        train(config, console=Console(file=nowhere))
    tracking = Tracking(None, config["paths"]["runs"], config["tracking"]["experiment"])
    return tracking.runs("training")[0].data.metrics["cost/train_wall_s"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    register_resolvers()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder:
        stamp_set = random_set(Path(folder) / "set", arguments.candidates)
        for model in ("dia", "nodia"):
            with initialize_config_dir(str(project_root() / "conf"), version_base="1.3"):
                overrides = [
                    f"model={model}", "data=stamps", f"data.path={stamp_set.path}",
                    f"trainer.max_epochs={arguments.epochs}", f"paths.root={folder}",
                    "trainer.accelerator=cpu",
                ]  # fmt: skip
                config = resolved(compose("train", overrides))
            through_train(config | {"name": "warm-up"})
            bare_loop(config, stamp_set)
            pairs = [
                (through_train(config), bare_loop(config, stamp_set))
                for _ in range(arguments.repeats)
            ]
            ours, bare = (np.array(p) / arguments.epochs for p in zip(*pairs, strict=True))
            ratios = ours / bare
            print(
                f"{model}: train.py {np.median(ours):.3f} s an epoch, bare loop "
                f"{np.median(bare):.3f} s; ratio median {np.median(ratios):.3f} "
                f"({ratios.min():.3f} to {ratios.max():.3f}, {arguments.repeats} pairs)"
            )


if __name__ == "__main__":
    main()
