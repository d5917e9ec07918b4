"""One kind of classifier trained several times: how good, and how sure that is.

The interval of a mean over trainings holds both what another test set and what other trainings
would have changed: its variance is that of the mean under resampled candidates (whole groups, as
candidates of an exposure are alike) plus the scatter of the trainings over their number, and its
quantile is Student's with the degrees of freedom of Welch and Satterthwaite (Satterthwaite 1946,
Biometrics Bull. 2, 110).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rb.metrics.classification import REAL, UNKNOWN
from rb.metrics.intervals import UNDEFINED, Estimate

RATES = (0.01, 0.05)
PURITY = 0.95
MEASURES = ("accuracy", "auc", *(f"mdr_at_fpr_{rate}" for rate in RATES), "completeness")
"""`completeness` is that of the largest sample of a purity of 95 %."""

_CHUNK = 50  # resampled sets that are computed at once


@dataclass(frozen=True)
class Trainings:
    """What several trainings of one kind reached on one test set.

    Parameters
    ----------
    values : ndarray of shape (trainings, measures)
        On the test set itself.
    draws : ndarray of shape (trainings, draws, measures)
        On resampled test sets, which are the same ones for all that share groups and seed.
    n_groups : int
        Groups that were resampled.
    """

    values: np.ndarray
    draws: np.ndarray
    n_groups: int


def measure(
    labels: np.ndarray,
    p_real: np.ndarray,
    groups: np.ndarray,
    threshold: float = 0.5,
    draws: int = 400,
    seed: int = 0,
) -> Trainings:
    """Measure each training on a test set and on resampled ones.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        0 real, 1 bogus, -1 unknown (left out).
    p_real : ndarray of shape (trainings, n)
        Scores.
    groups : ndarray of shape (n,)
        Candidates of a group are drawn together.
    threshold : float
        A candidate is called real at or above it.
    draws : int
        Resampled test sets.
    seed : int
        Of the resampling.
    """
    keep = labels != UNKNOWN
    real = labels[keep] == REAL
    names, member = np.unique(groups[keep], return_inverse=True)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), draws)
    weights = np.concatenate([np.ones((1, len(names))), counts])
    found = []
    for scores in p_real[:, keep]:
        order = np.argsort(-scores, kind="stable")
        called = int((scores >= threshold).sum())
        parts = [
            _measures(real[order], part[:, member[order]], called)
            for part in np.array_split(weights, -(-len(weights) // _CHUNK))
        ]
        found.append(np.concatenate(parts))
    table = np.stack(found)
    return Trainings(table[:, 0], table[:, 1:], len(names))


def estimates(
    these: Trainings, against: Trainings | None = None, confidence: float = 0.95
) -> dict[str, Estimate]:
    """Mean over trainings with its interval; with `against`, the mean difference to it.

    The candidates are the same, so differences are paired by candidate; trainings are not paired.
    """
    out = {}
    for i, name in enumerate(MEASURES):
        value, of_draws, scatter = _mean(these, i)
        if np.isnan(value):
            out[name] = UNDEFINED
            continue
        parts = [scatter]
        if against is not None:
            other, other_draws, other_scatter = _mean(against, i)
            value, of_draws = value - other, of_draws - other_draws
            parts.append(other_scatter)
        parts.append((float(np.nanvar(of_draws, ddof=1)), these.n_groups - 1))
        out[name] = _interval(value, parts, confidence)
    return out


def _mean(one: Trainings, i: int) -> tuple[float, np.ndarray, tuple[float, int]]:
    """Mean of a measure, of it under resampling, and the mean's variance by training."""
    n = len(one.values)
    variance = float(one.values[:, i].var(ddof=1)) / n if n > 1 else 0.0
    return float(one.values[:, i].mean()), one.draws[:, :, i].mean(0), (variance, n - 1)


def _interval(value: float, parts: list[tuple[float, int]], confidence: float) -> Estimate:
    from scipy.stats import t

    variance = sum(part for part, _ in parts)
    if variance == 0:
        return Estimate(value, value, value)
    freedom = variance**2 / sum(part**2 / n for part, n in parts if n > 0 and part > 0)
    half = float(t.ppf(0.5 + confidence / 2, freedom)) * variance**0.5
    return Estimate(value, value - half, value + half)


def _measures(real: np.ndarray, weights: np.ndarray, called: int) -> np.ndarray:
    """Measures (draws, m) of candidates sorted by falling score; `called` come out as real."""
    of_real, of_bogus = weights * real, weights * ~real
    true, false = of_real.cumsum(1), of_bogus.cumsum(1)
    n_real, n_bogus = true[:, -1], false[:, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        right = (true[:, called - 1] if called else 0.0) + n_bogus
        right = right - (false[:, called - 1] if called else 0.0)
        columns = [right / (n_real + n_bogus)]
        columns.append((of_bogus * true).sum(1) / (n_real * n_bogus))
        for rate in RATES:
            # So many false ones are let through, and not one more.
            allowed = np.floor(rate * n_bogus + 1e-9)[:, None]
            through = np.where(false <= allowed, true, 0.0).max(1)
            columns.append(1 - through / n_real)
        pure = true >= PURITY * (true + false)
        columns.append(np.where(pure, true, 0.0).max(1) / n_real)
        columns = [np.where((n_real > 0) & (n_bogus > 0), c, np.nan) for c in columns]
    return np.stack(columns, 1)
