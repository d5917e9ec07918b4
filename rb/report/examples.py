"""Stamps of one field of the confusion matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np

from rb.evaluation.results import RunResult
from rb.metrics.classification import BOGUS, REAL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Reader = Callable[[np.ndarray], np.ndarray]
"""Raw stamps (n, 3, height, width) of ascending row numbers (n,)."""

QUADRANTS = {
    "TP": (REAL, True, "real, called real"),
    "TN": (BOGUS, False, "bogus, called bogus"),
    "FP": (BOGUS, True, "bogus, called real"),
    "FN": (REAL, False, "real, called bogus"),
}
"""By name: true label, whether it is called real, and in words."""


def examples_page(
    read: Reader,
    result: RunResult,
    quadrant: str,
    n: int = 12,
    choose: Literal["random", "extreme"] = "random",
    seed: int = 0,
) -> Figure:
    """A page of example stamps.

    Parameters
    ----------
    read : Reader
        Reads the stamps; only those shown are asked for.
    result : RunResult
        The scores.
    quadrant : str
        ``"TP"``, ``"TN"``, ``"FP"`` or ``"FN"``; positive = real.
    n : int
        Largest number of examples.
    choose : str
        ``"random"`` by `seed`, or ``"extreme"``: those the classifier was surest of, which
        for the wrong ones are its worst mistakes.
    seed : int
        Of the choice.
    """
    from rb.figures.data.stamps import stamp_page
    from rb.figures.style import RIGHT_COLOR, WRONG_COLOR

    label, called_real, words = QUADRANTS[quadrant]
    p_real = result.p_real
    of_class = result.labels == label
    found = np.flatnonzero(of_class & ((p_real >= result.threshold) == called_real))
    if choose == "extreme":
        order = np.argsort(-p_real[found] if called_real else p_real[found], kind="stable")
        rows = found[order[:n]]
    else:
        rows = np.sort(np.random.default_rng(seed).permutation(found)[:n])
    # Sorted for the sake of the disk, then back into the order chosen.
    order = np.argsort(rows, kind="stable")
    return stamp_page(
        read(rows[order])[np.argsort(order)],
        [f"{result.ids[row]}   p_real {p_real[row]:.3f}" for row in rows],
        title=f"{quadrant}: {words} ({found.size:,} of {int(of_class.sum()):,} "
        f"{words.split(',')[0]})",
        colors=[RIGHT_COLOR if called_real == (label == REAL) else WRONG_COLOR] * rows.size,
    )
