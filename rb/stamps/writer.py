"""Writing a stamp set, so that it appears under its name when it is whole."""

from __future__ import annotations

import io
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
from rb.stamps.batch import Stamps, as_pixels
from rb.stamps.layout import (
    BOGUS,
    CHANNELS,
    FORMAT,
    OPTIONAL,
    REAL,
    boolean_row,
    catalogue_problem,
    digest,
    open_array,
    shape_problem,
)

if TYPE_CHECKING:
    import pandas as pd


class ArrayFile:
    """A ``.npy`` file of float32 rows that grows; it is whole once `finish` was called.

    Parameters
    ----------
    path : Path
        The file. What is behind row `n` of an earlier one is cut off.
    row : tuple of int
        Shape of a row.
    n : int
        Number of rows that are there already.
    """

    def __init__(self, path: Path, row: tuple[int, ...], n: int = 0) -> None:
        self.row = row
        self.file: Any = path.open("r+b" if path.exists() else "w+b")
        write_npy_header(self.file, (n, *row))
        self.file.truncate(self.size(row, n))
        self.file.seek(0, os.SEEK_END)

    @staticmethod
    def size(row: Sequence[int], n: int) -> int:
        """Bytes of a file of `n` rows."""
        header = io.BytesIO()
        write_npy_header(header, (n, *row))
        return header.tell() + 4 * n * int(np.prod(row))

    def append(self, rows: np.ndarray) -> None:
        """Write rows (n, *row) behind those that are there."""
        self.file.write(rows.astype("<f4", copy=False).data)

    def sync(self) -> None:
        """Return when what was written would survive a power cut."""
        self.file.flush()
        os.fsync(self.file.fileno())

    def finish(self, n: int) -> None:
        """Say in the header that there are `n` rows, and close the file."""
        self.file.seek(0)
        write_npy_header(self.file, (n, *self.row))
        self.sync()
        self.file.close()


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
        self._files: dict[str, ArrayFile] = {}
        self._adopted: Stamps | None = None
        self._n = self._nan_pixels = self._nan_stamps = 0

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary.mkdir()
        except OSError as error:
            raise _no_room(self.path, error) from error
        return self

    def append(self, stamps: np.ndarray | Stamps, rows: pd.DataFrame) -> None:
        """Add stamps and their catalogue rows.

        Parameters
        ----------
        stamps : ndarray of shape (n, 3, S, S), or Stamps
            Raw values, masked ones become NaN. What comes with the first stamps, sizes,
            variances and PSFs, has to come with all. Their side information becomes columns.
        rows : DataFrame of n rows
            ``id`` and whatever else the source knows, side information among it.

        Raises
        ------
        UserError
            If shapes disagree, a row lacks ``id``, or a label is neither 0 nor 1 nor null.
        """
        if self._adopted is not None:
            raise ValueError("a set adopts its stamps or appends them, not both")
        arrays = checked_arrays(stamps, self.path)
        if len(rows) != len(arrays["stamps"]):
            raise UserError(
                f"{self.path}: {len(arrays['stamps'])} stamps came with {len(rows)} rows"
            )
        if not len(rows):
            return
        rows = _normalise_rows(rows.assign(**Stamps.of(stamps).side), self.path)
        nan = np.isnan(arrays["stamps"])
        nan[:, self._missing] = False
        self._nan_pixels += int(nan.sum())
        self._nan_stamps += int(nan.any(axis=(1, 2, 3)).sum())
        try:
            if not self._files:
                for name, array in arrays.items():
                    file = self._temporary / f"{name}.npy"
                    self._files[name] = ArrayFile(file, array.shape[1:])
            check_same(self._files, arrays, self.path)
            for name, array in arrays.items():
                self._files[name].append(array)
        except OSError as error:
            raise _no_room(self.path, error) from error
        self._rows.append(rows)
        self._n += len(rows)

    def adopt(
        self,
        stamps: Path,
        rows: pd.DataFrame,
        *,
        n_nan_pixels: int,
        n_nan_stamps: int,
        variance: Path | None = None,
        psf: Path | None = None,
    ) -> None:
        """Take a whole ``stamps.npy`` that was written elsewhere, instead of `append`.

        For sources that fill their rows out of order and must survive being killed. The
        files have to be on the file system of the set; they are linked, not copied, so they
        are still in their old places if the set is never finished.

        Parameters
        ----------
        stamps : Path
            float32 array (n, 3, S, S) as NumPy writes it, raw values, missing channels NaN.
        rows : DataFrame of n rows
            Its catalogue rows.
        n_nan_pixels, n_nan_stamps : int
            NaN pixels in the channels that the source provides, and stamps that have some.
        variance, psf : Path, optional
            Files of the optional arrays.

        Raises
        ------
        UserError
            If a file is no such array, or the rows do not fit.
        """
        if self._n:
            raise ValueError("a set adopts its stamps or appends them, not both")
        files = {"stamps": stamps, "variance": variance, "psf": psf}
        paths = {name: path for name, path in files.items() if path is not None}
        arrays = {name: open_array(path, name) for name, path in paths.items()}
        for name, array in arrays.items():
            if not array.flags.c_contiguous:
                raise UserError(f"{paths[name]}: not in C order")
        self._adopted = Stamps(arrays["stamps"], arrays.get("variance"), arrays.get("psf"))
        checked_arrays(self._adopted, self.path)
        n = len(self._adopted)
        if n != len(rows):
            raise UserError(f"{self.path}: {n} stamps came with {len(rows)} rows")
        self._rows.append(_normalise_rows(rows, self.path))
        try:
            for name, path in paths.items():
                own = self._temporary / f"{name}.npy"
                try:
                    os.link(path, own)
                except OSError:  # a file system without hard links
                    path.rename(own)
                with own.open("rb+") as file:
                    os.fsync(file.fileno())
        except OSError as error:
            raise _no_room(self.path, error) from error
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
            for array in self._files.values():
                array.file.close()
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _finish(self) -> None:
        import pandas as pd

        if self._n == 0:
            raise UserError(f"{self.path}: no stamps came in, so no set was written")
        for array in self._files.values():
            array.finish(self._n)
        # A catalogue of a million rows and fifty columns need not be in memory twice.
        one = len(self._rows) == 1
        catalogue = self._rows[0] if one else pd.concat(self._rows, ignore_index=True)
        problem = catalogue_problem(catalogue, self._n)
        if problem:
            raise UserError(f"{self.path}: {problem}")
        catalogue.to_parquet(self._temporary / "catalogue.parquet", index=False)
        for name, table in self._tables.items():
            table.to_parquet(self._temporary / f"{name}.parquet", index=False)
        arrays = {
            name: open_array(file, name)
            for name in ("stamps", *OPTIONAL)
            if (file := self._temporary / f"{name}.npy").exists()
        }
        if any(len(array) != self._n for array in arrays.values()):
            raise UserError(f"{self.path}: the stamps do not fill their file; build the set again")
        for name, document in self._documents.items():
            text = json.dumps(document, indent=1)
            (self._temporary / f"{name}.json").write_text(text, encoding="utf-8")
        self._meta |= {
            "stamp_size": arrays["stamps"].shape[-1],
            "arrays": [name for name in OPTIONAL if name in arrays],
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
    boolean = boolean_row(rows["label"])  # true may mean that it is real, or bogus
    if boolean is not None or wrong.any():
        row = rows[wrong].iloc[0] if boolean is None else rows.iloc[boolean]
        raise UserError(
            f"{path}: candidate {row['id']} has label '{row['label']}'; labels are 0 (real), "
            "1 (bogus) or null (unknown)"
        )
    rows["label"] = labels.astype("Int8")
    rows["group"] = rows["group"].astype(str)
    return rows


def checked_arrays(stamps: np.ndarray | Stamps, path: Path) -> dict[str, np.ndarray]:
    """The arrays of `stamps` by name, float32; UserError if they do not fit each other."""
    arrays = {name: as_pixels(array) for name, array in Stamps.of(stamps).arrays().items()}
    for name, array in arrays.items():
        problem = shape_problem(name, array.shape)
        if problem:
            raise UserError(f"{path}: {name} have {problem}")
        if len(array) != len(arrays["stamps"]):
            raise UserError(
                f"{path}: {len(arrays['stamps'])} stamps came with {len(array)} of {name}"
            )
    if "variance" in arrays and arrays["variance"].shape != arrays["stamps"].shape:
        raise UserError(
            f"{path}: stamps of {arrays['stamps'].shape[-1]} px came with variances of "
            f"{arrays['variance'].shape[-1]} px"
        )
    return arrays


def check_same(files: dict[str, ArrayFile], arrays: dict[str, np.ndarray], path: Path) -> None:
    """Raise UserError if `arrays` are not what the arrays of earlier stamps were."""
    before = {name: file.row for name, file in files.items()}
    now = {name: array.shape[1:] for name, array in arrays.items()}
    if before != now:
        raise UserError(
            f"{path}: {_in_words(now)} came after {_in_words(before)}; all stamps of a set have "
            "one size and the same arrays"
        )


def _in_words(rows: dict[str, tuple[int, ...]]) -> str:
    return " and ".join(f"{name} of {row[-1]} px" for name, row in rows.items())


def write_npy_header(file: Any, shape: tuple[int, ...]) -> None:
    """Write the header of a float32 array where `file` stands: as long for any first axis."""
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    # write_array_header_1_0 leaves room for the number to grow, so that the header can be
    # written again over itself once the number of stamps is known.
    np.lib.format.write_array_header_1_0(file, header)


def _no_room(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{path}: cannot write the stamp set ({error.strerror or error}); nothing was kept"
    )
