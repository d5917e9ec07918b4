"""LACOSMIC: how a stamp's peak compares with its fine structure, for many stamps at once."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from rb.features.normalised import Floats, silent

# A sorting network's exchanges that leave the median of nine values in the fifth place.
_MEDIAN_OF_NINE = (
    *((1, 2), (4, 5), (7, 8), (0, 1), (3, 4), (6, 7), (1, 2), (4, 5), (7, 8), (0, 3)),
    *((5, 8), (4, 7), (3, 6), (1, 4), (2, 5), (4, 7), (4, 2), (6, 4), (4, 2)),
)
_FIRST_GUESSES = 6


def fine_structure_peak(stamps: Floats) -> Floats:
    """Largest value of M3 - M7(M3), M3 the 3x3 median of a stamp and M7 its 7x7 median.

    Stamps are continued beyond their edges by reflection, as SciPy's filters do by default.
    NaN pixels are left out of the medians.

    Parameters
    ----------
    stamps
        (n, height, width).

    Returns
    -------
    numpy.ndarray
        (n,); NaN where a stamp has no pixels.
    """
    if np.isnan(stamps).any():
        return _with_gaps(stamps)
    smooth = _median3(stamps)
    padded = np.pad(smooth, ((0, 0), (3, 3), (3, 3)), mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7), axis=(1, 2))
    n, width = len(stamps), stamps.shape[2]
    # A median is no less than the minimum, so M3 - M7 is at most M3 minus the 7x7 minimum. The
    # costly median is needed only where this bound exceeds what another pixel reaches already.
    lowest = ndimage.minimum_filter(smooth, size=(1, 7, 7), mode="reflect")
    bound = (smooth - lowest).reshape(n, -1)
    flat = smooth.reshape(n, -1)

    def reached(stamp: np.ndarray, pixel: np.ndarray) -> Floats:
        values = windows[stamp, pixel // width, pixel % width].reshape(-1, 49)
        return flat[stamp, pixel] - np.partition(values, 24, axis=1)[:, 24]

    guesses = np.argpartition(bound, -_FIRST_GUESSES, axis=1)[:, -_FIRST_GUESSES:]
    rows = np.repeat(np.arange(n), _FIRST_GUESSES)
    best = reached(rows, guesses.ravel()).reshape(n, -1).max(axis=1)
    stamp, pixel = np.nonzero(bound > best[:, None])
    np.maximum.at(best, stamp, reached(stamp, pixel))
    return best


def _median3(stamps: Floats) -> Floats:
    padded = np.pad(stamps, ((0, 0), (1, 1), (1, 1)), mode="symmetric")
    height, width = stamps.shape[1:]
    nine = [padded[:, i : i + height, j : j + width].copy() for i in range(3) for j in range(3)]
    spare = np.empty_like(nine[0])
    for low, high in _MEDIAN_OF_NINE:
        np.minimum(nine[low], nine[high], out=spare)
        np.maximum(nine[low], nine[high], out=nine[high])
        nine[low], spare = spare, nine[low]
    return nine[4]


def _with_gaps(stamps: Floats) -> Floats:
    smooth = _nan_median(stamps, 3)
    with silent():
        return np.nanmax(smooth - _nan_median(smooth, 7), axis=(1, 2))


def _nan_median(stamps: Floats, size: int) -> Floats:
    """Median of each window's pixels, masked ones left out; sorting puts NaN last."""
    margin = size // 2
    padded = np.pad(stamps, ((0, 0), (margin, margin), (margin, margin)), mode="symmetric")
    result = np.empty_like(stamps)
    for i, stamp in enumerate(padded):
        windows = np.lib.stride_tricks.sliding_window_view(stamp, (size, size))
        ordered = np.sort(windows.reshape(*stamps.shape[1:], -1), axis=2)
        valid = np.isfinite(ordered).sum(axis=2, keepdims=True)
        low = np.take_along_axis(ordered, np.maximum(valid - 1, 0) // 2, 2)
        high = np.take_along_axis(ordered, valid // 2, 2)
        result[i] = (0.5 * (low + high))[..., 0]
        result[i][valid[..., 0] == 0] = np.nan
    return result
