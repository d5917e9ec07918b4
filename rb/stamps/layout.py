"""The files of a stamp set: reading them, and refusing what is not whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rb.errors import UserError
from rb.io import tables
from rb.io.checksums import row_checksums

if TYPE_CHECKING:
    import pandas as pd

CHANNELS = ("diff", "srch", "tmpl")
IMAGES = ("srch", "tmpl")
"""The two exposures behind a stamp."""

VARIANCES = tuple(f"{channel}_var" for channel in CHANNELS)
"""Names of the variance planes, in their order in ``variance.npy``."""

SIDE_COLUMNS = tuple(
    f"{quantity}_{image}"
    for quantity in ("psf_fwhm", "psf_e1", "psf_e2", "sky_noise", "zero_point")
    for image in IMAGES
)
"""Catalogue columns with what is known of the exposures; docs/stamps.md has the units."""

OPTIONAL = ("variance", "psf")
"""Arrays that a set may have beside its stamps."""

SCALINGS = ("three_sigma", "mu_three_sigma", "standardise", "minmax", "l2", "raw")
"""Names of the scalings, see `rb.stamps.scaling.scale`."""

STAMP_SIZE = 51
"""Pixels along a side of a DES stamp, which the simulated survey has by default."""

MASKED = 1e-30
"""Value of masked pixels in the difference stamps of DES and of the simulated survey."""

FORMAT = 2
REAL, BOGUS, UNKNOWN = 0, 1, -1

_NEEDED = {
    "format", "source", "channels", "stamp_size", "arrays", "n_stamps", "digest", "n_nan_pixels",
    "n_nan_stamps",
}  # fmt: skip
_SHAPES = {
    "stamps": "(n, 3, size, size)",
    "variance": "(n, 3, size, size)",
    "psf": "(n, 2, size, size) of odd size",
}


def shape_problem(name: str, shape: tuple[int, ...]) -> str | None:
    """What is wrong with the shape of array `name`, as "shape …, expected …"; None if nothing."""
    side = shape[-1] if len(shape) == 4 and shape[2] == shape[3] else 0
    if name == "psf":
        right = side % 2 == 1 and shape[1] == len(IMAGES)
    else:
        right = side > 0 and shape[1] == len(CHANNELS)
    return None if right else f"shape {shape}, expected {_SHAPES[name]}"


def boolean_row(values: pd.Series) -> int | None:
    """Position of the first true or false in a column of labels; None if there is none."""
    if values.dtype.kind in "iuf":
        return None
    found = np.flatnonzero([isinstance(v, bool | np.bool_) for v in values])
    return int(found[0]) if len(found) else None


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
    if isinstance(meta, dict) and meta.get("format", FORMAT) != FORMAT:
        raise UserError(
            f"{path}: stamp set of format {meta['format']}, this version reads {FORMAT}; "
            "build the set again"
        )
    if not isinstance(meta, dict) or not meta.keys() >= _NEEDED:
        raise UserError(f"{path / 'meta.json'}: not a description of a stamp set")
    return meta


def mapped(path: Path) -> np.ndarray:
    """A ``.npy`` file, memory-mapped; UserError if it is damaged."""
    try:
        # allow_pickle stays off: a file that comes from elsewhere must not run code.
        found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy reads the header by Python's own parser
        raise UserError(f"{path}: truncated or not an array of numbers; make it again") from error
    return found


def open_array(path: Path, name: str = "stamps") -> np.ndarray:
    """A float32 array of the set, memory-mapped; UserError if it is damaged or none of `name`."""
    if not path.exists():
        raise UserError(f"{path}: missing; build the set again")
    array = mapped(path)
    if array.dtype != np.dtype("<f4") or shape_problem(name, array.shape):
        raise UserError(
            f"{path}: {array.dtype} array of shape {array.shape}, expected float32 {_SHAPES[name]}"
        )
    return array


def open_arrays(path: Path, meta: dict[str, Any]) -> dict[str, np.ndarray]:
    """All arrays of the set in folder `path` by name; UserError if one does not fit the others."""
    arrays = {}
    for name in ("stamps", *OPTIONAL):
        file = path / f"{name}.npy"
        listed = name == "stamps" or name in meta["arrays"]
        if not listed and file.exists():
            raise UserError(
                f"{file}: not among the arrays of meta.json, so it may be half-written; remove it "
                "or build the set again"
            )
        if listed:
            arrays[name] = open_array(file, name)
    for name, array in arrays.items():
        if len(array) != meta["n_stamps"]:
            raise UserError(
                f"{path}: {name}.npy holds {len(array)} stamps, meta.json promises "
                f"{meta['n_stamps']}; build the set again"
            )
        size = array.shape[-1]
        if name != "psf" and size != meta["stamp_size"]:
            raise UserError(
                f"{path}: {name}.npy holds stamps of {size} px, meta.json promises "
                f"{meta['stamp_size']}; build the set again"
            )
    return arrays


def parquet_columns(path: Path) -> tuple[str, ...]:
    """Names of a table's columns; UserError if it is missing or damaged."""
    try:
        return tuple(tables.schema_of(path).names)
    except FileNotFoundError:
        raise UserError(f"{path}: missing; build the set again") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: truncated or not parquet; build the set again") from error


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """A table of the set, or some columns of it; UserError if it is missing or damaged."""
    try:
        return tables.read_parquet(path, columns)
    except FileNotFoundError:
        raise UserError(f"{path}: missing; build the set again") from None
    except tables.DamagedTable as error:
        raise UserError(f"{path}: truncated or not parquet; build the set again") from error


def digest(folder: Path) -> str:
    """SHA-256 over catalogue and arrays of the set in `folder`."""
    return summed(folder)[0]


def summed(folder: Path) -> tuple[str, dict[str, np.ndarray]]:
    """Digest of the set in `folder`, and the checksums of each array's rows by its file."""
    found = hashlib.sha256()
    checksums: dict[str, np.ndarray] = {}
    with (folder / "catalogue.parquet").open("rb") as file:
        while content := file.read(2**22):
            found.update(content)
    for name in ("stamps", *OPTIONAL):
        path = folder / f"{name}.npy"
        if name != "stamps" and not path.exists():
            continue
        array = open_array(path, name)
        start: int = array.offset  # type: ignore[attr-defined]
        row = 4 * int(np.prod(array.shape[1:]))
        sums = np.empty(len(array), np.uint32)
        # Read, not mapped: the pages of a mapped file count as this process' memory.
        with path.open("rb", buffering=0) as file:
            file.seek(start)
            buffer = memoryview(bytearray(max(1, 2**22 // row) * row))
            for first in range(0, len(array), len(buffer) // row):
                n = min(len(buffer) // row, len(array) - first)
                part = buffer[: n * row]
                if file.readinto(part) != len(part):
                    raise UserError(f"{path}: truncated; build the set again")
                found.update(part)
                rows = np.frombuffer(part, "<f4").reshape(n, -1)
                sums[first : first + n] = row_checksums(rows)
        checksums[path.name] = sums
    return found.hexdigest(), checksums
