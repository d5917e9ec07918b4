"""Writing a stamp set, so that it appears under its name when it is whole."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from rb.errors import UserError
from rb.stamps.layout import (
    BOGUS,
    CHANNELS,
    FORMAT,
    REAL,
    STAMP_SHAPE,
    catalogue_problem,
    digest,
    open_stamps,
)

if TYPE_CHECKING:
    import pandas as pd


class StampSetWriter:
    """Build a stamp set piece by piece; it appears under its name when it is whole.

    Parameters
    ----------
    path : path
        Folder of the finished set. Its parent is created.
    source : str
        What made the stamps: ``simulated``, ``des``, ``alerts``.
    parameters : dict
        Everything the source was told, kept in ``meta.json`` (JSON-serialisable).
    survey : str, optional
        Name for titles.
    pixel_scale : float, optional
        arcsec per pixel.
    channels : sequence of str
        The channels that the source provides; the others have to be NaN.
    overwrite : bool
        Replace a set of this name. Without it an existing set is an error.

    Examples
    --------
    ::

        with StampSetWriter("sets/mine", source="mine", parameters={}) as writer:
            writer.append(stamps, rows)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        source: str,
        parameters: dict[str, Any],
        survey: str | None = None,
        pixel_scale: float | None = None,
        channels: Sequence[str] = CHANNELS,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.building")
        if self.path.exists() and not overwrite:
            raise UserError(f"{self.path}: exists already; choose another name or remove it")
        unknown = [c for c in channels if c not in CHANNELS]
        if unknown or not channels:
            raise UserError(f"{self.path}: channels {list(channels)} are not among {CHANNELS}")
        self._missing = [i for i, c in enumerate(CHANNELS) if c not in channels]
        self._meta: dict[str, Any] = {
            "format": FORMAT,
            "source": source,
            "survey": survey,
            "pixel_scale": pixel_scale,
            "channels": [c for c in CHANNELS if c in channels],
            "parameters": parameters,
            "tables": [],
        }
        self._rows: list[pd.DataFrame] = []
        self._tables: dict[str, pd.DataFrame] = {}
        self._documents: dict[str, Any] = {}
        self._adopted = False
        self._n = self._nan_pixels = self._nan_stamps = 0

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary.mkdir()
            self._file = (self._temporary / "stamps.npy").open("wb+")
            write_npy_header(self._file, 0)
        except OSError as error:
            raise _no_room(self.path, error) from error
        return self

    def append(self, stamps: np.ndarray, rows: pd.DataFrame) -> None:
        """Add stamps (n, 3, 51, 51) and their n catalogue rows.

        Raises
        ------
        UserError
            If shapes disagree, a row lacks ``id``, or a label is neither 0 nor 1 nor null.
        """
        if self._adopted:
            raise ValueError("a set adopts its stamps or appends them, not both")
        stamps = np.ascontiguousarray(stamps, dtype="<f4")
        if stamps.ndim != 4 or stamps.shape[1:] != STAMP_SHAPE:
            raise UserError(
                f"{self.path}: stamps have shape {stamps.shape}, expected (n, 3, 51, 51)"
            )
        if len(rows) != len(stamps):
            raise UserError(f"{self.path}: {len(stamps)} stamps came with {len(rows)} rows")
        if not len(rows):
            return
        rows = _normalise_rows(rows, self.path)
        nan = np.isnan(stamps)
        nan[:, self._missing] = False
        self._nan_pixels += int(nan.sum())
        self._nan_stamps += int(nan.any(axis=(1, 2, 3)).sum())
        try:
            self._file.write(stamps.data)
        except OSError as error:
            raise _no_room(self.path, error) from error
        self._rows.append(rows)
        self._n += len(rows)

    def adopt(
        self, stamps: Path, rows: pd.DataFrame, *, n_nan_pixels: int, n_nan_stamps: int
    ) -> None:
        """Take a whole ``stamps.npy`` that was written elsewhere, instead of `append`.

        For sources that fill their rows out of order and must survive being killed. The
        file has to be on the file system of the set; it is linked, not copied, so it is
        still in its old place if the set is never finished.

        Parameters
        ----------
        stamps : Path
            float32 array (n, 3, 51, 51) as NumPy writes it, raw values, missing channels NaN.
        rows : pandas.DataFrame
            Its n catalogue rows.
        n_nan_pixels, n_nan_stamps : int
            NaN pixels in the channels that the source provides, and stamps that have some.

        Raises
        ------
        UserError
            If the file is no such array, or the rows do not fit.
        """
        if self._n:
            raise ValueError("a set adopts its stamps or appends them, not both")
        array = open_stamps(stamps)
        n = len(array)
        if not array.flags.c_contiguous:
            raise UserError(f"{stamps}: not in C order")
        if n != len(rows):
            raise UserError(f"{self.path}: {n} stamps came with {len(rows)} rows")
        self._rows.append(_normalise_rows(rows, self.path))
        self._file.close()
        own = self._temporary / "stamps.npy"
        try:
            own.unlink()
            try:
                os.link(stamps, own)
            except OSError:  # a file system without hard links
                stamps.rename(own)
            self._file = own.open("rb+")
        except OSError as error:
            raise _no_room(self.path, error) from error
        self._adopted = True
        self._n, self._nan_pixels, self._nan_stamps = n, n_nan_pixels, n_nan_stamps

    def add_document(self, name: str, document: Any) -> None:
        """Keep something JSON-serialisable as ``<name>.json`` in the set."""
        if not name.replace("-", "_").isidentifier() or name == "meta":
            raise ValueError(f"'{name}' cannot name a document")
        self._documents[name] = document

    def add_table(self, name: str, table: pd.DataFrame) -> None:
        """Keep a side table as ``<name>.parquet`` in the set."""
        if not name.isidentifier() or name == "catalogue":
            raise ValueError(f"'{name}' cannot name a side table")
        self._tables[name] = table

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        except OSError as full:
            raise _no_room(self.path, full) from full
        finally:
            self._file.close()
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _finish(self) -> None:
        import pandas as pd

        if self._n == 0:
            raise UserError(f"{self.path}: no stamps came in, so no set was written")
        self._file.seek(0)
        write_npy_header(self._file, self._n)
        self._file.flush()
        os.fsync(self._file.fileno())
        # A catalogue of a million rows and fifty columns need not be in memory twice.
        one = len(self._rows) == 1
        catalogue = self._rows[0] if one else pd.concat(self._rows, ignore_index=True)
        problem = catalogue_problem(catalogue, self._n)
        if problem:
            raise UserError(f"{self.path}: {problem}")
        catalogue.to_parquet(self._temporary / "catalogue.parquet", index=False)
        for name, table in self._tables.items():
            table.to_parquet(self._temporary / f"{name}.parquet", index=False)
        if len(open_stamps(self._temporary / "stamps.npy")) != self._n:
            raise UserError(f"{self.path}: the stamps do not fill their file; build the set again")
        for name, document in self._documents.items():
            text = json.dumps(document, indent=1)
            (self._temporary / f"{name}.json").write_text(text, encoding="utf-8")
        self._meta |= {
            "n_stamps": self._n,
            "n_nan_pixels": self._nan_pixels,
            "n_nan_stamps": self._nan_stamps,
            "tables": sorted(self._tables),
            "digest": digest(self._temporary),
            "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        (self._temporary / "meta.json").write_text(json.dumps(self._meta, indent=1))
        if self.path.exists():
            # A folder cannot be replaced in one step: the old set steps aside first, and
            # comes back if the new one cannot take its place.
            aside = self.path.with_name(f".{self.path.name}.{os.getpid()}.old")
            self.path.rename(aside)
            try:
                self._temporary.rename(self.path)
            except OSError:
                aside.rename(self.path)
                raise
            shutil.rmtree(aside, ignore_errors=True)
        else:
            self._temporary.rename(self.path)


def _normalise_rows(rows: pd.DataFrame, path: Path) -> pd.DataFrame:
    import pandas as pd

    if "id" not in rows:
        raise UserError(f"{path}: the rows have no column 'id'")
    rows = rows.copy(deep=False)  # columns are replaced, never changed in place
    if "label" not in rows:
        rows["label"] = pd.NA
    if "group" not in rows:
        rows["group"] = rows["id"].astype(str)
    labels = pd.to_numeric(rows["label"], errors="coerce")
    wrong = rows["label"].notna() & ~labels.isin([REAL, BOGUS])
    if wrong.any():
        row = rows[wrong].iloc[0]
        raise UserError(
            f"{path}: candidate {row['id']} has label '{row['label']}'; labels are 0 (real), "
            "1 (bogus) or null (unknown)"
        )
    rows["label"] = labels.astype("Int8")
    rows["group"] = rows["group"].astype(str)
    return rows


def write_npy_header(file: Any, n: int) -> None:
    """Write the header of ``stamps.npy``, n stamps, where `file` stands: as long for any n."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (n, *STAMP_SHAPE)}
    # write_array_header_1_0 leaves room for the number to grow, so that the header can be
    # written again over itself once the number of stamps is known.
    np.lib.format.write_array_header_1_0(file, header)


def _no_room(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{path}: cannot write the stamp set ({error.strerror or error}); nothing was kept"
    )
