"""How complete a search is, at a stated number of false positives."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def completeness(
    found: NDArray,
    event_frame: NDArray[np.int64],
    false: NDArray,
    false_frame: NDArray[np.int64],
    frames: NDArray[np.int64],
    rates: tuple[float, ...],
    draws: int = 0,
    seed: int = 1,
) -> NDArray[np.float64]:
    """Share of the events that are found at each rate of false positives a frame.

    Parameters
    ----------
    found : ndarray of shape (n,)
        Score by which each event was found, minus infinity where it was not.
    event_frame, false_frame : ndarray
        Frame of each event and of each false positive.
    false : ndarray of shape (m,)
        Scores of the false positives.
    frames : ndarray of shape (k,)
        Numbers of all frames.
    rates : tuple of float
        False positives a frame.
    draws : int
        Bootstrap draws over frames; 0 for the frames themselves.
    seed : int
        Of the draws. Two searches of the same frames get the same draws, so that they can be
        compared draw by draw.

    Returns
    -------
    ndarray of shape (1 or draws, len(rates))
        NaN where there is no event.
    """
    rng = np.random.default_rng(seed)
    place = {int(f): i for i, f in enumerate(frames)}
    events = np.array([place[int(f)] for f in event_frame], dtype=int)
    falses = np.array([place[int(f)] for f in false_frame], dtype=int)
    order = np.argsort(-false, kind="stable")
    falses, false = falses[order], false[order]
    out = np.full((max(draws, 1), len(rates)), np.nan)
    for draw in range(max(draws, 1)):
        chosen = rng.integers(len(frames), size=len(frames)) if draws else np.arange(len(frames))
        weight = np.bincount(chosen, minlength=len(frames))
        total = weight[events].sum()
        if not total:
            continue
        counted = weight[falses].cumsum()
        for i, rate in enumerate(rates):
            above = int(np.searchsorted(counted, np.floor(rate * len(frames) + 1e-9), "right"))
            limit = false[above] if above < len(false) else -np.inf
            hit = (found > limit) & np.isfinite(found)
            out[draw, i] = weight[events][hit].sum() / total
    return out
