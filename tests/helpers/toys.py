"""Small stamps and stamp sets that the tests share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from rb.stamps import StampSet, StampSetWriter
from rb.stamps.batch import Stamps
from rb.stamps.layout import SIDE_COLUMNS

REPOSITORY = Path(__file__).resolve().parents[2]

# Settings of `train.py` that make a run take seconds.
TINY = (
    "trainer=quick",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
    "model.network.convolutions=[{filters: 2, kernel: 5, pool: 4}]",
    "model.network.dense=[4]",
)


def toy_stamps(n: int, seed: int = 0, size: int = 51) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3, size, size) stamps that a network can tell apart, and their labels.

    Real ones have a round source in the difference; bogus ones a dipole.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] - float(size // 2)
    labels = np.arange(n) % 2
    host = 400 * np.exp(-(x**2 + y**2) / (2 * 3.0**2))
    stamps = rng.normal(0, 10, (n, 3, size, size)).astype(np.float32)
    stamps[:, 1:] += host + 100
    width = rng.uniform(1.6, 2.2, n)
    for i, label in enumerate(labels):
        dx, dy = rng.normal(0, 0.3, 2)
        blob = np.exp(-((x - dx) ** 2 + (y - dy) ** 2) / (2 * width[i] ** 2))
        source = 150 * (blob if label == 0 else np.roll(blob, 2, 1) - np.roll(blob, -2, 1))
        stamps[i, 0] += source
        stamps[i, 1] += source
    return stamps, labels


def all_beside(stamps: np.ndarray, seed: int = 0, psf_size: int = 9) -> Stamps:
    """These stamps with variances, PSFs and every column of side information."""
    rng = np.random.default_rng(seed)
    n = len(stamps)
    variance = rng.uniform(90, 110, stamps.shape).astype(np.float32)
    variance[0, 1, 2, 3] = np.nan
    psf = rng.uniform(0, 1, (n, 2, psf_size, psf_size)).astype(np.float32)
    side = {name: rng.normal(5, 1, n) for name in SIDE_COLUMNS}
    return Stamps(stamps, variance, psf / psf.sum((2, 3), keepdims=True), side)


def write_set(
    path: Path,
    n: int = 120,
    seed: int = 0,
    channels: tuple[str, ...] | None = None,
    absent: Mapping[int, int] | None = None,
    size: int = 51,
    beside: bool = False,
) -> StampSet:
    """A small stamp set at `path`, written as any source does; `absent`: channel by row.

    With `beside` it has everything that a set can have beside its stamps.
    """
    stamps, labels = toy_stamps(n, seed, size)
    for row, channel in (absent or {}).items():
        stamps[row, channel] = np.nan
    channels = channels or ("diff", "srch", "tmpl")
    for i, channel in enumerate(("diff", "srch", "tmpl")):
        if channel not in channels:
            stamps[:, i] = np.nan
    rows = pd.DataFrame(
        {
            "id": np.arange(n) + 1000,
            "label": labels,
            "group": [f"field{k // 10}" for k in range(n)],
            "mag": np.linspace(20, 24, n),
            "snr": np.linspace(40, 5, n),
        }
    )
    with StampSetWriter(
        path,
        source="toy",
        parameters={"n": n},
        survey="toy survey",
        pixel_scale=0.263,
        channels=channels,
    ) as writer:
        writer.append(all_beside(stamps, seed) if beside else stamps, rows)
    return StampSet.open(path)
