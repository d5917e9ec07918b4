"""Which candidates stand for the rest in the data figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from rb.errors import UserError
from rb.paper.values import FIGURE_1_IDS
from rb.stamps.stampset import BOGUS, CHANNELS, REAL, UNKNOWN, StampSet

MOST = 8
"""Candidates that the figures have room for."""

_FAINT, _BRIGHT = (0.25, 0.6), (0.85, 0.98)  # quantiles of the SNR within a class


def example_rows(
    stamp_set: StampSet, rows: np.ndarray, ids: Sequence[Any] | None, seed: int
) -> list[int]:
    """Rows of the candidates to show: bogus ones first, as A and B of the paper's Figure 1.

    Parameters
    ----------
    stamp_set : StampSet
        Where they come from.
    rows : array of int
        Rows to choose from, e.g. those of the test subset.
    ids : sequence or None
        The user's choice, from the whole set. None: the four of the paper's Figure 1 where a
        DES set has them; the others are a faint and a bright candidate of each class, by SNR,
        or any two where it is not known.
    seed : int
        Of the choice.

    Raises
    ------
    UserError
        If one of `ids` is not in the set, or there are too many.
    """
    if ids is not None:
        return _named(stamp_set, list(ids))
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    published = _published(stamp_set)
    wanted = {BOGUS: 2, REAL: 2}
    if not any((stamp_set.labels[rows] == label).any() for label in wanted):
        wanted = {UNKNOWN: 4}
    for label, number in wanted.items():
        found = [row for row in published if stamp_set.labels[row] == label][:number]
        for window in (_FAINT, _BRIGHT, _FAINT, _BRIGHT)[:number][len(found) :]:
            row = _one(stamp_set, rows[stamp_set.labels[rows] == label], window, found, rng)
            if row is not None:
                found.append(row)
        chosen += found
    return chosen


def _named(stamp_set: StampSet, ids: list[Any]) -> list[int]:
    if not 1 <= len(ids) <= MOST:
        raise UserError(f"study.ids has {len(ids)} entries; give between 1 and {MOST}")
    position = {str(one): row for row, one in enumerate(stamp_set.ids.tolist())}
    missing = [str(one) for one in ids if str(one) not in position]
    if missing:
        some = ", ".join(map(str, stamp_set.ids[:3].tolist()))
        raise UserError(
            f"study.ids: {stamp_set.path} has no candidate {', '.join(missing)}; "
            f"its ids are like {some}"
        )
    return [position[str(one)] for one in ids]


def _published(stamp_set: StampSet) -> list[int]:
    """Rows of the paper's own examples; their numbers mean something in DES sets only."""
    if stamp_set.meta["source"] != "des":
        return []
    position = {str(one): row for row, one in enumerate(stamp_set.ids.tolist())}
    there = [position[str(one)] for one in FIGURE_1_IDS if str(one) in position]
    return [row for row in there if _whole(stamp_set, row)]


def _one(
    stamp_set: StampSet,
    rows: np.ndarray,
    window: tuple[float, float],
    taken: Iterable[int],
    rng: np.random.Generator,
) -> int | None:
    """A candidate within a window of the SNR, whole if there is one."""
    rows = rows[~np.isin(rows, list(taken))]
    if "snr" in stamp_set.catalogue:
        snr = stamp_set.catalogue["snr"].to_numpy(dtype=float)[rows]
        if np.isfinite(snr).sum() > 1:
            low, high = np.nanquantile(snr, window)
            inside = (snr >= low) & (snr <= high)
            rows = np.concatenate([rng.permutation(rows[inside]), rng.permutation(rows[~inside])])
            return _first_whole(stamp_set, rows)
    return _first_whole(stamp_set, rng.permutation(rows))


def _first_whole(stamp_set: StampSet, rows: np.ndarray) -> int | None:
    for row in rows[:200].tolist():
        if _whole(stamp_set, row):
            return row
    return int(rows[0]) if len(rows) else None


def _whole(stamp_set: StampSet, row: int) -> bool:
    """Whether every channel that the set provides is there, without NaN."""
    channels = [CHANNELS.index(c) for c in stamp_set.channels]
    return bool(np.isfinite(stamp_set[row][channels]).all())
