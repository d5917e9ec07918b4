"""One kind of classifier trained several times: how good, and how sure that is.

The interval of a mean over trainings holds both what another test set and what other trainings
would have changed: its variance is that of the mean under resampled candidates (whole groups, as
candidates of an exposure are alike) plus the scatter of the trainings over their number, and its
quantile is Student's with the degrees of freedom of Welch and Satterthwaite (Satterthwaite 1946,
Biometrics Bull. 2, 110).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rb.metrics.classification import REAL, UNKNOWN
from rb.metrics.intervals import UNDEFINED, Estimate

RATES = (0.01, 0.05)
PURITY = 0.95
MEASURES = ("accuracy", "auc", *(f"mdr_at_fpr_{rate}" for rate in RATES), "completeness")
"""`completeness` is that of the largest sample of a purity of 95 %."""
CALLED = ("accuracy", "completeness", "purity", "fpr")
"""What `measure_calls` measures."""

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
    spread : ndarray of shape (members, measures), optional
        Where `values` come from several trainings together: values that scatter as they would.
    """

    values: np.ndarray
    draws: np.ndarray
    n_groups: int
    spread: np.ndarray | None = None


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
    member, weights = _resampled(groups[keep], draws, seed)
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
    return Trainings(table[:, 0], table[:, 1:], weights.shape[1])


def measure_together(
    labels: np.ndarray, p_real: np.ndarray, groups: np.ndarray, draws: int = 400, seed: int = 0
) -> Trainings:
    """Measure the mean of the scores of several trainings.

    How it would scatter with other trainings is estimated by leaving each of them out: the
    jackknife's pseudo-values (Tukey 1958, Ann. Math. Stat. 29, 614).

    Parameters
    ----------
    labels, p_real, groups, draws, seed
        As for `measure`.
    """
    whole = measure(labels, p_real.mean(0, keepdims=True), groups, draws=draws, seed=seed)
    n = len(p_real)
    if n < 2:
        return whole
    rest = np.stack([np.delete(p_real, i, 0).mean(0) for i in range(n)])
    without = measure(labels, rest, groups, draws=1, seed=seed).values
    return replace(whole, spread=n * whole.values - (n - 1) * without)


def measure_calls(
    labels: np.ndarray, called: np.ndarray, groups: np.ndarray, draws: int = 400, seed: int = 0
) -> Trainings:
    """Measure what comes of calling some candidates real; columns are `CALLED`.

    Parameters
    ----------
    labels, groups, draws, seed
        As for `measure`.
    called : bool ndarray of shape (trainings, n)
        Whether each training calls a candidate real.
    """
    keep = labels != UNKNOWN
    real = labels[keep] == REAL
    member, weights = _resampled(groups[keep], draws, seed)

    def total(rows: np.ndarray) -> np.ndarray:
        return weights @ np.bincount(member[rows], minlength=weights.shape[1])

    n_real, n_bogus = total(real), total(~real)
    found = []
    with np.errstate(invalid="ignore", divide="ignore"):
        for one in called[:, keep]:
            true, false = total(one & real), total(one & ~real)
            right = (true + n_bogus - false) / (n_real + n_bogus)
            found.append(
                np.stack([right, true / n_real, true / (true + false), false / n_bogus], 1)
            )
    table = np.stack(found)
    return Trainings(table[:, 0], table[:, 1:], weights.shape[1])


def _resampled(groups: np.ndarray, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Group of each candidate, and how often each group counts: first once, then as drawn."""
    names, member = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), draws)
    return member, np.concatenate([np.ones((1, len(names))), counts])


def estimates(
    these: Trainings,
    against: Trainings | None = None,
    confidence: float = 0.95,
    names: tuple[str, ...] = MEASURES,
) -> dict[str, Estimate]:
    """Mean over trainings with its interval; with `against`, the mean difference to it.

    The candidates are the same, so differences are paired by candidate; trainings are not paired.
    `names` are those of the columns.
    """
    out = {}
    for i, name in enumerate(names):
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
    spread = one.values if one.spread is None else one.spread
    n = len(spread)
    variance = float(spread[:, i].var(ddof=1)) / n if n > 1 else 0.0
    return float(one.values[:, i].mean()), one.draws[:, :, i].mean(0), (variance, n - 1)


def _interval(value: float, parts: list[tuple[float, int]], confidence: float) -> Estimate:
    from scipy.stats import t

    variance = sum(part for part, _ in parts)
    if variance == 0:
        return Estimate(value, value, value)
    known = sum(part**2 / n for part, n in parts if n > 0)
    # Without any, as of a single training on a single exposure, the scatter is taken as it is.
    freedom = variance**2 / known if known > 0 else np.inf
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
