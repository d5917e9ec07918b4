"""Which brightness becomes which colour: display limits of stamps.

Search and template are shown between zscale limits, the difference symmetrically about zero.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from rb.stamps.layout import MASKED


def unmasked(stamp: np.ndarray) -> np.ndarray:
    """`stamp` as float64, its masked pixels NaN."""
    single = np.asarray(stamp, dtype=np.float32)
    return np.where(single == np.float32(MASKED), np.nan, single.astype(np.float64))


def sky(image: np.ndarray) -> tuple[float, float]:
    """Median and noise, the latter from the median absolute deviation; 0, 0 without pixels."""
    finite = image[np.isfinite(image)]
    if finite.size == 0:
        return 0.0, 0.0
    level = float(np.median(finite))
    return level, 1.4826 * float(np.median(np.abs(finite - level)))


def same_sky(images: Sequence[np.ndarray]) -> bool:
    """Whether the sky levels lie no farther apart than twenty times the noise.

    They do in images whose zero point is lost; those cannot share a colour range.
    """
    skies = [sky(image) for image in images if np.isfinite(image).any()]
    levels = [level for level, _ in skies]
    noise = max((noise for _, noise in skies), default=0.0)
    return len(skies) < 2 or max(levels) - min(levels) <= 20 * noise


def grey_limits(images: np.ndarray) -> tuple[float, float]:
    """Zscale limits, the upper one widened to the brightest half percent of the pixels."""
    from astropy.visualization import ZScaleInterval

    finite = images[np.isfinite(images)]
    if finite.size == 0:
        return 0.0, 1.0
    with warnings.catch_warnings():
        # A constant image makes zscale's line fit complain; the limits are repaired below.
        warnings.simplefilter("ignore")
        low, high = ZScaleInterval(contrast=0.25).get_limits(finite)
    high = max(float(high), float(np.quantile(finite, 0.995)))
    low = float(low)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def diff_limits(image: np.ndarray) -> tuple[float, float]:
    """Limits of a difference image, symmetric about zero, wide enough that noise stays pale.

    About the median instead where it lies farther from zero than three times the noise.
    """
    finite = image[np.isfinite(image)]
    level, noise = sky(image)
    zero = level if abs(level) > 3 * noise else 0.0
    # At least six times the noise, so that noise stays pale.
    distance = np.abs(finite - zero)
    reach = max(float(np.quantile(distance, 0.995)), 6 * noise) if finite.size else 0.0
    if reach == 0:
        reach = 1.0
    return zero - reach, zero + reach
