"""What a stamp set is: a folder, written once, then read-only.

===================  =========================================================
``stamps.npy``       float32, N x 3 x 51 x 51, channels diff, srch, tmpl, raw values
``catalogue.parquet``  one row a stamp: ``id``, ``label``, ``group`` and more
``meta.json``        format version, source and its parameters, digest
``<table>.parquet``  side tables that the source adds, listed in ``meta.json``
===================  =========================================================

``meta.json`` is written last, in a temporary folder that is then renamed, so a folder
of this name is a whole set or it is not one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from rb.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

CHANNELS = ("diff", "srch", "tmpl")
STAMP_SIZE = 51
FORMAT = 1
REAL, BOGUS, UNKNOWN = 0, 1, -1

_SHAPE = (len(CHANNELS), STAMP_SIZE, STAMP_SIZE)


class StampSet:
    """A stamp set on disk, opened read-only; nothing is loaded before it is used.

    Open one with `StampSet.open`; ``meta`` holds the content of ``meta.json``.
    """

    def __init__(self, path: Path, meta: dict[str, Any], stamps: np.ndarray) -> None:
        self.path = path
        self.meta = meta
        self.stamps = stamps

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> StampSet:
        """Open the set in folder `path`.

        Raises
        ------
        UserError
            If there is no set, or it is half-built, truncated, empty, or of a format
            that this version does not read.
        """
        path = Path(path)
        if not path.is_dir():
            raise UserError(f"{path}: there is no stamp set here; build one first")
        meta = _read_meta(path)
        stamps = _open_stamps(path / "stamps.npy")
        if len(stamps) != meta["n_stamps"]:
            raise UserError(
                f"{path}: stamps.npy holds {len(stamps)} stamps, meta.json promises "
                f"{meta['n_stamps']}; build the set again"
            )
        if len(stamps) == 0:
            raise UserError(f"{path}: the stamp set is empty; build it from data that has stamps")
        return cls(path, meta, stamps)

    @cached_property
    def catalogue(self) -> pd.DataFrame:
        """One row a stamp, in the order of `stamps`."""
        catalogue = _read_parquet(self.path / "catalogue.parquet")
        problem = _catalogue_problem(catalogue, len(self.stamps))
        if problem:
            raise UserError(f"{self.path / 'catalogue.parquet'}: {problem}; build the set again")
        return catalogue

    @cached_property
    def labels(self) -> np.ndarray:
        """int8, (N,): 0 real, 1 bogus, -1 unknown."""
        return self.catalogue["label"].astype("Int8").fillna(UNKNOWN).to_numpy(dtype=np.int8)

    @property
    def ids(self) -> np.ndarray:
        """The candidates' identifiers, (N,)."""
        return self.catalogue["id"].to_numpy()

    @property
    def groups(self) -> np.ndarray:
        """What a grouped split must not tear apart (field, exposure), (N,)."""
        return self.catalogue["group"].to_numpy()

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that the source provides; the others are NaN."""
        return tuple(self.meta["channels"])

    @property
    def digest(self) -> str:
        """SHA-256 over stamps and catalogue, as written when the set was built."""
        return str(self.meta["digest"])

    @property
    def name(self) -> str:
        """Survey or source, for titles."""
        return str(self.meta.get("survey") or self.meta["source"])

    def table(self, name: str) -> pd.DataFrame:
        """Side table `name`, as the source added it; UserError if there is none."""
        if name not in self.meta.get("tables", []):
            have = ", ".join(self.meta.get("tables", [])) or "none"
            raise UserError(f"{self.path}: no side table '{name}' in this set (it has: {have})")
        return _read_parquet(self.path / f"{name}.parquet")

    def verify(self) -> None:
        """Compare the content with the digest; UserError if it differs."""
        found = _digest(self.path)
        if found != self.digest:
            raise UserError(
                f"{self.path}: the content is not what was written (digest {found[:12]} instead "
                f"of {self.digest[:12]}); build the set again"
            )

    def batches(self, size: int = 4096) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield (slice, stamps) of at most `size` stamps, for work that must not hold all."""
        for start in range(0, len(self), size):
            rows = slice(start, min(start + size, len(self)))
            yield rows, np.asarray(self.stamps[rows])

    def __len__(self) -> int:
        return len(self.stamps)

    def __getitem__(self, rows: int | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """Raw stamps of `rows`: (3, 51, 51) for one, (n, 3, 51, 51) for several."""
        if isinstance(rows, int | np.integer) and not -len(self) <= rows < len(self):
            raise IndexError(f"stamp {rows} of {len(self)}")
        return np.array(self.stamps[rows])

    def __repr__(self) -> str:
        return f"<StampSet {self.path} ({len(self)} stamps)>"

    def __str__(self) -> str:
        real, bogus, unknown = (int(np.sum(self.labels == k)) for k in (REAL, BOGUS, UNKNOWN))
        lines = [
            f"{self.name}: {len(self):,} candidates in {self.path}",
            f"  labels    {real:,} real, {bogus:,} bogus, {unknown:,} unknown",
            f"  channels  {', '.join(self.channels)} of {STAMP_SIZE}x{STAMP_SIZE} px"
            + (f" at {self.meta['pixel_scale']}″/px" if self.meta.get("pixel_scale") else ""),
            f"  groups    {self.catalogue['group'].nunique():,}",
            f"  NaN       {self.meta['n_nan_pixels']:,} pixels in {self.meta['n_nan_stamps']:,} "
            "stamps",
        ]
        numeric = [c for c in ("mag", "snr") if c in self.catalogue]
        for column in numeric:
            for label, what in ((REAL, "real"), (BOGUS, "bogus")):
                values = self.catalogue[column].to_numpy(dtype=float)[self.labels == label]
                values = values[np.isfinite(values)]
                if len(values):
                    low, mid, high = np.percentile(values, [5, 50, 95])
                    lines.append(
                        f"  {column:<9} {what:<5} median {mid:.2f} (5–95 %: {low:.2f}–{high:.2f})"
                    )
        lines.append(f"  digest    {self.digest[:16]}")
        return "\n".join(lines)


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
            _write_npy_header(self._file, 0)
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
        if stamps.ndim != 4 or stamps.shape[1:] != _SHAPE:
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
        array = _open_stamps(stamps)
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
        _write_npy_header(self._file, self._n)
        self._file.flush()
        os.fsync(self._file.fileno())
        # A catalogue of a million rows and fifty columns need not be in memory twice.
        one = len(self._rows) == 1
        catalogue = self._rows[0] if one else pd.concat(self._rows, ignore_index=True)
        problem = _catalogue_problem(catalogue, self._n)
        if problem:
            raise UserError(f"{self.path}: {problem}")
        catalogue.to_parquet(self._temporary / "catalogue.parquet", index=False)
        for name, table in self._tables.items():
            table.to_parquet(self._temporary / f"{name}.parquet", index=False)
        if len(_open_stamps(self._temporary / "stamps.npy")) != self._n:
            raise UserError(f"{self.path}: the stamps do not fill their file; build the set again")
        for name, document in self._documents.items():
            text = json.dumps(document, indent=1)
            (self._temporary / f"{name}.json").write_text(text, encoding="utf-8")
        self._meta |= {
            "n_stamps": self._n,
            "n_nan_pixels": self._nan_pixels,
            "n_nan_stamps": self._nan_stamps,
            "tables": sorted(self._tables),
            "digest": _digest(self._temporary),
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


def _catalogue_problem(catalogue: pd.DataFrame, n_stamps: int) -> str | None:
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


def _read_meta(path: Path) -> dict[str, Any]:
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


def _open_stamps(path: Path) -> np.ndarray:
    try:
        # allow_pickle stays off: a stamp file that comes from elsewhere must not run code.
        stamps = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path}: missing; build the set again") from None
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path}: truncated or not an array; build the set again") from error
    if stamps.dtype != np.dtype("<f4") or stamps.ndim != 4 or stamps.shape[1:] != _SHAPE:
        raise UserError(
            f"{path}: {stamps.dtype} array of shape {stamps.shape}, expected float32 (N, 3, 51, 51)"
        )
    return stamps


def _read_parquet(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except FileNotFoundError:
        raise UserError(f"{path}: missing; build the set again") from None
    except (ValueError, OSError) as error:  # pyarrow's ArrowInvalid is a ValueError
        raise UserError(f"{path}: truncated or not parquet; build the set again") from error


def _write_npy_header(file: Any, n: int) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": (n, *_SHAPE)}
    # write_array_header_1_0 leaves room for the number to grow, so that the header can be
    # written again over itself once the number of stamps is known.
    np.lib.format.write_array_header_1_0(file, header)


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    stamps = _open_stamps(folder / "stamps.npy")
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
                digest.update(buffer[:n])
                position += n
    return digest.hexdigest()


def _no_room(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{path}: cannot write the stamp set ({error.strerror or error}); nothing was kept"
    )
