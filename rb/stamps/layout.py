"""The files of a stamp set: reading them, and refusing what is not whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rb.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

CHANNELS = ("diff", "srch", "tmpl")
STAMP_SIZE = 51
FORMAT = 1
REAL, BOGUS, UNKNOWN = 0, 1, -1

STAMP_SHAPE = (len(CHANNELS), STAMP_SIZE, STAMP_SIZE)


def catalogue_problem(catalogue: pd.DataFrame, n_stamps: int) -> str | None:
    """What is wrong with a catalogue for `n_stamps` stamps; None if nothing is."""
    for column in ("id", "label", "group"):
        if column not in catalogue:
            return f"the catalogue has no column '{column}'"
    if len(catalogue) != n_stamps:
        return f"the catalogue has {len(catalogue)} rows for {n_stamps} stamps"
    repeated = catalogue["id"][catalogue["id"].duplicated()]
    if len(repeated):
        return (
            f"{len(repeated)} candidates occur more than once, the first is id {repeated.iloc[0]}"
        )
    labels = catalogue["label"].dropna()
    if not labels.isin([REAL, BOGUS]).all():
        return "the catalogue has labels that are neither 0 (real), 1 (bogus) nor null"
    return None


def read_meta(path: Path) -> dict[str, Any]:
    """Content of ``meta.json``; UserError if it is not that of a whole set of this format."""
    try:
        meta = json.loads((path / "meta.json").read_text())
    except FileNotFoundError:
        raise UserError(
            f"{path}: no meta.json, so this is no stamp set or was cut short; build it again"
        ) from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path / 'meta.json'}: not readable ({error}); build it again") from error
    needed = {"format", "source", "channels", "n_stamps", "digest", "n_nan_pixels", "n_nan_stamps"}
    if not isinstance(meta, dict) or not needed <= meta.keys():
        raise UserError(f"{path / 'meta.json'}: not a description of a stamp set")
    if meta["format"] != FORMAT:
        raise UserError(
            f"{path}: stamp set of format {meta['format']}, this version reads {FORMAT}; "
            "build the set again"
        )
    return meta


def open_stamps(path: Path) -> np.ndarray:
    """``stamps.npy``, memory-mapped, (N, 3, 51, 51); UserError if it is damaged."""
    try:
        # allow_pickle stays off: a stamp file that comes from elsewhere must not run code.
        stamps = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path}: missing; build the set again") from None
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path}: truncated or not an array; build the set again") from error
    if stamps.dtype != np.dtype("<f4") or stamps.ndim != 4 or stamps.shape[1:] != STAMP_SHAPE:
        raise UserError(
            f"{path}: {stamps.dtype} array of shape {stamps.shape}, expected float32 (N, 3, 51, 51)"
        )
    return stamps


def parquet_columns(path: Path) -> tuple[str, ...]:
    """Names of a table's columns; UserError if it is missing or damaged."""
    import pyarrow.parquet

    try:
        return tuple(pyarrow.parquet.read_schema(path).names)
    except FileNotFoundError:
        raise UserError(f"{path}: missing; build the set again") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: truncated or not parquet; build the set again") from error


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """A table of the set, or some columns of it; UserError if it is missing or damaged."""
    import pandas as pd

    try:
        return pd.read_parquet(path, columns=None if columns is None else list(columns))
    except FileNotFoundError:
        raise UserError(f"{path}: missing; build the set again") from None
    except (ValueError, OSError) as error:  # pyarrow's ArrowInvalid is a ValueError
        raise UserError(f"{path}: truncated or not parquet; build the set again") from error


def digest(folder: Path) -> str:
    """SHA-256 over catalogue and pixels of the set in `folder`."""
    found = hashlib.sha256()
    stamps = open_stamps(folder / "stamps.npy")
    start, end = stamps.offset, stamps.offset + stamps.nbytes  # type: ignore[attr-defined]
    # Read, not mapped: the pages of a mapped file count as this process' memory.
    buffer = memoryview(bytearray(2**22))
    for path, position, stop in (
        (folder / "catalogue.parquet", 0, (folder / "catalogue.parquet").stat().st_size),
        (folder / "stamps.npy", start, end),
    ):
        with path.open("rb", buffering=0) as file:
            file.seek(position)
            while position < stop:
                n = file.readinto(buffer[: min(len(buffer), stop - position)])
                if not n:
                    raise UserError(f"{path}: truncated; build the set again")
                found.update(buffer[:n])
                position += n
    return found.hexdigest()
