"""Where candidates come from, whatever they are kept in, chunk by chunk."""

from __future__ import annotations

import hashlib
import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rb.errors import UserError
from rb.models.contract import Inputs
from rb.scoring.table import CHUNK, Chunk, stamp_size
from rb.stamps.batch import Stamps
from rb.stamps.layout import CHANNELS, mapped
from rb.stamps.stampset import StampSet

_DES = re.compile(r"(diff|srch|temp)[1-9][0-9]{0,17}\.fits(\.gz)?|.+\.(tar|tar\.gz|tgz)")

_PIECE = 8192  # candidates that one of many workers is given


class Source(Protocol):
    """Candidates in a fixed order."""

    @property
    def digest(self) -> str:
        """SHA-256 of what they are, or of names, sizes and times of change of their files."""

    @property
    def total(self) -> int | None:
        """How many there are, if that is known before they are read."""

    @property
    def unit(self) -> str:
        """What `total` and `done` count."""

    def chunks(self, start: Any, work: Path, stop: Any = None) -> Iterator[Chunk]:
        """Yield candidates from `start` on, None or a chunk's `position`, up to `stop`.

        `work` is a folder for what is worth keeping when the job is taken up.
        """

    def pieces(self) -> list[tuple[Any, Any]]:
        """Starts and stops of pieces for `chunks` that together are the whole."""

    def done(self, position: Any) -> float:
        """How far `position` is."""


def open_source(
    path: Path, inputs: Inputs, chunk: int = CHUNK, pixel_scale: float | None = None
) -> Source:
    """The candidates in a file or folder.

    Parameters
    ----------
    path : Path
        A stamp set, a ``.npy`` stack, a folder of alerts (Avro, Parquet, HATS), DES stamps.
    inputs : Inputs
        What the model is fed.
    chunk : int
        Candidates that are read at once.
    pixel_scale : float, optional
        arcsec per pixel that alerts are resampled to; as they come by default.

    Raises
    ------
    UserError
        If there is nothing, or nothing of a known kind, or it does not fit the model.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; give the candidates to be scored")
    if (path / "meta.json").is_file():
        return SetSource(StampSet.open(path), inputs, chunk)
    if path.suffix == ".npy":
        return ArraySource(path, inputs, chunk)
    if _is_des(path):
        from rb.scoring.archive import ArchiveSource

        return ArchiveSource(path, inputs)
    from rb.scoring.alerts import AlertSource

    return AlertSource(path, inputs, chunk, pixel_scale)


def _is_des(path: Path) -> bool:
    """Whether the first file that can be told is one of a DES archive."""
    files = [path] if path.is_file() else path.rglob("*")
    for file in files:
        if _DES.fullmatch(file.name):
            return True
        if file.suffix in (".avro", ".parquet"):
            return False
    return False


@dataclass(frozen=True)
class SetSource:
    """Candidates of a stamp set."""

    stamp_set: StampSet
    inputs: Inputs
    chunk: int = CHUNK
    unit: str = ""

    def __post_init__(self) -> None:
        self.inputs.check(self.stamp_set)

    @property
    def digest(self) -> str:
        """That of the set."""
        return self.stamp_set.stamps_digest

    @property
    def total(self) -> int:
        """Candidates of the set."""
        return len(self.stamp_set)

    def pieces(self) -> list[tuple[Any, Any]]:
        """Starts and stops of rows."""
        return _pieces(self.total)

    def chunks(self, start: int | None, work: Path, stop: int | None = None) -> Iterator[Chunk]:
        """Yield candidates in the order of the set."""
        ids = self.stamp_set.ids
        end = len(self.stamp_set) if stop is None else stop
        wanted = self.inputs if self.inputs.channels else None
        for first in range(start or 0, end, self.chunk):
            rows = slice(first, min(first + self.chunk, end))
            stamps = self.stamp_set.read(rows, wanted)  # type: ignore[arg-type]
            for array in (self.stamp_set.stamps, self.stamp_set.variance, self.stamp_set.psf):
                _forget(array)
            yield Chunk(ids[rows], stamps, rows.stop)

    def done(self, position: Any) -> float:
        """Candidates that are done."""
        return float(position or 0)


@dataclass(frozen=True)
class ArraySource:
    """Stamps (N, 3, S, S) in a ``.npy`` file; the row is the identifier."""

    path: Path
    inputs: Inputs
    chunk: int = CHUNK
    unit: str = ""

    def __post_init__(self) -> None:
        shape = self._array.shape
        size = stamp_size(self.inputs)
        want = f"(N, {len(CHANNELS)}, {size or 'S'}, {size or 'S'})"
        square = len(shape) == 4 and shape[1] == len(CHANNELS) and shape[2] == shape[3]
        if not square or (size and shape[3] != size) or self._array.dtype.kind not in "fiu":
            raise UserError(
                f"{self.path}: {self._array.dtype} array of shape {shape}, the model takes numbers "
                f"of shape {want}: diff, srch, tmpl"
            )

        if not shape[0]:
            raise UserError(f"{self.path}: holds no stamps; give the candidates to be scored")

    @property
    def _array(self) -> np.ndarray:
        return mapped(self.path)

    @property
    def digest(self) -> str:
        """Over name, size and time of change of the file."""
        status = self.path.stat()
        text = f"{self.path.name}\0{status.st_size}\0{status.st_mtime_ns}"
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def total(self) -> int:
        """Rows of the array."""
        return len(self._array)

    def pieces(self) -> list[tuple[Any, Any]]:
        """Starts and stops of rows."""
        return _pieces(self.total)

    def chunks(self, start: int | None, work: Path, stop: int | None = None) -> Iterator[Chunk]:
        """Yield the rows of the array."""
        array = self._array
        end = len(array) if stop is None else stop
        for first in range(start or 0, end, self.chunk):
            last = min(first + self.chunk, end)
            with np.errstate(over="ignore"):
                images = np.array(array[first:last], dtype=np.float32)
            _forget(array)
            yield Chunk(np.arange(first, last), Stamps(images), last)

    def done(self, position: Any) -> float:
        """Rows that are done."""
        return float(position or 0)


def _pieces(n: int) -> list[tuple[Any, Any]]:
    return [(first, min(first + _PIECE, n)) for first in range(0, n, _PIECE)]


def _forget(array: np.ndarray | None) -> None:
    """Give back the pages of a mapped file, which count as this process' memory."""
    if array is not None and isinstance(array.base, mmap.mmap):
        array.base.madvise(mmap.MADV_DONTNEED)
