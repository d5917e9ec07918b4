"""Feature tables kept as Parquet: the same columns, types instead of text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rb.errors import UserError
from rb.features.columns import ALL_38, BAND_CODES
from rb.io.tables import read_parquet, schema_of

_IDS, _LABELS, _BAND = ("ID", "id"), ("OBJECT_TYPE", "label"), "BAND"


def read_parquet_table(
    path: Path, features: Sequence[str] | None, labels: bool | None
) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Read IDs, labels and features; arguments as for :func:`rb.features.table.read_table`.

    Returns
    -------
    ids : numpy.ndarray
        (N,) whole numbers or text, unique.
    labels : numpy.ndarray
        (N,) int8: 0 real, 1 bogus, -1 unknown.
    features : pandas.DataFrame
        (N rows) float64.

    Raises
    ------
    UserError
        Names file and column, where the file is damaged, empty or lacks a column, an ID is
        missing or there twice, a label is neither 0 nor 1, or a feature is no number.
    """
    try:
        names = list(schema_of(path).names)
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: truncated or not parquet") from error
    if features is None:
        features = [name for name in ALL_38 if name in names]
        if not features:
            raise UserError(f"{path}: none of the autoscan features is here")
    id_name = next((name for name in _IDS if name in names), None)
    label_name = next((name for name in _LABELS if name in names), None)
    missing = [name for name in features if name not in names]
    missing += [] if id_name else [_IDS[0]]
    missing += [_LABELS[0]] if labels and not label_name else []
    if missing:
        raise UserError(f"{path}: no column {', '.join(missing)}")
    wanted = [
        str(id_name),
        *([label_name] if label_name and labels is not False else []),
        *features,
    ]
    try:
        frame = read_parquet(path, wanted)
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: truncated or not parquet") from error
    if not len(frame):
        raise UserError(f"{path}: no rows")
    ids = frame[id_name]
    if ids.isna().any():
        raise UserError(f"{path}: column {id_name} lacks a value in {int(ids.isna().sum())} rows")
    if ids.duplicated().any():
        again = ids[ids.duplicated()]
        raise UserError(f"{path}: ID {again.iloc[0]} occurs twice ({len(again)} duplicates in all)")
    kinds = np.full(len(frame), -1, dtype=np.int8)
    if label_name in frame:
        given = pd.to_numeric(frame[label_name], errors="coerce").astype("Float64")
        wrong = frame[label_name].notna() & ~given.isin([0, 1])
        # A label may be unknown in the catalogue of a stamp set, not in the survey's own table.
        wrong |= given.isna() & (label_name == _LABELS[0])
        if wrong.any():
            raise UserError(
                f"{path}: column {label_name} is neither 0 (real) nor 1 (bogus) in "
                f"{int(wrong.sum())} rows"
            )
        kinds = given.fillna(-1).to_numpy(dtype=np.int8)
    values = {name: _numbers(path, name, frame[name]) for name in features}
    return ids.to_numpy(), kinds, pd.DataFrame(values, columns=list(features))


def _numbers(path: Path, name: str, column: pd.Series) -> np.ndarray:
    if name == _BAND and not pd.api.types.is_numeric_dtype(column):
        column = column.map(lambda v: BAND_CODES.get(str(v).strip().lower(), v))
    values = pd.to_numeric(column, errors="coerce")
    wrong = values.isna() & column.notna()
    if wrong.any():
        first = str(column[wrong].iloc[0])[:40]
        raise UserError(
            f"{path}: column {name}: {first!r} is not a number ({int(wrong.sum())} such rows)"
        )
    return values.to_numpy(dtype=np.float64, na_value=np.nan)
