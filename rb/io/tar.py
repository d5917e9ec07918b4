"""Walk over the members of a tar file without unpacking it, whatever state it is in.

The shards of an archive have half a million members each and may be damaged; what is
needed of a member is its name, where it lies and how long it is. Python's own reader
keeps an object for each and ends at the first damage; this one keeps nothing, and takes
up again at the next intact header. It reads POSIX (ustar, pax), GNU and old tars.

Nothing is ever written by a member's name, so a hostile name cannot escape anywhere;
links, devices and names with ``..`` are passed over all the same.
"""

from __future__ import annotations

import contextlib
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

BLOCK = 512
_MAX_NAME = 2**16  # bytes of a long-name or pax record; more is damage
_MAX_ZERO_BLOCKS = 2048  # 1 MiB of nothing is the end, however long the file is
_NUMBER = re.compile(rb"[ \0]*([0-7]*)[ \0]*")


class Reader(Protocol):
    """Bytes at growing positions of a tar, packed or not."""

    def read(self, position: int, n: int) -> bytes:
        """Return at most `n` bytes at `position`; fewer only at the end."""


class PlainReader:
    """Reads an uncompressed tar by position; the file may shrink meanwhile."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY)

    def read(self, position: int, n: int) -> bytes:
        """Return at most `n` bytes at `position`."""
        return os.pread(self._fd, n, position)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class GzipReader:
    """Reads a gzipped tar forwards; a cut or damaged stream just ends, and `error` says so."""

    _CHUNK = 2**20

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("rb")
        self._expander = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._buffer = b""
        self._start = 0
        self.error: str | None = None
        self._ended = False

    def read(self, position: int, n: int) -> bytes:
        """Return at most `n` bytes at `position`, which must not go back behind a read."""
        while not self._ended and self._start + len(self._buffer) < position + n:
            if position > self._start:
                # What lies before the wanted position is never asked for again.
                cut = min(position - self._start, len(self._buffer))
                self._buffer = self._buffer[cut:]
                self._start += cut
            self._buffer += self._more()
        offset = position - self._start
        return self._buffer[offset : offset + n]

    def _more(self) -> bytes:
        packed = self._expander.unconsumed_tail or self._file.read(self._CHUNK)
        if self._expander.eof:
            # Several gzip streams in a row are one file; zeros may pad the last.
            packed = (self._expander.unused_data + packed).lstrip(b"\0")
            if not packed:
                self._ended = True
                return b""
            self._expander = zlib.decompressobj(zlib.MAX_WBITS | 16)
        elif not packed:
            self._ended = True
            self.error = "its gzip stream is cut off"
            return b""
        try:
            return self._expander.decompress(packed, 4 * self._CHUNK)
        except zlib.error as error:
            self._ended = True
            self.error = f"its gzip stream is damaged ({error})"
            return b""

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def open_reader(path: Path) -> contextlib.closing[PlainReader | GzipReader]:
    """Context manager with a reader for a tar; by its first bytes, not by its name."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return contextlib.closing(GzipReader(path) if packed else PlainReader(path))


@dataclass
class TarState:
    """What was met on the way besides regular files."""

    problems: list[str] = field(default_factory=list)
    links: int = 0
    special: int = 0
    escapes: int = 0


def walk(reader: Reader, state: TarState) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, offset of the data, size) of each regular member, in order.

    Damage is noted in ``state.problems``; the walk goes on behind it. A member whose data
    goes beyond the end of the file is yielded like any other.
    """
    position, zeros, long_name, pax_size = 0, 0, b"", -1
    while True:
        block = reader.read(position, BLOCK)
        if len(block) < BLOCK:
            if block or not zeros:
                state.problems.append(
                    f"ends at byte {position + len(block)} without an end mark (truncated?)"
                )
            return
        if not block[0] and block.count(0) == BLOCK:
            zeros += 1
            position += BLOCK
            if zeros > _MAX_ZERO_BLOCKS:
                return
            continue
        size = _size_of(block)
        if size < 0:
            if zeros >= 2:
                return  # behind the end mark anything may follow
            state.problems.append(f"has no valid member header at byte {position}")
            position = _next_header(reader, position + BLOCK)
            if position < 0:
                return
            long_name, pax_size = b"", -1
            continue
        zeros = 0
        kind = block[156:157]
        data = position + BLOCK
        if kind in b"LKxXg":
            if size > _MAX_NAME:
                state.problems.append(f"has a name of {size} bytes at byte {position}")
            elif kind == b"L":
                long_name = reader.read(data, size).rstrip(b"\0")
            elif kind in b"xX":
                name, pax_size = _pax(reader.read(data, size))
                long_name = name or long_name
            position = data + _padded(size)
            continue
        if pax_size >= 0:
            size = pax_size
        name = long_name or _name(block)
        long_name, pax_size = b"", -1
        if kind in b"0\x007":
            position = data + _padded(size)
            if b".." in name and b".." in name.split(b"/"):
                state.escapes += 1
            elif not name.endswith(b"/"):
                yield name, data, size
        else:
            if kind in b"12":
                state.links += 1
            elif kind != b"5":
                state.special += 1
            # Links, devices and folders have no data, whatever their size field says.
            position = data if kind in b"123456" else data + _padded(size)


def _name(block: bytes) -> bytes:
    name = block[:100].partition(b"\0")[0]
    # Only POSIX has a prefix there; GNU keeps times in its place.
    if block[345] and block[257:263] == b"ustar\0":
        return block[345:500].partition(b"\0")[0] + b"/" + name
    return name


def _size_of(block: bytes) -> int:
    """Size field of a header block, or -1 if this is no intact header."""
    checksum = _NUMBER.fullmatch(block, 148, 156)
    # The sum counts its own field as eight spaces.
    if (
        checksum is None
        or not checksum[1]
        or int(checksum[1], 8) != (sum(block) - sum(block[148:156]) + 256)
    ):
        return -1
    if block[124] & 0x80:
        return int.from_bytes(block[124:136], "big") & (2**62 - 1)
    size = _NUMBER.fullmatch(block, 124, 136)
    return int(size[1] or b"0", 8) if size else -1


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _next_header(reader: Reader, position: int) -> int:
    """Position of the next intact header from `position` on, or -1."""
    chunk = 256 * BLOCK
    while True:
        data = reader.read(position, chunk)
        at = data.find(b"ustar")
        while at >= 0:
            start = at - 257
            block = data[start : start + BLOCK] if start >= 0 else b""
            if start % BLOCK == 0 and len(block) == BLOCK and _size_of(block) >= 0:
                return position + start
            at = data.find(b"ustar", at + 1)
        if len(data) < chunk:
            return -1
        position += chunk


def _pax(records: bytes) -> tuple[bytes, int]:
    """Path and size of a pax extended header; empty and -1 where it has none."""
    path, size = b"", -1
    while records:
        length, space, _ = records.partition(b" ")
        if not space or not length.isdigit() or len(length) > 6 or int(length) < 5:
            break
        keyword, _, value = records[len(length) + 1 : int(length) - 1].partition(b"=")
        if keyword == b"path":
            path = value
        elif keyword == b"size" and value.isdigit() and len(value) < 19:
            size = int(value)
        records = records[int(length) :]
    return path, size
