"""Intervals of means over stamps."""

from __future__ import annotations

import numpy as np

from rb.metrics.intervals import UNDEFINED, Estimate, percentile


def bootstrap_mean(
    values: np.ndarray, draws: int = 1000, confidence: float = 0.95, seed: int = 0
) -> Estimate:
    """Mean over stamps with a percentile bootstrap over them.

    Parameters
    ----------
    values
        (n,); NaN are left out.

    Returns
    -------
    Estimate
        Undefined without values.
    """
    values = values[np.isfinite(values)]
    if not values.size:
        return UNDEFINED
    chosen = np.random.default_rng(seed).integers(0, values.size, (draws, values.size))
    return percentile(float(values.mean()), values[chosen].mean(1), confidence)
