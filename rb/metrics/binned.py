"""Rates in bins: completeness and purity against magnitude or SNR, and calibration."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from rb.metrics.classification import UNKNOWN, known
from rb.metrics.intervals import wilson

if TYPE_CHECKING:
    import pandas as pd


def binned_rates(
    values: np.ndarray,
    labels: np.ndarray,
    p_real: np.ndarray,
    edges: np.ndarray,
    threshold: float = 0.5,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Completeness (TPR), false-positive rate and purity in bins of a property.

    Parameters
    ----------
    values
        The property (n,), such as magnitude or SNR; stamps where it is NaN or outside the
        edges are left out.
    labels, p_real, threshold
        As for `rb.metrics.classification.evaluate_scores`.
    edges
        Increasing bin edges (k + 1,); a bin holds ``edges[i] <= value < edges[i + 1]``, the
        last one its upper edge too.

    Returns
    -------
    pandas.DataFrame
        k rows: ``low``, ``high``, ``centre`` (median of the values in the bin, its middle
        if it is empty), ``n_real``, ``n_bogus``, and ``tpr``, ``fpr``, ``purity`` with
        Wilson limits ``_low`` and ``_high``; NaN where a bin has nothing to divide by.
    """
    import pandas as pd

    edges = np.asarray(edges, dtype=float)
    if edges.ndim != 1 or edges.size < 2 or not (np.diff(edges) > 0).all():
        raise ValueError(f"bin edges must increase: {edges}")
    is_real, scores = known(labels, p_real)
    values = np.asarray(values, dtype=float)[np.asarray(labels) != UNKNOWN]
    inside = (values >= edges[0]) & (values <= edges[-1])
    values, is_real, called = values[inside], is_real[inside], scores[inside] >= threshold
    n_bins = edges.size - 1
    bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, n_bins - 1)

    def count(mask: np.ndarray) -> np.ndarray:
        return np.bincount(bins[mask], minlength=n_bins)

    n_real, n_bogus = count(is_real), count(~is_real)
    tp, fp = count(called & is_real), count(called & ~is_real)
    frame = pd.DataFrame({"low": edges[:-1], "high": edges[1:]})
    middle = (edges[:-1] + edges[1:]) / 2
    medians = pd.Series(values).groupby(bins).median().reindex(range(n_bins))
    frame["centre"] = np.where(medians.isna(), middle, medians)
    frame["n_real"], frame["n_bogus"] = n_real, n_bogus
    for name, share, total in (("tpr", tp, n_real), ("fpr", fp, n_bogus), ("purity", tp, tp + fp)):
        frame[name] = np.where(total > 0, share / np.maximum(total, 1), np.nan)
        frame[f"{name}_low"], frame[f"{name}_high"] = wilson(share, total, confidence)
    return frame


def rates_by_property(
    properties: Mapping[str, np.ndarray],
    labels: np.ndarray,
    scores: Mapping[str, np.ndarray],
    thresholds: Mapping[str, float],
    logarithmic: Collection[str] = (),
    n_bins: int = 10,
) -> dict[str, dict[str, pd.DataFrame]]:
    """`binned_rates` of several runs in bins of several properties.

    Parameters
    ----------
    properties : mapping of str to ndarray, (n,)
        Values by name; NaN is left out.
    labels : ndarray of int, (n,)
        0 real, 1 bogus, -1 unknown.
    scores : mapping of str to ndarray, (n,)
        By run: p_real of the same stamps.
    thresholds : mapping of str to float
        By run.
    logarithmic : collection of str
        Properties whose bins are of equal width in the logarithm.
    n_bins : int
        Bins between the 1 % and 99 % quantiles of the labelled stamps.

    Returns
    -------
    dict
        By property and run; a property without a value for a labelled stamp has no runs.
    """
    found: dict[str, dict[str, pd.DataFrame]] = {}
    for name, values in properties.items():
        log = name in logarithmic
        values = np.asarray(values, dtype=float)
        usable = (labels != UNKNOWN) & np.isfinite(values) & ((values > 0) | (not log))
        edges = bin_edges(values[usable], n_bins, log) if usable.any() else None
        found[name] = {
            run: binned_rates(values, labels, p_real, edges, thresholds[run])
            for run, p_real in scores.items()
            if edges is not None
        }
    return found


def bin_edges(values: np.ndarray, n_bins: int = 10, log: bool = False) -> np.ndarray:
    """Edges of `n_bins` equal bins between the 1 % and 99 % quantiles of the finite values.

    Parameters
    ----------
    log
        Bins of equal width in the logarithm, for SNR; values <= 0 are then left out.

    Returns
    -------
    numpy.ndarray
        Increasing edges (n_bins + 1,), or fewer if the values do not spread.

    Raises
    ------
    ValueError
        If no value can be used.
    """
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values) & ((values > 0) | (not log))]
    if values.size == 0:
        raise ValueError("no finite values to make bins of")
    low, high = np.quantile(values, [0.01, 0.99])
    if low == high:
        return np.array([low - 0.5, high + 0.5]) if not log else np.array([low / 2, 2 * high])
    return np.geomspace(low, high, n_bins + 1) if log else np.linspace(low, high, n_bins + 1)


def calibration_bins(
    labels: np.ndarray, p_real: np.ndarray, n_bins: int = 15, confidence: float = 0.95
) -> pd.DataFrame:
    """Share of real stamps in equal bins of p_real, for a reliability diagram.

    Returns
    -------
    pandas.DataFrame
        `n_bins` rows: ``low``, ``high``, ``n``, ``mean_p``, ``real`` with Wilson limits
        ``real_low`` and ``real_high``; NaN in empty bins.
    """
    import pandas as pd

    is_real, scores = known(labels, p_real)
    bins = np.minimum((scores * n_bins).astype(np.int64), n_bins - 1)
    n = np.bincount(bins, minlength=n_bins)
    real = np.bincount(bins[is_real], minlength=n_bins)
    edges = np.linspace(0, 1, n_bins + 1)
    frame = pd.DataFrame({"low": edges[:-1], "high": edges[1:], "n": n})
    share = np.maximum(n, 1)
    frame["mean_p"] = np.where(n > 0, np.bincount(bins, scores, n_bins) / share, np.nan)
    frame["real"] = np.where(n > 0, real / share, np.nan)
    frame["real_low"], frame["real_high"] = wilson(real, n, confidence)
    return frame
