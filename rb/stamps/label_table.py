"""Tables of verdicts: reading them, and refusing what cannot be meant."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rb.errors import UserError
from rb.stamps.layout import BOGUS, REAL, UNKNOWN, boolean_row

if TYPE_CHECKING:
    import pandas as pd

VERDICT_COLUMNS = ("verdict", "label")
"""Names of the column that holds the new labels; the first that is there counts."""


def read_table(path: Path, what: str) -> pd.DataFrame:
    """A table in parquet or CSV with a column ``id``.

    Parameters
    ----------
    path
        The file; ``.parquet`` is parquet, all else is CSV with a header.
    what
        Setting or argument that named it, for messages: "data.labels".

    Raises
    ------
    UserError
        If it is missing, damaged, empty, has no ``id``, or holds an ``id`` twice.
    """
    import pandas as pd

    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
        else:
            table = pd.read_csv(path, comment="#", dtype={"id": str, "stamp": str})
    except FileNotFoundError:
        raise UserError(
            f"{what}: {path} does not exist; give a table with id and verdict"
        ) from None
    except (OSError, ValueError) as error:  # pyarrow's and pandas' errors are ValueErrors
        raise UserError(f"{what}: {path} is no readable table ({error})") from error
    if "id" not in table:
        raise UserError(f"{what}: {path} has no column 'id'; its columns are {_names(table)}")
    if table.empty:
        raise UserError(f"{what}: {path} is empty; leave the setting out to use the set's labels")
    if table["id"].isna().any():
        row = int(np.flatnonzero(table["id"].isna())[0]) + 1
        raise UserError(f"{what}: {path} has no id in row {row}")
    table["id"] = as_text(table["id"].to_numpy())
    repeated = table["id"][table["id"].duplicated()]
    if len(repeated):
        raise UserError(
            f"{what}: {path} names {repeated.nunique():,} candidates more than once, the first is "
            f"id {repeated.iloc[0]}; keep one verdict each"
        )
    return table


def read_verdicts(path: Path, what: str = "data.labels") -> pd.DataFrame:
    """A table of new labels: ``id`` (text), ``verdict`` (int8) and, if known, ``stamp``.

    Verdicts are 0 real, 1 bogus, -1 unknown, which a table may also write as null. The
    column may be called ``label`` instead.

    Raises
    ------
    UserError
        As `read_table`; also if there is no verdict column, a verdict is something else, or
        the table is one of suspects that nobody has looked at yet.
    """
    import pandas as pd

    table = read_table(path, what)
    if "suggested" in table and "verdict" not in table:
        raise UserError(
            f"{what}: {path} lists suspects, not verdicts; look at them with rb labels review "
            "and combine what was said with rb labels merge"
        )
    column = next((c for c in VERDICT_COLUMNS if c in table), None)
    if column is None:
        raise UserError(f"{what}: {path} has no column 'verdict'; its columns are {_names(table)}")
    numbers = pd.to_numeric(table[column], errors="coerce")
    wrong = table[column].notna() & ~numbers.isin([REAL, BOGUS, UNKNOWN])
    boolean = boolean_row(table[column])  # true may mean that it is real, or bogus
    if boolean is not None or wrong.any():
        row = table[wrong].iloc[0] if boolean is None else table.iloc[boolean]
        raise UserError(
            f"{what}: {path} says '{row[column]}' of candidate {row['id']}; a "
            f"{column} is 0 (real), 1 (bogus) or null (not used)"
        )
    found = pd.DataFrame({"id": table["id"]})
    found["verdict"] = numbers.fillna(UNKNOWN).to_numpy(dtype=np.int8)
    if "stamp" in table:
        found["stamp"] = table["stamp"].astype("string")
    return found


def digest_of(verdicts: pd.DataFrame) -> str:
    """SHA-256 over identifiers and verdicts, whatever their order and file format."""
    lines = sorted(f"{i}\t{v}" for i, v in zip(verdicts["id"], verdicts["verdict"], strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def as_text(ids: np.ndarray) -> np.ndarray:
    """Identifiers as text, so that 17, 17.0 and "17" are the same candidate; object, (n,)."""
    ids = np.asarray(ids)
    if ids.dtype.kind == "f" and np.all(ids == np.round(ids)):
        ids = ids.astype(np.int64)  # a table with a gap somewhere has turned its ids into floats
    return np.array([str(i).strip() for i in ids.tolist()], dtype=object)


def as_numbers(ids: np.ndarray) -> np.ndarray:
    """Identifiers as int64 if all of them are such numbers written out, else unchanged."""
    try:
        numbers = np.array([int(i) for i in ids], dtype=np.int64)
    except (ValueError, OverflowError):
        return ids
    return numbers if all(str(n) == i for n, i in zip(numbers, ids, strict=True)) else ids


def stamp_mark(stamp: np.ndarray) -> str:
    """Eight hexadecimal digits that tell one stamp from another, by its pixels.

    Identifiers are only unique within a survey; a verdict that carries this mark cannot be
    applied to another survey's candidate of the same number.

    Parameters
    ----------
    stamp
        float32, (3, S, S), raw.
    """
    return f"{zlib.crc32(np.ascontiguousarray(stamp, dtype='<f4').tobytes()):08x}"


def _names(table: pd.DataFrame) -> str:
    return ", ".join(map(str, table.columns)) or "none"
