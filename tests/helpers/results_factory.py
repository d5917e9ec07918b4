"""Scores of realistic size and difficulty, without a network."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pandas as pd

from rb.evaluation.results import RunResult


def scores(n: int, separation: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and p_real of a classifier whose logits lie `separation` from 0 (n,)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    logits = np.where(labels == 0, separation, -separation) + rng.normal(0, 1.6, n)
    return labels, 1 / (1 + np.exp(-logits))


def run_result(
    name: str = "dia",
    inputs: str = "dia",
    n: int = 2000,
    separation: float = 3.0,
    seed: int = 0,
    **changes: Any,
) -> RunResult:
    """A result with history and costs; results of equal `n` and `seed` share their stamps."""
    labels, p_real = scores(n, separation, seed)
    epochs = np.arange(1, 31)
    history = pd.DataFrame(
        {
            "epoch": epochs,
            "train/loss": 0.5 / epochs + 0.1,
            "train/acc": 0.96 - 0.2 / epochs,
            "val/loss": 0.5 / epochs + 0.12,
            "val/acc": 0.95 - 0.2 / epochs,
        }
    )
    settings: dict[str, Any] = {
        "name": name,
        "run_id": hashlib.md5(f"{name}/{inputs}".encode()).hexdigest(),
        "inputs": inputs,
        "model": inputs,
        "data_name": "simulated",
        "data_digest": "sha256:1234",
        "subset": "test",
        "ids": np.arange(n) + 5000,
        "labels": labels,
        "p_real": p_real,
        "history": history,
        "cost": {
            "train_cpu_hours": 0.5,
            "train_wall_s": 900.0,
            "epochs": 30,
            "n_train": 7000,
            "ms_per_stamp": 0.3,
            "ms_per_stamp_mad": 0.01,
            "parameters": 45908,
        },
        "settings": {"seed": seed, "model": {"name": inputs}},
    }
    return RunResult(**(settings | changes))
