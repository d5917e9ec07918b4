"""Read one unit of work: some of a shard's stamps, into their places in ``stamps.npy``.

Runs in worker processes, so it imports little. Units are independent and writing one
twice writes the same bytes, which is what makes a build resumable.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rb.io.fits import MAX_BYTES, BadStamp, StampParser, gunzip
from rb.io.tar import open_reader
from rb.stamps.stampset import STAMP_SIZE

PLANE = 4 * STAMP_SIZE * STAMP_SIZE  # bytes of one stamp in stamps.npy
_BATCH = 256  # stamps checked and written together


@dataclass
class Unit:
    """Some stamps of one shard, in the order in which they lie there."""

    number: int
    path: str  # the tar, or the root of the tree
    names: list[str] | None  # of the files below `path`; None for a tar
    offsets: np.ndarray  # int64
    sizes: np.ndarray  # int64
    packed: np.ndarray  # bool
    places: np.ndarray  # int64, 3 * row + channel
    repeated: np.ndarray  # bool, another file claims the same place

    def __len__(self) -> int:
        return len(self.places)


@dataclass
class UnitResult:
    """What a unit's report needs; JSON-serialisable by `vars`."""

    number: int
    bad: list[tuple[int, str]] = field(default_factory=list)  # entry of the unit, reason
    nonfinite: list[tuple[int, int, int]] = field(default_factory=list)  # place, NaN, infinite
    digests: list[tuple[int, int, str]] = field(default_factory=list)  # entry, place, pixels'


def read_unit(unit: Unit, stamps: str, header: int) -> dict[str, Any]:
    """Read the stamps of `unit` and write them into the file `stamps`.

    Parameters
    ----------
    unit : Unit
        What to read.
    stamps : str
        The preallocated file; a place p lies at ``header + p * PLANE``.
    header : int
        Bytes before the first stamp.

    Returns
    -------
    dict
        The fields of a `UnitResult`. The pixels are on disk when it is returned.
    """
    result = UnitResult(unit.number)
    parser = StampParser(STAMP_SIZE)
    target = os.open(stamps, os.O_WRONLY)
    try:
        batch = _Batch(target, header, result)
        with contextlib.ExitStack() as stack, np.errstate(over="ignore", invalid="ignore"):
            fetch = _fetcher(unit, stack)
            packed, repeated = unit.packed.tolist(), unit.repeated.tolist()
            for entry, place in enumerate(unit.places.tolist()):
                try:
                    data = fetch(entry)
                    batch.add(place, parser.read(gunzip(data) if packed[entry] else data))
                except BadStamp as error:
                    result.bad.append((entry, str(error)))
                    continue
                if repeated[entry]:
                    digest = hashlib.blake2b(batch.last().tobytes(), digest_size=16).hexdigest()
                    result.digests.append((entry, place, digest))
            batch.flush()
        # A unit counts as done only when its pixels would survive a power failure.
        os.fdatasync(target)
    finally:
        os.close(target)
    return vars(result)


class _Batch:
    """Collects stamps, looks for NaN, and writes runs of neighbours in one go."""

    def __init__(self, target: int, header: int, result: UnitResult) -> None:
        self._target, self._header, self._result = target, header, result
        self._pixels = np.empty((_BATCH, STAMP_SIZE, STAMP_SIZE), np.float32)
        self._places: list[int] = []

    def add(self, place: int, pixels: np.ndarray) -> None:
        if len(self._places) == _BATCH:
            self.flush()
        self._pixels[len(self._places)] = pixels
        self._places.append(place)

    def last(self) -> np.ndarray:
        return self._pixels[len(self._places) - 1]

    def flush(self) -> None:
        n = len(self._places)
        if not n:
            return
        places = np.array(self._places)
        order = np.argsort(places, kind="stable")
        places, pixels = places[order], self._pixels[:n][order]
        finite = np.isfinite(pixels).all(axis=(1, 2))
        for i in np.flatnonzero(~finite):
            nan, infinite = int(np.isnan(pixels[i]).sum()), int(np.isinf(pixels[i]).sum())
            self._result.nonfinite.append((int(places[i]), nan, infinite))
        edges = np.flatnonzero(np.diff(places) != 1) + 1
        for start, stop in zip([0, *edges.tolist()], [*edges.tolist(), n], strict=True):
            _write(self._target, pixels[start:stop], self._header + int(places[start]) * PLANE)
        self._places.clear()


def _write(target: int, pixels: np.ndarray, position: int) -> None:
    data = memoryview(pixels.data).cast("B")
    while data:
        written = os.pwrite(target, data, position)
        data, position = data[written:], position + written


def _fetcher(unit: Unit, stack: contextlib.ExitStack) -> Callable[[int], bytes]:
    """Give a function that returns the bytes of an entry of `unit`."""
    sizes = unit.sizes.tolist()
    if unit.names is None:
        reader = stack.enter_context(open_reader(Path(unit.path)))
        offsets = unit.offsets.tolist()

        def from_tar(entry: int) -> bytes:
            size = sizes[entry]
            if size > MAX_BYTES:
                raise BadStamp("is larger than a stamp can be")
            try:
                data = reader.read(offsets[entry], size)
            except OSError as error:
                raise BadStamp(f"cannot be read ({error.strerror})") from error
            if len(data) < size:
                raise BadStamp(f"is cut off where its tar ends ({len(data)} of {size} bytes)")
            return data

        return from_tar
    names = unit.names

    def from_file(entry: int) -> bytes:
        if sizes[entry] > MAX_BYTES:
            raise BadStamp("is larger than a stamp can be")
        try:
            # Without O_NONBLOCK, a named pipe that took the file's place would wait for ever.
            fd = os.open(f"{unit.path}/{names[entry]}", os.O_RDONLY | os.O_NONBLOCK)
            try:
                return os.read(fd, MAX_BYTES)
            finally:
                os.close(fd)
        except OSError as error:
            raise BadStamp(f"cannot be read ({error.strerror})") from error

    return from_file
