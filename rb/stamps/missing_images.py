"""Candidates that lack an image that a model looks at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rb.stamps.layout import CHANNELS
from rb.stamps.stampset import StampSet

_READ = 2048  # stamps at a time


def lacks_an_image(stamps: np.ndarray, channels: Sequence[str]) -> np.ndarray:
    """Which of `stamps` (n, 3, S, S) have no finite pixel in one of `channels`: (n,) bool."""
    seen = stamps[:, [CHANNELS.index(c) for c in channels if c in CHANNELS]]
    return ~np.isfinite(seen).any((2, 3)).all(1)


def rows_that_lack(stamp_set: StampSet, rows: np.ndarray, channels: Sequence[str]) -> np.ndarray:
    """Which of `rows` of a stamp set lack one of `channels`: bool, as long as `rows`.

    A network takes such an image for an empty one; its score says nothing about the missing
    pixels. Stamps are read only if the set has NaN pixels.
    """
    found = np.zeros(len(rows), dtype=bool)
    if stamp_set.meta["n_nan_stamps"] and stamp_set.channels:
        for start in range(0, len(rows), _READ):
            part = slice(start, start + _READ)
            found[part] = lacks_an_image(np.asarray(stamp_set.stamps[rows[part]]), channels)
    return found
