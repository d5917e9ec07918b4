"""Thresholds for a stated false-positive rate, purity or completeness."""

from __future__ import annotations

import math

import numpy as np

from rb.errors import UserError
from rb.metrics.classification import known, threshold_at_fpr

TARGETS = ("fpr", "purity", "completeness")
"""What can be asked for."""


def threshold_for(target: str, value: float, labels: np.ndarray, p_real: np.ndarray) -> float:
    """The threshold that loses least and keeps a promise on these candidates.

    Parameters
    ----------
    target : str
        `fpr`: at most so many of the bogus ones pass; `purity`: at least this share of those that
        pass is real; `completeness`: at least this share of the real ones passes.
    value : float
        The rate, 0 to 1.
    labels : ndarray of shape (n,)
        0 real, 1 bogus, -1 unknown (left out), of candidates for validation.
    p_real : ndarray of shape (n,)
        Their scores.

    Returns
    -------
    float
        For `p_real >= threshold`; NaN where no threshold keeps it.

    Raises
    ------
    UserError
        If the target is none of `TARGETS`, or the value no rate.
    """
    if target not in TARGETS or not 0 <= value <= 1:
        raise UserError(f"operating point {target}={value}; give a rate of {', '.join(TARGETS)}")
    if target == "fpr":
        return threshold_at_fpr(labels, p_real, value)
    real, scores = known(labels, p_real)
    if not real.any():
        return math.nan
    order = np.argsort(-scores, kind="stable")
    real, scores = real[order], scores[order]
    true = real.cumsum()
    # A threshold lets all of equal scores pass or none.
    last = np.append(scores[1:] < scores[:-1], True)
    if target == "purity":
        good = np.flatnonzero(last & (true >= value * np.arange(1, len(true) + 1) - 1e-9))
        return float(scores[good[-1]]) if len(good) else math.nan
    enough = np.flatnonzero(last & (true >= value * true[-1] - 1e-9))
    return float(scores[enough[0]])
