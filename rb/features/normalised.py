"""The forms of a stamp that the autoscan features are defined on.

raw
    The stamp with masked pixels as NaN.
B
    (raw - median) / max(abs(raw)), 51x51.
R
    25x25 means of 2x2 pixels (last row and column dropped), then (x - median) / (1.4826 MAD).

Masked pixels are left out of every statistic.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from rb.stamps.layout import MASKED

Floats = NDArray[np.float64]

_MAD_TO_SIGMA = 1.4826


def unmask(stamps: np.ndarray) -> Floats:
    """Return the stamps in double precision, masked and non-finite pixels as NaN.

    Parameters
    ----------
    stamps
        Any shape. A pixel is masked where it holds 1e-30, to single precision, or is not finite.
    """
    raw = np.array(stamps, dtype=np.float64)
    raw[~np.isfinite(raw) | (np.abs(raw - MASKED) < 1e-6 * MASKED)] = np.nan
    return raw


def median(values: np.ndarray, axis: int | tuple[int, ...]) -> Floats:
    """Median without the NaN, NaN where nothing is left; much faster where there is no NaN."""
    if not np.isnan(values).any():
        return np.median(values, axis=axis)
    with silent():
        return np.nanmedian(values, axis=axis)


def normalised(raw: Floats) -> Floats:
    """Form B of the stamps.

    Parameters
    ----------
    raw
        (n, 51, 51), masked pixels NaN.

    Returns
    -------
    numpy.ndarray
        Same shape; zero for a stamp of zeros, NaN where masked.
    """
    flat = raw.reshape(len(raw), -1)
    with silent():
        peak = np.nanmax(np.abs(flat), axis=1)
    peak[peak == 0] = 1
    return (raw - median(flat, 1)[:, None, None]) / peak[:, None, None]


def rebinned(raw: Floats) -> Floats:
    """Form R of the stamps.

    Parameters
    ----------
    raw
        (n, 51, 51), masked pixels NaN.

    Returns
    -------
    numpy.ndarray
        (n, 25, 25). NaN where all four pixels are masked, and everywhere where the median
        absolute deviation vanishes: such a stamp has no noise to count in.
    """
    n, rows, columns = raw.shape
    blocks = raw[:, : rows // 2 * 2, : columns // 2 * 2]
    blocks = blocks.reshape(n, rows // 2, 2, columns // 2, 2)
    if np.isnan(blocks).any():
        with silent():
            means = np.nanmean(blocks, axis=(2, 4))
    else:
        means = blocks.mean(axis=(2, 4))
    flat = means.reshape(n, -1)
    flat = flat - median(flat, 1)[:, None]
    sigma = _MAD_TO_SIGMA * median(np.abs(flat), 1)
    sigma[sigma == 0] = np.nan
    return (flat / sigma[:, None]).reshape(means.shape)


@contextmanager
def silent() -> Iterator[None]:
    """No warnings about stamps without pixels: NaN is their documented answer."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        yield
