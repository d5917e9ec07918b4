"""Records of an Avro object container file, whatever the file has been through.

The container (header, blocks of records, a 16-byte marker after each) is read here, and only the
records are left to fastavro. So the schema can be put right before it is used, no length in
the file is believed before it is compared with what is there, and reading goes on at the next
marker after a damaged block.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from rb.errors import UserError
from rb.sources.alerts.schema import AvroError, Schema, clean_schema

MAGIC = b"Obj\x01"
MAX_HEADER = 8 * 2**20
"""Most bytes of a file's header, which is little more than the schema."""

MAX_BLOCK = 64 * 2**20
"""Most bytes of one block, as stored and uncompressed."""

_SYNC = 16
_SMALL_PACKET = 1000
_SEARCH = 2**20


@dataclass(frozen=True)
class Damage:
    """A part of a file that could not be read, and how many packets were lost with it."""

    detail: str
    packets: int = 1


class AvroFile:
    """An Avro file, opened; ``schema`` says what is in it.

    Raises
    ------
    AvroError
        If the header or the schema cannot be used.
    UserError
        If fastavro is not installed.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        _needed()
        self._file = file
        self._size = size
        file.seek(0)
        if file.read(4) != MAGIC:
            raise AvroError("not an Avro file")
        meta = self._header()
        self._sync = file.read(_SYNC)
        if len(self._sync) < _SYNC:
            raise AvroError("the header is cut short")
        self.codec = meta.get("avro.codec", b"null").decode("ascii", "replace")
        if self.codec not in _CODECS:
            raise AvroError(f"blocks are compressed with '{self.codec:.20}', which is not read")
        if "avro.schema" not in meta:
            raise AvroError("the header has no schema")
        self.schema: Schema = clean_schema(meta["avro.schema"])

    def records(self) -> Iterator[dict[str, Any] | Damage]:
        """Yield the records, and a `Damage` for each part that cannot be read."""
        while (start := self._file.tell()) < self._size:
            try:
                count, data = self._block()
            except (AvroError, EOFError) as error:
                yield Damage(f"block at byte {start:,}: {error}")
                if not self._next_marker(start):
                    return
                continue
            after = self._file.tell()
            yield from self._decode(count, data, start)
            self._file.seek(after)

    def _header(self) -> dict[str, bytes]:
        meta: dict[str, bytes] = {}
        left = min(MAX_HEADER, self._size)
        try:
            while (count := self._long()) != 0:
                if count < 0:  # then the size of the block in bytes follows, which is not needed
                    self._long()
                for _ in range(abs(count)):
                    key, value = self._string(left), self._string(left)
                    left -= len(key) + len(value) + 2
                    if left < 0:
                        raise AvroError("the header is too long")
                    meta[key.decode("utf-8", "replace")] = value
        except EOFError:
            raise AvroError("the header is cut short") from None
        return meta

    def _block(self) -> tuple[int, bytes]:
        """Number of records and uncompressed bytes of the block that starts here."""
        count, length = self._long(), self._long()
        begin = self._file.tell()
        if count < 0 or length < 0 or begin + length + _SYNC > self._size:
            raise AvroError(f"{count:,} records in {length:,} bytes do not fit into the file")
        if length > MAX_BLOCK:
            raise AvroError(f"{length:,} bytes are more than {MAX_BLOCK >> 20} MiB")
        # The marker is compared before the block is read: a damaged length costs nothing then.
        self._file.seek(begin + length)
        if self._file.read(_SYNC) != self._sync:
            raise AvroError("the marker at its end is missing")
        self._file.seek(begin)
        data = _CODECS[self.codec](self._file.read(length))
        self._file.seek(begin + length + _SYNC)
        if count * self.schema.min_size > len(data):
            raise AvroError(f"{count:,} records cannot be in {len(data):,} bytes")
        return count, data

    def _decode(self, count: int, data: bytes, start: int) -> Iterator[dict[str, Any] | Damage]:
        import fastavro

        buffer = _buffer(self.schema, data)
        end = 0
        for i in range(count):
            try:
                record = fastavro.schemaless_reader(buffer, self.schema.writer, self.schema.reader)
            except Exception as error:
                # fastavro's answers to damaged bytes have no common base. What follows in this
                # block is lost, because nothing says where the next record starts.
                yield Damage(
                    f"record {i + 1} of {count} in the block at byte {start:,}: "
                    f"{type(error).__name__} ({error!s:.80})",
                    # The count may be what is damaged, so it is not believed beyond the data.
                    min(count - i, 1 + (len(data) - end) // _SMALL_PACKET),
                )
                return
            end = buffer.tell()
            yield record  # type: ignore[misc]

    def _next_marker(self, start: int) -> bool:
        """Go behind the first marker after byte `start`; False if there is none."""
        self._file.seek(start)
        window = b""
        while chunk := self._file.read(_SEARCH):
            window += chunk
            found = window.find(self._sync)
            if found >= 0:
                self._file.seek(start + found + _SYNC)
                return True
            start += max(0, len(window) - _SYNC + 1)
            window = window[-(_SYNC - 1) :]
        return False

    def _long(self) -> int:
        """Zigzag variable-length integer of at most 64 bits."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self._file.read(1)
            if not byte:
                raise EOFError("the file is cut short")
            value |= (byte[0] & 0x7F) << shift
            if byte[0] < 0x80:
                return (value >> 1) ^ -(value & 1)
        raise AvroError("a number has more than 64 bits")

    def _string(self, most: int) -> bytes:
        length = self._long()
        if not 0 <= length <= most:
            raise AvroError(f"the header promises {length:,} bytes")
        data = self._file.read(length)
        if len(data) < length:
            raise EOFError("the file is cut short")
        return data


class _Strict(io.BytesIO):
    """Bytes that end with an error.

    fastavro takes what it gets when it skips numbers and truth values, and would go round an
    array of 2**60 of them long after the data have ended. Reading takes twice as long with
    this, so it is for schemas that need it.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if size is None or len(data) != size:
            raise EOFError("the record is cut short")
        return data


def decode(schema: Schema, data: bytes) -> tuple[dict[str, Any], int]:
    """The record that `data` begins with, and its bytes.

    Raises
    ------
    AvroError
        If the bytes are no such record.
    UserError
        If fastavro is not installed.
    """
    _needed()
    import fastavro

    buffer = _buffer(schema, data)
    try:
        record = fastavro.schemaless_reader(buffer, schema.writer, schema.reader)
    except Exception as error:  # see `_decode`
        raise AvroError(f"{type(error).__name__} ({error!s:.80})") from error
    return record, buffer.tell()  # type: ignore[return-value]


def _buffer(schema: Schema, data: bytes) -> io.BytesIO:
    return _Strict(data) if schema.runs_on else io.BytesIO(data)


def _needed() -> None:
    try:
        import fastavro  # noqa: F401
    except ImportError:
        raise UserError(
            "Avro alerts need the package fastavro; install it with: pip install 'rb[alerts]'"
        ) from None


def _limited(data: bytes) -> bytes:
    if len(data) > MAX_BLOCK:
        raise AvroError(f"a block inflates beyond {MAX_BLOCK >> 20} MiB")
    return data


def _deflate(data: bytes) -> bytes:
    try:
        return _limited(zlib.decompressobj(-15).decompress(data, MAX_BLOCK + 1))
    except zlib.error as error:
        raise AvroError(f"damaged deflate data ({error})") from error


def _bzip2(data: bytes) -> bytes:
    try:
        return _limited(bz2.BZ2Decompressor().decompress(data, MAX_BLOCK + 1))
    except (OSError, ValueError, EOFError) as error:
        raise AvroError(f"damaged bzip2 data ({error})") from error


def _xz(data: bytes) -> bytes:
    try:
        # memlimit: an xz stream states how much memory its dictionary takes.
        inflate = lzma.LZMADecompressor(memlimit=4 * MAX_BLOCK)
        return _limited(inflate.decompress(data, MAX_BLOCK + 1))
    except (lzma.LZMAError, EOFError, MemoryError) as error:
        raise AvroError(f"damaged xz data ({error})") from error


def _snappy(data: bytes) -> bytes:
    import pyarrow as pa

    body, checksum = data[:-4], data[-4:]
    length = shift = 0
    for byte in body[:5]:
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if length > MAX_BLOCK:
        raise AvroError(f"a block inflates beyond {MAX_BLOCK >> 20} MiB")
    try:
        out = pa.Codec("snappy").decompress(body, decompressed_size=length, asbytes=True)
    except (OSError, ValueError) as error:
        raise AvroError(f"damaged snappy data ({error})") from error
    if zlib.crc32(out).to_bytes(4, "big") != checksum:
        raise AvroError("the checksum of a snappy block differs")
    return bytes(out)


def _zstandard(data: bytes) -> bytes:
    import pyarrow as pa

    try:
        with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
            return _limited(stream.read(MAX_BLOCK + 1))
    except (OSError, ValueError) as error:
        raise AvroError(f"damaged zstandard data ({error})") from error


_CODECS = {
    "null": _limited,
    "deflate": _deflate,
    "bzip2": _bzip2,
    "xz": _xz,
    "snappy": _snappy,
    "zstandard": _zstandard,
}
