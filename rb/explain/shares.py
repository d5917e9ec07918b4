"""Importance of the panels: which share of a saliency map lies in which image (Eq. 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rb.explain.attribution import Explainer
from rb.stamps.missing_images import lacks_an_image
from rb.stamps.stampset import BOGUS, REAL, StampSet

QUADRANT_NAMES = ("TP", "FN", "FP", "TN")
CALLS = ("called real", "called bogus")
"""Groups of stamps without a label."""

_READ = 1024  # stamps read from the disk at once


def panel_shares(maps: np.ndarray) -> np.ndarray:
    """Share of each panel in the sum of a map's absolute values (paper, Eq. 4).

    Parameters
    ----------
    maps
        (N, C, height, width).

    Returns
    -------
    ndarray
        float64 (N, C); rows sum to 1, or are NaN where the map is zero everywhere or holds
        a pixel that is not finite.
    """
    sums = np.abs(maps).sum((2, 3), dtype=np.float64)
    total = sums.sum(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = sums / total
    shares[~(np.isfinite(total[:, 0]) & (total[:, 0] > 0))] = np.nan
    return shares


def groups(labels: np.ndarray, called_real: np.ndarray) -> np.ndarray:
    """TP, FN, FP or TN of each stamp (N,), positive = real; without a label, the call."""
    return np.select(
        [
            (labels == REAL) & called_real,
            labels == REAL,
            (labels == BOGUS) & called_real,
            labels == BOGUS,
            called_real,
        ],
        [*QUADRANT_NAMES, CALLS[0]],
        CALLS[1],
    )


def share_columns(channels: Sequence[str]) -> list[str]:
    """Names of the columns with the shares: `I_diff` and so on."""
    return [f"I_{channel}" for channel in channels]


def shares_table(
    explainer: Explainer,
    stamp_set: StampSet,
    rows: np.ndarray,
    p_real: np.ndarray,
    threshold: float,
    tick: Callable[[int], Any] = lambda n: None,
) -> pd.DataFrame:
    """Panel shares of the saliency maps of many stamps; the maps are not kept.

    Parameters
    ----------
    explainer
        The network.
    stamp_set, rows
        Where the stamps are, and which.
    p_real, threshold
        (len(rows),) what the network says, and from where on it means real.
    tick
        Called with the number of stamps done since the last call.

    Returns
    -------
    DataFrame
        A row a stamp: `id`, `label`, `p_real`, `quadrant` (TP, FN, FP, TN; the call
        where there is no label), `I_<channel>` (NaN where the map is zero everywhere or an
        image has no pixels), `winner` (the panel with the largest share), `principal`
        (all panels above 1/C, joined by +), `saturated` (whether the larger probability is 1
        in single precision), `missing` (whether an image has no pixels).
    """
    shares = np.empty((len(rows), len(explainer.channels)))
    saturated, missing = np.empty(len(rows), dtype=bool), np.empty(len(rows), dtype=bool)
    for start in range(0, len(rows), _READ):
        part = slice(start, start + _READ)
        stamps = np.asarray(stamp_set.stamps[rows[part]])
        panels = explainer.panels(stamps)
        shares[part] = panel_shares(explainer.attribute(panels, tick=tick))
        # The network takes an image that is not there for an empty one; its share is no one's.
        missing[part] = lacks_an_image(stamps, explainer.channels)
        largest = explainer.probabilities(panels).max(1).values
        saturated[part] = (largest.float() == 1).cpu().numpy()
    shares[missing] = np.nan
    labels = stamp_set.labels[rows]
    table = pd.DataFrame(
        {
            "id": stamp_set.ids[rows],
            "label": labels,
            "p_real": p_real,
            "quadrant": groups(labels, p_real >= threshold),
        }
    )
    table[share_columns(explainer.channels)] = shares
    table = _with_winners(table, explainer.channels)
    return table.assign(saturated=saturated, missing=missing)


def _with_winners(table: pd.DataFrame, channels: Sequence[str]) -> pd.DataFrame:
    shares = table[share_columns(channels)].to_numpy()
    known = np.isfinite(shares).all(1)
    largest = np.argmax(np.where(known[:, None], shares, -1.0), axis=1)
    above = shares > 1 / len(channels)
    return table.assign(
        winner=np.where(known, np.asarray(channels, dtype=object)[largest], None),
        principal=[
            "+".join(c for c, is_above in zip(channels, row, strict=True) if is_above) or None
            for row in above
        ],
    )
