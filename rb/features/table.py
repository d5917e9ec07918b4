"""Read the DES autoscan feature table, and check every cell of it.

The published table starts with comment lines, then a header, then 898,963 rows with a candidate's
ID, its label (OBJECT_TYPE: 0 real, 1 bogus) and the 38 features of Goldstein et al. 2015
(arXiv 1504.02936). Empty and `nan` cells are missing values, which are normal: a candidate
without a coadd source nearby has no reference magnitude.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pandas as pd

from rb.errors import UserError
from rb.features.columns import ALL_38, BAND_CODES

_ID, _LABEL, _BAND = "ID", "OBJECT_TYPE", "BAND"
_MISSING = ["", "nan", "NaN", "NAN", "null", "NULL", "NA", "None", "-nan"]


@dataclass(frozen=True)
class FeatureTable:
    """Candidates with features.

    Parameters
    ----------
    ids
        (N,) candidate IDs, unique.
    labels
        (N,) int8: 0 real, 1 bogus, -1 unknown.
    features
        (N rows) float64, one column a feature; NaN where missing.
    source
        Where it comes from, for messages.
    """

    ids: np.ndarray
    labels: np.ndarray
    features: pd.DataFrame
    source: str = "table"

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.labels) == len(self.features):
            raise ValueError("ids, labels and features differ in length")

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, index: np.ndarray) -> FeatureTable:
        """Return the rows of `index` (integers or a mask), in that order."""
        return FeatureTable(
            self.ids[index],
            self.labels[index],
            self.features.iloc[
                np.flatnonzero(index) if np.asarray(index).dtype == bool else index
            ].reset_index(drop=True),
            self.source,
        )

    def labelled(self) -> FeatureTable:
        """Return the rows whose label is known."""
        return self.take(self.labels >= 0)

    def restricted(self, features: Sequence[str]) -> FeatureTable:
        """Return the table with these features only.

        Raises
        ------
        UserError
            Where one of them is not in the table.
        """
        missing = [name for name in features if name not in self.features]
        if missing:
            raise UserError(f"{self.source}: no feature {', '.join(missing)}")
        return FeatureTable(self.ids, self.labels, self.features[list(features)], self.source)

    @property
    def digest(self) -> str:
        """SHA-256 of IDs, labels, feature names and values."""
        digest = hashlib.sha256(",".join(self.features.columns).encode())
        for part in (self.ids, self.labels, self.features.to_numpy(np.float64)):
            array = np.ascontiguousarray(part)
            if array.dtype == object:
                array = array.astype(str)
            digest.update(f"|{array.dtype.str}{array.shape}|".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()


def read_table(
    path: str | Path, features: Sequence[str] | None = ALL_38, labels: bool | None = True
) -> FeatureTable:
    """Read a feature table.

    Parameters
    ----------
    path
        CSV, plain or gzipped (`.gz`): any number of lines starting with `#`, a header, rows.
        Other columns than ID, OBJECT_TYPE and `features` are ignored. BAND may be a letter or a
        number; letters become the codes of `rb.features.columns.BAND_CODES`. Or Parquet
        (`.parquet`) with the same columns, or with `id` and `label` as in a stamp set.
    features
        Columns to read; None for those of the 38 that it has.
    labels
        Whether OBJECT_TYPE has to be there; without, the labels are -1. None takes them where
        they are there.

    Returns
    -------
    FeatureTable

    Raises
    ------
    UserError
        Names file, column and line, where the table is missing or empty, lacks a column, has a
        row of another length, a cell that is no number, an ID twice or without value, or a label
        that is neither 0 nor 1.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file (the autoscan feature table is expected)")
    if path.suffix == ".parquet":
        from rb.features.parquet_table import read_parquet_table

        return FeatureTable(*read_parquet_table(path, features, labels), str(path))
    header_line, names, rows = _scan(path)
    if features is None:
        features = [name for name in ALL_38 if name in names]
        if not features:
            raise UserError(f"{path}: line {header_line}: none of the autoscan features is here")
    if labels is None:
        labels = _LABEL in names
    wanted = [_ID, *([_LABEL] if labels else []), *features]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise UserError(f"{path}: line {header_line}: no column {', '.join(missing)}")
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise UserError(f"{path}: line {header_line}: column {', '.join(doubled)} occurs twice")
    if not rows:
        raise UserError(f"{path}: no rows below the header")
    reader = _Reader(path, header_line, names)
    frame = reader.columns(wanted)
    ids = reader.integers(frame, _ID)
    _refuse_duplicates(reader, ids)
    kinds = np.full(len(ids), -1, dtype=np.int8)
    if labels:
        given = reader.integers(frame, _LABEL)
        reader.refuse(_LABEL, ~np.isin(given, (0, 1)), "is neither 0 (real) nor 1 (bogus)")
        kinds = given.astype(np.int8)
    return FeatureTable(ids, kinds, frame[list(features)].copy(), str(path))


def _refuse_duplicates(reader: _Reader, ids: np.ndarray) -> None:
    again = pd.Series(ids).duplicated().to_numpy()
    if again.any():
        row = int(np.argmax(again))
        first = reader.line(int(np.argmax(ids == ids[row])))
        raise UserError(
            f"{reader.path}: line {reader.line(row)}: ID {ids[row]} is already in line {first} "
            f"({int(again.sum())} duplicates in all)"
        )


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open for reading, decompressed; damage is the user's business."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            yield cast(BinaryIO, file)
    except (OSError, EOFError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error


def _scan(path: Path) -> tuple[int, list[str], int]:
    """Line of the header, its names, number of rows; every row has to be as long as the header."""
    header_line, names, rows, commas = 0, [""], 0, 0
    with _opened(path) as file:
        for number, line in enumerate(file, 1):
            if line.isspace():
                continue
            if not header_line:
                if line.startswith(b"#"):
                    continue
                try:
                    text = line.decode("utf-8-sig")
                except UnicodeDecodeError:
                    raise UserError(f"{path}: line {number} is not text; is this a CSV?") from None
                names = [name.strip().strip('"') for name in text.split(",")]
                header_line, commas = number, len(names) - 1
            elif line.count(b",") != commas:
                raise UserError(
                    f"{path}: line {number} has {line.count(b',') + 1} cells, the header has "
                    f"{commas + 1} columns; is the file cut short?"
                )
            else:
                rows += 1
    if not header_line:
        raise UserError(f"{path}: empty, or comments only")
    return header_line, names, rows


class _Reader:
    """The table's body, and what to say about a cell that makes no sense."""

    def __init__(self, path: Path, header_line: int, names: list[str]) -> None:
        self.path, self._header_line, self._names = path, header_line, names

    def columns(self, wanted: list[str]) -> pd.DataFrame:
        """Return the wanted columns: ID and label as text, the features as numbers."""
        numbers = [name for name in wanted if name not in (_ID, _LABEL, _BAND)]
        types: dict[str, type] = dict.fromkeys(wanted, str)
        try:
            frame = self._read(wanted, {**types, **dict.fromkeys(numbers, np.float64)})
        except ValueError:
            # Some cell is not a number: find out which one.
            frame = self._read(wanted, types)
            for name in numbers:
                frame[name] = self._numbers(name, frame[name])
        if _BAND in wanted:
            letters = frame[_BAND].str.strip().str.lower().map(BAND_CODES)
            others = frame[_BAND].where(letters.isna())
            frame[_BAND] = letters.astype(np.float64).fillna(self._numbers(_BAND, others))
        return frame

    def integers(self, frame: pd.DataFrame, name: str) -> np.ndarray:
        """Return a text column without gaps as int64."""
        self.refuse(name, frame[name].isna().to_numpy(), "is missing")
        values = pd.to_numeric(frame[name], errors="coerce").to_numpy()
        # Text that is a whole number everywhere becomes int64, exact beyond 2^53.
        if values.dtype != np.int64:
            values = values.astype(np.float64)
            whole = (values == np.floor(values)) & (np.abs(values) < 2**53)
            self.refuse(name, ~whole, "is not an integer")
        return values.astype(np.int64)

    def refuse(self, name: str, wrong: np.ndarray, what: str) -> None:
        """Raise an error about the first row where `wrong` is true."""
        if wrong.any():
            row = int(np.argmax(wrong))
            cell = str(self._read([name], {name: str})[name].iloc[row])[:40]
            raise UserError(
                f"{self.path}: line {self.line(row)}, column {name}: {cell!r} {what}"
                + (f" ({int(wrong.sum())} such rows)" if wrong.sum() > 1 else "")
            )

    def line(self, row: int) -> int:
        """Line of a row, counted from 1; blank lines count, too."""
        with _opened(self.path) as file:
            for number, text in enumerate(file, 1):
                if number <= self._header_line or text.isspace():
                    continue
                if row == 0:
                    return number
                row -= 1
        raise ValueError("no such row")

    def _numbers(self, name: str, column: pd.Series) -> pd.Series:
        values = pd.to_numeric(column, errors="coerce")
        wrong = values.isna() & column.notna()
        self.refuse(name, wrong.to_numpy(), "is not a number")
        return values.astype(np.float64)

    def _read(self, columns: list[str], types: Mapping[str, type]) -> pd.DataFrame:
        with _opened(self.path) as file:
            for _ in range(self._header_line):
                file.readline()
            try:
                return pd.read_csv(
                    file,
                    header=None,
                    names=self._names,
                    usecols=columns,
                    dtype=dict(types),
                    na_values=_MISSING,
                    keep_default_na=False,
                    skipinitialspace=True,
                    quoting=3,
                    encoding="utf-8",
                    encoding_errors="replace",
                )
            except pd.errors.ParserError as error:
                raise UserError(f"{self.path}: cannot be read as CSV ({error})") from error
