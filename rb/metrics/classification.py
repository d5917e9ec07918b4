"""How good a classifier is: rates at a threshold, ranking, probabilities, with intervals.

Conventions: label 0 = real, 1 = bogus, -1 = unknown (left out); positive = real; a stamp is
called real where ``p_real >= threshold``. Definitions and formulas: ``docs/metrics.md``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rb.errors import UserError
from rb.metrics import intervals
from rb.metrics.auc import auc
from rb.metrics.intervals import UNDEFINED, Estimate

REAL, BOGUS, UNKNOWN = 0, 1, -1
RATES = (0.01, 0.05, 0.1)
"""The fixed false-positive and missed-detection rates, those of Goldstein et al. 2015."""

_N_BOOTSTRAP = 2000
_SEED = 20220308
# Log loss of a float32 softmax is infinite once the exponential underflows; a probability
# is therefore held at least this far from 0 and 1.
_LOG_LOSS_MARGIN = 1e-7


@dataclass(frozen=True)
class ConfusionMatrix:
    """Counts of the four outcomes; positive = real.

    `array` is laid out as in the paper's Figure 5: rows are true labels (real, bogus),
    columns predictions (real, bogus).
    """

    tp: int
    fn: int
    fp: int
    tn: int

    @property
    def array(self) -> np.ndarray:
        """``[[TP, FN], [FP, TN]]``, int64."""
        return np.array([[self.tp, self.fn], [self.fp, self.tn]], dtype=np.int64)

    @property
    def n_real(self) -> int:
        """Number of real stamps."""
        return self.tp + self.fn

    @property
    def n_bogus(self) -> int:
        """Number of bogus stamps."""
        return self.fp + self.tn

    @property
    def n(self) -> int:
        """Number of stamps with a label."""
        return self.n_real + self.n_bogus

    def rates(self, confidence: float = 0.95) -> dict[str, Estimate]:
        """Accuracy, TPR, TNR, precision (purity) and balanced accuracy, with intervals.

        Proportions have Wilson intervals, the balanced accuracy MOVER limits from those of
        TPR and TNR. `UNDEFINED` where the denominator is 0.
        """
        tpr = intervals.proportion(self.tp, self.n_real, confidence)
        tnr = intervals.proportion(self.tn, self.n_bogus, confidence)
        return {
            "accuracy": intervals.proportion(self.tp + self.tn, self.n, confidence),
            "tpr": tpr,
            "tnr": tnr,
            "precision": intervals.proportion(self.tp, self.tp + self.fp, confidence),
            "balanced_accuracy": intervals.mean_of_two(tpr, tnr),
        }


@dataclass(frozen=True)
class Roc:
    """Points of a ROC curve from (0, 0) to (1, 1).

    Accepting every stamp with ``p_real >= threshold[i]`` gives ``fpr[i]`` and ``tpr[i]``;
    the first threshold is infinite. Point number `chosen` is where the classifier stands at
    `chosen_threshold`.
    """

    fpr: np.ndarray
    tpr: np.ndarray
    threshold: np.ndarray
    chosen: int
    chosen_threshold: float

    @property
    def area(self) -> float:
        """Area under the curve; NaN without one of the classes."""
        return float(np.trapezoid(self.tpr, self.fpr))


def evaluate_scores(
    labels: np.ndarray, p_real: np.ndarray, threshold: float = 0.5, confidence: float = 0.95
) -> dict[str, Estimate]:
    """All metrics of one classifier on one set.

    Parameters
    ----------
    labels
        Integers (n,): 0 real, 1 bogus, -1 unknown.
    p_real
        Probability of being real (n,).
    threshold
        A stamp is called real where ``p_real >= threshold``.
    confidence
        Level of the intervals.

    Returns
    -------
    dict
        ``accuracy``, ``tpr``, ``tnr``, ``precision``, ``balanced_accuracy``, ``auc``,
        ``mdr_at_fpr_<r>`` and ``fpr_at_mdr_<r>`` for r = 0.01, 0.05, 0.1, ``brier``,
        ``log_loss``, ``ece``. What a missing class leaves without meaning is NaN with NaN
        limits: TPR without real stamps, TNR without bogus ones, the AUC and the fixed rates
        without either; all of them without labels.

    Raises
    ------
    UserError
        If a score is NaN or outside [0, 1], or a label is none of 0, 1, -1.
    """
    is_real, scores = known(labels, p_real)
    result = _confusion(is_real, scores, threshold).rates(confidence)
    result["auc"] = auc(is_real, scores, confidence)
    result.update(_fixed_rates(is_real, scores, confidence))
    result["brier"] = _brier(is_real, scores, confidence)
    result["log_loss"] = _log_loss(is_real, scores, confidence)
    result["ece"] = calibration_error(is_real, scores, confidence=confidence)
    return result


def confusion(labels: np.ndarray, p_real: np.ndarray, threshold: float = 0.5) -> ConfusionMatrix:
    """Confusion matrix; arguments as for `evaluate_scores`."""
    return _confusion(*known(labels, p_real), threshold)


def roc(labels: np.ndarray, p_real: np.ndarray, threshold: float = 0.5) -> Roc:
    """ROC curve without the points that lie on a straight line between their neighbours.

    Equal scores are one point, because no threshold tells them apart. The point that
    belongs to `threshold` is always kept. Without one of the classes its rate is NaN.
    """
    is_real, scores = known(labels, p_real)
    order = np.argsort(-scores, kind="stable")
    sorted_scores, sorted_real = scores[order], is_real[order]
    last_of_ties = np.flatnonzero(np.diff(sorted_scores, append=-np.inf))
    tp = np.concatenate([[0], np.cumsum(sorted_real)[last_of_ties]])
    fp = np.concatenate([[0], np.cumsum(~sorted_real)[last_of_ties]])
    cuts = np.concatenate([[np.inf], sorted_scores[last_of_ties]])
    chosen = int(np.count_nonzero(cuts >= threshold)) - 1
    if tp.size > 2:
        # Cross product of the steps before and after a point: integers, so exact.
        step_tp, step_fp = np.diff(tp), np.diff(fp)
        corner = step_tp[:-1] * step_fp[1:] != step_fp[:-1] * step_tp[1:]
        keep = np.concatenate([[True], corner, [True]])
        keep[chosen] = True
        tp, fp, cuts = tp[keep], fp[keep], cuts[keep]
        chosen = int(np.count_nonzero(keep[:chosen]))
    n_real = int(is_real.sum())
    n_bogus = is_real.size - n_real
    return Roc(
        fp / n_bogus if n_bogus else np.full(fp.size, np.nan),
        tp / n_real if n_real else np.full(tp.size, np.nan),
        cuts,
        chosen,
        threshold,
    )


def known(labels: np.ndarray, p_real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The stamps that have a label: (is_real bool, scores float64).

    Raises
    ------
    UserError
        If a score is NaN or outside [0, 1], or a label is none of 0, 1, -1.
    """
    labels, p_real = np.asarray(labels), np.asarray(p_real)
    if labels.shape != p_real.shape or labels.ndim != 1:
        raise ValueError(f"labels {labels.shape} and scores {p_real.shape} do not match")
    if not np.isin(labels, (REAL, BOGUS, UNKNOWN)).all():
        raise UserError(
            "labels: a label is neither 0 (real), 1 (bogus) nor -1 (unknown); "
            "correct the label column of the stamp set"
        )
    bad = ~((p_real >= 0) & (p_real <= 1))
    if bad.any():
        raise UserError(
            f"p_real: {int(bad.sum())} of {p_real.size} scores are NaN or outside 0 to 1; "
            "look at the run's loss (did the training diverge?) and at NaN pixels in the set"
        )
    keep = labels != UNKNOWN
    return labels[keep] == REAL, p_real[keep].astype(np.float64)


def threshold_at_fpr(labels: np.ndarray, p_real: np.ndarray, rate: float) -> float:
    """Lowest threshold whose false-positive rate is at most `rate`.

    To be used with ``p_real >= threshold``. NaN without bogus stamps.
    """
    is_real, scores = known(labels, p_real)
    bogus = np.sort(scores[~is_real])
    if bogus.size == 0:
        return math.nan
    allowed = _allowed(rate, bogus.size)
    return 0.0 if allowed >= bogus.size else float(np.nextafter(bogus[-1 - allowed], np.inf))


def calibration_error(
    is_real: np.ndarray, p_real: np.ndarray, n_bins: int = 15, confidence: float = 0.95
) -> Estimate:
    """Expected calibration error over equal bins of p_real (Guo et al. 2017, ICML, eq. 3).

    The mean over stamps of the distance between the share of real stamps in a bin and its
    mean p_real. The interval is a basic bootstrap of the bins' sums in their normal limit;
    basic, because noise only ever adds to this error and a percentile interval would sit
    too high.

    Parameters
    ----------
    is_real
        Boolean (n,).
    p_real
        Probabilities (n,).
    n_bins
        Number of bins of equal width between 0 and 1.
    """
    n = is_real.size
    if n == 0:
        return UNDEFINED
    bins = np.minimum((p_real * n_bins).astype(np.int64), n_bins - 1)
    excess = is_real - p_real
    sums = np.bincount(bins, excess, n_bins) / n
    spread = np.sqrt(np.maximum(np.bincount(bins, excess**2, n_bins) / n - sums**2, 0) / n)
    value = float(np.abs(sums).sum())
    rng = np.random.default_rng(_SEED)
    draws = np.abs(rng.normal(sums, spread, (_N_BOOTSTRAP, n_bins))).sum(axis=1)
    low, high = np.quantile(draws, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Estimate(
        value, max(0.0, min(value, 2 * value - float(high))), max(value, 2 * value - float(low))
    )


def _confusion(is_real: np.ndarray, scores: np.ndarray, threshold: float) -> ConfusionMatrix:
    called_real = scores >= threshold
    tp = int(np.count_nonzero(called_real & is_real))
    fp = int(np.count_nonzero(called_real)) - tp
    n_real = int(np.count_nonzero(is_real))
    return ConfusionMatrix(tp, n_real - tp, fp, is_real.size - n_real - fp)


def _allowed(rate: float, n: int) -> int:
    # The small term repairs products such as 0.29 * 100 = 28.999...
    return math.floor(rate * n + 1e-9)


def _fixed_rates(is_real: np.ndarray, scores: np.ndarray, confidence: float) -> dict[str, Estimate]:
    """Missed-detection rate at fixed false-positive rates, and the reverse."""
    real, bogus = np.sort(scores[is_real]), np.sort(scores[~is_real])
    rng = np.random.default_rng(_SEED)
    result = {}
    for rate in RATES:
        result[f"mdr_at_fpr_{rate:g}"] = _error_at_rate(bogus, real, rate, confidence, rng)
    for rate in RATES:
        # Seen from the other end the roles swap: reversed scores make low ones "accepted".
        result[f"fpr_at_mdr_{rate:g}"] = _error_at_rate(
            -real[::-1], -bogus[::-1], rate, confidence, rng
        )
    return result


def _error_at_rate(
    limited: np.ndarray,
    other: np.ndarray,
    rate: float,
    confidence: float,
    rng: np.random.Generator,
) -> Estimate:
    """Share of `other` at or below the cut that at most `rate` of `limited` exceeds.

    No interpolation between thresholds: the value belongs to a threshold that exists.

    The interval is a bootstrap that resamples each class by itself, drawn in closed form.
    The cut is an order statistic of `limited`; in a resample of n out of n it is the
    element number ceil(n U), U a beta variate. The share of `other` below a given cut is
    drawn from its Jeffreys posterior, which for other than tiny counts is what resampling
    gives, and which keeps a width where no stamp at all is below the cut. So one resample
    costs two random numbers, whatever the number of stamps.

    Parameters
    ----------
    limited, other
        Sorted scores of the class whose error rate is fixed, and of the other one.
    """
    n, m = limited.size, other.size
    if n == 0 or m == 0:
        return UNDEFINED
    allowed = _allowed(rate, n)
    if allowed >= n:
        return Estimate(0.0, 0.0, 0.0)
    value = np.searchsorted(other, limited[n - 1 - allowed], side="right") / m
    position = rng.beta(n - allowed, allowed + 1, _N_BOOTSTRAP)
    cuts = limited[np.clip(np.ceil(n * position).astype(np.int64) - 1, 0, n - 1)]
    below = np.searchsorted(other, cuts, side="right")
    draws = rng.beta(below + 0.5, m - below + 0.5)
    return intervals.percentile(float(value), draws, confidence)


def _brier(is_real: np.ndarray, scores: np.ndarray, confidence: float) -> Estimate:
    return _at_least_zero(intervals.mean((scores - is_real) ** 2, confidence))


def _log_loss(is_real: np.ndarray, scores: np.ndarray, confidence: float) -> Estimate:
    right = np.where(is_real, scores, 1 - scores)
    surprise = -np.log(np.clip(right, _LOG_LOSS_MARGIN, 1 - _LOG_LOSS_MARGIN))
    return _at_least_zero(intervals.mean(surprise, confidence))


def _at_least_zero(estimate: Estimate) -> Estimate:
    return Estimate(estimate.value, max(estimate.low, 0.0), estimate.high)
