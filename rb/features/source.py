"""Where the features of a set of candidates come from: its catalogue, or its stamps."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from rb.errors import UserError
from rb.features.columns import ALL_38, FEATURES_FROM_STAMP, STAMP_SIDE
from rb.features.table import FeatureTable
from rb.io.files import write_whole
from rb.stamps import StampSet

SETTINGS = ("auto", "catalogue", "stamps")
_NEEDED = ("diff", "tmpl")  # the search image takes part in none of the features
# Of the definitions: what was computed by older ones is computed again.
_VERSION = 1
_CHUNK = 256


def choose(
    stamp_set: StampSet, setting: str = "auto", columns: Sequence[str] | None = None
) -> tuple[str, tuple[str, ...]]:
    """Decide where the features are taken from, and which.

    Parameters
    ----------
    stamp_set : StampSet
        The candidates.
    setting : str
        ``catalogue``: the survey's own values, as sets of the DES archive and feature tables
        have them; ``stamps``: computed by :mod:`rb.features.autoscan`; ``auto``: the catalogue
        where it has all of `columns`, else the stamps.
    columns : sequence of str, optional
        The features; None for all 38 of the catalogue (those that it has, where it was asked
        for), or all that stamps determine.

    Returns
    -------
    source : str
        ``catalogue`` or ``stamps``.
    columns : tuple of str

    Raises
    ------
    UserError
        If neither has them.
    """
    listed = [name for name in ALL_38 if name in stamp_set.column_names]
    if setting == "auto":
        whole = set(columns or ALL_38) <= set(listed)
        setting = "catalogue" if whole or not stamp_set.channels else "stamps"
    if setting == "catalogue":
        wanted = tuple(columns or listed)
        missing = [name for name in wanted if name not in listed]
        if missing or not wanted:
            raise UserError(
                f"{stamp_set.path.name}: the catalogue has no feature "
                f"{', '.join(missing) or 'of the autoscan table'}; choose others with "
                "model.columns, or model.features=stamps"
            )
        return "catalogue", wanted
    _check_stamps(stamp_set)
    wanted = tuple(columns or FEATURES_FROM_STAMP)
    missing = [name for name in wanted if name not in FEATURES_FROM_STAMP]
    if missing:
        raise UserError(
            f"{stamp_set.path.name}: stamps do not determine {', '.join(missing)}, and the "
            f"catalogue does not have it; stamps give {', '.join(FEATURES_FROM_STAMP)}"
        )
    return "stamps", wanted


def features_of(
    stamp_set: StampSet,
    rows: np.ndarray,
    columns: Sequence[str],
    source: str,
    cache: Path | None = None,
    console: Console | None = None,
) -> FeatureTable:
    """Features of some candidates of a set.

    Parameters
    ----------
    stamp_set : StampSet
        The candidates.
    rows : int array, (n,)
        Their row numbers, any order.
    columns, source
        From :func:`choose`.
    cache : path, optional
        Folder where features of stamps are kept, a file a stamp set, by its digest. What is there
        is not computed again.
    console : Console, optional
        Where progress is shown.

    Returns
    -------
    FeatureTable
        n rows in the order of `rows`.
    """
    rows = np.asarray(rows)
    if source == "catalogue":
        frame = stamp_set.columns(columns).iloc[rows].reset_index(drop=True)
    else:
        frame = _from_stamps(stamp_set, rows, cache, console)
    frame = frame[list(columns)].astype(np.float64)
    return FeatureTable(
        stamp_set.ids[rows], stamp_set.labels[rows], frame, f"{stamp_set.path.name} ({source})"
    )


def _check_stamps(stamp_set: StampSet) -> None:
    if stamp_set.channels and stamp_set.stamp_size != STAMP_SIDE:
        raise UserError(
            f"{stamp_set.path.name}: the autoscan features are defined on stamps of {STAMP_SIDE} "
            f"px, these have {stamp_set.stamp_size}; choose a network or other data"
        )
    missing = [c for c in _NEEDED if c not in stamp_set.channels]
    if missing:
        raise UserError(
            f"{stamp_set.path.name}: features of stamps need {' and '.join(_NEEDED)}, the set has "
            f"only {', '.join(stamp_set.channels) or 'features'}; choose model=nodia or other data"
        )


def _from_stamps(
    stamp_set: StampSet, rows: np.ndarray, cache: Path | None, console: Console | None
) -> pd.DataFrame:
    """All features that stamps determine, of `rows`; only those not in the cache are computed."""
    _check_stamps(stamp_set)
    file = None if cache is None else Path(cache) / f"features-{_key(stamp_set)}.parquet"
    known = _read(file, len(stamp_set))
    new = np.setdiff1d(rows, known.index)
    if len(new):
        computed = _compute(stamp_set, new, console)
        known = computed if known.empty else pd.concat([known, computed])
        if file is not None:
            buffer = io.BytesIO()
            known.sort_index().to_parquet(buffer)
            write_whole(file, buffer.getvalue(), "the features")
    return known.loc[rows].reset_index(drop=True)


def _key(stamp_set: StampSet) -> str:
    columns = ",".join(FEATURES_FROM_STAMP)
    text = f"{_VERSION} {stamp_set.digest} {columns}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read(file: Path | None, n: int) -> pd.DataFrame:
    nothing = pd.DataFrame(columns=list(FEATURES_FROM_STAMP), index=pd.Index([], dtype=np.int64))
    if file is None or not file.is_file():
        return nothing
    try:
        known = pd.read_parquet(file)
    except (ValueError, OSError):
        return nothing  # a damaged cache is no cache
    whole = list(known.columns) == list(FEATURES_FROM_STAMP) and known.index.is_unique
    return known if whole and known.index.isin(range(n)).all() else nothing


def _compute(stamp_set: StampSet, rows: np.ndarray, console: Console | None) -> pd.DataFrame:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from rb.features.autoscan import compute

    columns = (
        TextColumn("features of the stamps"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    parts = []
    silent = console is None or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=silent) as progress:
        task = progress.add_task("", total=len(rows))
        # In file order and a few at a time: the set may be larger than the memory.
        for start in range(0, len(rows), _CHUNK):
            part = rows[start : start + _CHUNK]
            parts.append(compute(np.asarray(stamp_set.stamps[part])))
            progress.advance(task, len(part))
    return pd.concat(parts).set_axis(pd.Index(rows, dtype=np.int64))
