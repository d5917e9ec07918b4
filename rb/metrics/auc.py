"""Area under the ROC curve with DeLong's interval, alone and as a paired difference.

DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44, 837; computed from midranks in
O(n log n) after Sun & Xu 2014, IEEE Signal Processing Letters 21, 1389.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rb.metrics.intervals import UNDEFINED, Estimate, normal_quantile


@dataclass(frozen=True)
class _Components:
    """What each stamp contributes to the AUC.

    ``real[i]`` is the share of bogus stamps scored below real stamp i (ties count half),
    ``bogus[j]`` the share of real stamps scored above bogus stamp j.
    """

    real: np.ndarray
    bogus: np.ndarray

    @property
    def auc(self) -> float:
        return float(self.real.mean())


def auc(is_real: np.ndarray, p_real: np.ndarray, confidence: float = 0.95) -> Estimate:
    """Area under the ROC curve and DeLong's interval.

    The interval is built on the logit scale, so that it stays inside [0, 1]. Where DeLong's
    variance vanishes (the scores separate the classes perfectly, either way round) the open
    limit is the Clopper-Pearson limit for n successes of n, n the size of the smaller class:
    wide for few stamps instead of a width of zero. With a single stamp of a class there is
    no variance to estimate and the interval is [0, 1].

    Parameters
    ----------
    is_real
        Boolean (n,): True for real.
    p_real
        Scores (n,).

    Returns
    -------
    Estimate
        `UNDEFINED` if a class is missing.
    """
    if is_real.all() or not is_real.any():
        return UNDEFINED
    from scipy.special import expit, logit

    parts = _components(is_real, p_real)
    value = parts.auc
    smaller = min(parts.real.size, parts.bogus.size)
    if smaller < 2:
        return Estimate(value, 0.0, 1.0)
    if value in (0.0, 1.0):
        limit = ((1 - confidence) / 2) ** (1 / smaller)
        return Estimate(value, *((limit, 1.0) if value == 1 else (0.0, 1 - limit)))
    error = math.sqrt(_covariance(parts, parts)) / (value * (1 - value))
    half = normal_quantile(confidence) * error
    low, high = float(expit(logit(value) - half)), float(expit(logit(value) + half))
    return Estimate(value, min(low, value), max(high, value))


def auc_difference(
    is_real: np.ndarray, p_first: np.ndarray, p_second: np.ndarray, confidence: float = 0.95
) -> tuple[Estimate, float]:
    """Difference of two AUCs measured on the same stamps, first minus second.

    The two are correlated, because a stamp that is hard for one is often hard for the
    other; DeLong's covariance takes that into account.

    Parameters
    ----------
    is_real
        Boolean (n,): True for real.
    p_first, p_second
        Scores (n,) of the two classifiers for the same stamps.

    Returns
    -------
    difference
        With its interval; `UNDEFINED` if a class is missing.
    p_value
        Two-sided, for the hypothesis that the AUCs are equal; 1 where the variance
        vanishes and so does the difference, NaN where the difference is not defined.
    """
    if is_real.all() or not is_real.any():
        return UNDEFINED, math.nan
    first, second = _components(is_real, p_first), _components(is_real, p_second)
    value = first.auc - second.auc
    if min(first.real.size, first.bogus.size) < 2:
        return Estimate(value, -1.0, 1.0), 1.0
    variance = (
        _covariance(first, first) + _covariance(second, second) - 2 * _covariance(first, second)
    )
    # The three terms cancel to rounding error for two equal score lists.
    error = math.sqrt(max(variance, 0.0))
    half = normal_quantile(confidence) * error
    if error > 0:
        p_value = math.erfc(abs(value) / error / math.sqrt(2))
    else:
        p_value = 1.0 if value == 0 else 0.0
    return Estimate(value, value - half, value + half), p_value


def _components(is_real: np.ndarray, p_real: np.ndarray) -> _Components:
    from scipy.stats import rankdata

    real, bogus = p_real[is_real], p_real[~is_real]
    together = rankdata(np.concatenate([real, bogus]))
    below_real = together[: real.size] - rankdata(real)
    below_bogus = together[real.size :] - rankdata(bogus)
    return _Components(below_real / bogus.size, 1 - below_bogus / real.size)


def _covariance(first: _Components, second: _Components) -> float:
    def over(a: np.ndarray, b: np.ndarray) -> float:
        return float(((a - a.mean()) * (b - b.mean())).sum()) / (a.size - 1) / a.size

    return over(first.real, second.real) + over(first.bogus, second.bogus)
