"""A number with its interval, and the interval formulas that the metrics use."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A measured value and its confidence interval; NaN where it is not defined.

    Parameters
    ----------
    value
        The measured value.
    low, high
        Limits of the interval, ``low <= value <= high``.
    """

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the width of the interval, the number behind "±"."""
        return (self.high - self.low) / 2

    @property
    def defined(self) -> bool:
        """Whether there is a value at all."""
        return not math.isnan(self.value)


UNDEFINED = Estimate(math.nan, math.nan, math.nan)


def normal_quantile(confidence: float) -> float:
    """Two-sided quantile of the normal distribution, 1.96 for a confidence of 0.95.

    Raises
    ------
    ValueError
        If `confidence` is not between 0 and 1.
    """
    from scipy.special import ndtri

    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    return float(ndtri(0.5 + confidence / 2))


def proportion(successes: int, total: int, confidence: float = 0.95) -> Estimate:
    """Share of successes with its Wilson score interval (Wilson 1927, JASA 22, 209).

    The interval stays inside [0, 1] and keeps its coverage for shares near 0 and 1, which
    is where classifiers live. `UNDEFINED` if `total` is 0.
    """
    if total == 0:
        return UNDEFINED
    low, high = wilson(np.array([successes]), np.array([total]), confidence)
    value = successes / total
    # Rounding can leave a limit that should be exactly 0 or 1 a hair inside the value.
    return Estimate(value, min(float(low[0]), value), max(float(high[0]), value))


def wilson(
    successes: np.ndarray, total: np.ndarray, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Wilson limits of many proportions at once; NaN where `total` is 0.

    Parameters
    ----------
    successes, total
        Counts, arrays of one shape.
    """
    from statsmodels.stats.proportion import proportion_confint

    empty = total == 0
    low, high = proportion_confint(
        np.where(empty, 0, successes), np.where(empty, 1, total), 1 - confidence, method="wilson"
    )
    # Rounding may leave a limit of 1 a hair above it.
    low, high = np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)
    return np.where(empty, np.nan, low), np.where(empty, np.nan, high)


def mean_of_two(first: Estimate, second: Estimate) -> Estimate:
    """Mean of two independent estimates (MOVER; Zou & Donner 2008, Stat. Med. 27, 1693).

    The variances are recovered from the limits, so the asymmetry of the two intervals
    carries over. `UNDEFINED` if either is.
    """
    if not (first.defined and second.defined):
        return UNDEFINED
    value = (first.value + second.value) / 2
    below = math.hypot(first.value - first.low, second.value - second.low) / 2
    above = math.hypot(first.high - first.value, second.high - second.value) / 2
    return Estimate(value, value - below, value + above)


def mean(values: np.ndarray, confidence: float = 0.95) -> Estimate:
    """Mean of `values` (n,) with the interval of the central limit theorem.

    `UNDEFINED` without values; with one value the limits are the value itself.
    """
    if values.size == 0:
        return UNDEFINED
    centre = float(values.mean())
    error = float(values.std(ddof=1)) / math.sqrt(values.size) if values.size > 1 else 0.0
    half = normal_quantile(confidence) * error
    return Estimate(centre, centre - half, centre + half)


def percentile(value: float, draws: np.ndarray, confidence: float = 0.95) -> Estimate:
    """Percentile bootstrap: the central `confidence` of the resampled values `draws`."""
    low, high = np.quantile(draws, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Estimate(value, min(float(low), value), max(float(high), value))
