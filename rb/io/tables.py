"""Parquet tables whose pages carry checksums, which are looked at when they are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


class DamagedTable(ValueError):
    """A file that is no table, or not the one that was written."""


def write_parquet(table: pd.DataFrame, where: Any, index: bool | None = False) -> None:
    """Write a table to a file or stream."""
    table.to_parquet(where, index=index, write_page_checksum=True)


def read_parquet(where: Any, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a table; pages that carry a checksum are compared with it.

    Parameters
    ----------
    where : path or stream
        What `write_parquet` has written, or any other parquet file.
    columns : sequence of str, optional
        Those that are wanted.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DamagedTable
        If it cannot be read.
    """
    import pandas as pd

    wanted = None if columns is None else list(columns)
    with whole(where):
        return pd.read_parquet(where, columns=wanted, page_checksum_verification=True)


def schema_of(where: Any) -> Any:
    """Arrow's schema of a table; raises what `read_parquet` does."""
    import pyarrow.parquet

    with whole(where):
        return pyarrow.parquet.read_schema(where)


@contextmanager
def whole(where: Any) -> Iterator[None]:
    """Raise what `read_parquet` does for whatever goes wrong in a block that reads a table."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:  # damage to its description raises nearly everything
        name = where if isinstance(where, str | Path) else "the table"
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DamagedTable(f"{name}: damaged, or not parquet ({reason})") from error
