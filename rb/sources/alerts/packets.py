"""Alert packets of several surveys, from Avro and Parquet files, in one form.

What a file is, is decided by its first bytes and its schema, never by its name. A packet's
cutouts are found by their keys, in any spelling: ``cutoutScience``, ``cutout_science``,
``cutoutscience``, or ``srch`` in a table; as bytes (Rubin, Palomar Gattini-IR, WINTER), as a
record with ``stampData``
(ZTF, Fink), as columns ``cutoutScience_stampData``, or together in a record ``stamps`` with
``science``, ``template`` and ``difference`` (ALeRCE). Measurements come from the record
``candidate`` or ``diaSource``, and from the packet itself.
"""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from rb.sources.alerts.avro import MAGIC, AvroFile, Damage
from rb.sources.alerts.names import CUTOUTS, cutouts_in, key
from rb.sources.alerts.schema import AvroError
from rb.sources.alerts.wire import is_framed, read_messages

MEASUREMENTS = ("candidate", "diasource")
"""Keys of the record that holds the measurements."""

SURVEYS = {"lsst": "rubin", "ztf": "ztf", "pgir": "pgir", "winter": "winter", "wirc": "wirc"}
"""Survey by the first part of a schema's name."""

_OBJECTS = (("ztf", "ztf"), ("pgir", "pgir"), ("wntr", "winter"), ("wirc", "wirc"))

_PARQUET = b"PAR1"
_BATCH_ROWS = 64
_LONGEST_TEXT = 200


class PacketFileError(ValueError):
    """A file that holds no packets, or none that can be reached."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


@dataclass
class Packet:
    """One alert.

    Attributes
    ----------
    survey : str
        ``ztf``, ``pgir``, ``winter``, ``wirc``, ``rubin``, the namespace of another survey's
        schema, or ``unknown``.
    fields : dict
        Single values by their key without case and punctuation (``objectid``, ``magpsf``,
        ``midpointmjdtai``); those of the measurement go before those of the packet.
    cutouts : dict
        Undecoded images by channel (``diff``, ``srch``, ``tmpl``); channels that the packet
        lacks are absent.
    own : dict
        The single values of the packet itself, where those of the measurement may differ.
    """

    survey: str
    fields: dict[str, Any] = field(default_factory=dict)
    cutouts: dict[str, Any] = field(default_factory=dict)
    own: dict[str, Any] = field(default_factory=dict)


def read_packets(
    path: Path, schemas: Path | None = None, wanted: Collection[str] | None = None
) -> Iterator[Packet | Damage]:
    """Yield the packets of the file `path`, and a `Damage` for each unreadable part.

    Memory is bounded by a block of the file (Avro) or 64 rows (Parquet), not by the file.

    Parameters
    ----------
    path : Path
        The file.
    schemas : Path, optional
        Folder of schemas for messages that come without theirs.
    wanted : collection of str, optional
        Keys of the fields that are read from Parquet, beside cutouts; all by default.

    Raises
    ------
    PacketFileError
        If the file is neither Avro nor Parquet, has no cutouts in its schema, or cannot be
        opened.
    """
    try:
        with path.open("rb") as file:
            yield from _read(file, path.stat().st_size, schemas, wanted)
    except OSError as error:
        raise PacketFileError("file cannot be read", error.strerror or str(error)) from error


def read_message(data: bytes, schemas: Path | None = None) -> Iterator[Packet | Damage]:
    """Yield the packets in a message of a stream, which is what files of them hold, too.

    A message without packets yields the `Damage` that says so.
    """
    found = False
    try:
        for packet in _read(io.BytesIO(data), len(data), schemas, None):
            found = True
            yield packet
        if not found:
            yield Damage("message holds no packet")
    except PacketFileError as error:
        yield Damage(str(error))


def _read(
    file: BinaryIO, size: int, schemas: Path | None, wanted: Collection[str] | None
) -> Iterator[Packet | Damage]:
    start = file.read(16)
    file.seek(0)
    if not start:
        raise PacketFileError("file is empty")
    if start.startswith(MAGIC):
        yield from _read_avro(file, size)
    elif start.startswith(_PARQUET):
        yield from _read_parquet(file, size, wanted)
    elif is_framed(start):
        yield from _read_framed(file, size, schemas)
    else:
        raise PacketFileError("neither Avro nor Parquet", f"starts with {start[:4]!r}")


def looks_like_packets(path: Path) -> bool:
    """Whether a file begins as Avro or Parquet does."""
    try:
        with path.open("rb") as file:
            return file.read(4) in (MAGIC, _PARQUET)
    except OSError:
        return False


def to_packet(record: Mapping[str, Any], schema_name: str = "") -> Packet:
    """Bring a decoded record of any survey into the form of `Packet`.

    Parameters
    ----------
    record : mapping
        The alert as its survey wrote it.
    schema_name : str
        Full name of its schema, such as ``lsst.v7_4.alert``, which tells the survey.
    """
    named = {key(name): value for name, value in record.items()}
    fields = {name: value for name, value in named.items() if _is_single(value)}
    own = dict(fields)
    obj = named.get("diaobject")
    if isinstance(obj, Mapping):
        for name, value in obj.items():
            if key(name) == "diaobjectid":
                fields.setdefault("diaobjectid", value)
    for name in MEASUREMENTS:
        part = named.get(name)
        if isinstance(part, Mapping):
            for inner, value in part.items():
                if _is_single(value) and (value is not None or key(inner) not in fields):
                    fields[key(inner)] = value
    return Packet(_survey(schema_name, fields), fields, _cutouts(named), own)


def has_cutouts(names: Iterable[str]) -> bool:
    """Tell whether a schema with fields `names` is that of an alert with images."""
    return bool(cutouts_in(names))


def _cutouts(named: dict[str, Any]) -> dict[str, Any]:
    stamps = named.get("stamps")
    if isinstance(stamps, Mapping):
        named = named | {"cutout" + key(name): value for name, value in stamps.items()}
    found: dict[str, Any] = {}
    for channel, names in CUTOUTS.items():
        for name in names:
            value = named.get(name)
            if value is None:
                value = named.get(name + "stampdata")
            if isinstance(value, Mapping):
                parts = {key(k): v for k, v in value.items()}
                value = parts.get("stampdata") or next(
                    (v for v in parts.values() if isinstance(v, bytes)), None
                )
            if value:  # neither null nor empty
                found[channel] = value
                break
        else:
            if isinstance(named.get(channel), bytes | list):
                found[channel] = named[channel]
    return found


def _survey(schema_name: str, fields: Mapping[str, Any]) -> str:
    space = re.split(r"[._]", schema_name.lower())[0]
    if space in SURVEYS:
        return SURVEYS[space]
    for name in ("objectid", "oid"):
        value = fields.get(name)
        if isinstance(value, str):
            for prefix, survey in _OBJECTS:
                if value.lower().startswith(prefix):
                    return survey
    if "." in schema_name and key(space):
        return key(space)
    return "rubin" if "diasourceid" in fields else "unknown"


def _is_single(value: Any) -> bool:
    """Numbers, short texts, truth values and null; not images, records and lists."""
    if isinstance(value, str):
        return len(value) <= _LONGEST_TEXT
    return value is None or isinstance(value, bool | int | float)


def _read_avro(file: BinaryIO, size: int) -> Iterator[Packet | Damage]:
    try:
        avro = AvroFile(file, size)
    except AvroError as error:
        raise PacketFileError("Avro file damaged", str(error)) from error
    if not has_cutouts(avro.schema.fields):
        raise PacketFileError("no cutouts in the schema", avro.schema.name)
    for record in avro.records():
        yield record if isinstance(record, Damage) else to_packet(record, avro.schema.name)


def _read_framed(file: BinaryIO, size: int, schemas: Path | None) -> Iterator[Packet | Damage]:
    try:
        for message in read_messages(file, size, schemas):
            if isinstance(message, Damage):
                yield message
                continue
            schema, record = message
            if not has_cutouts(schema.fields):
                raise PacketFileError("no cutouts in the schema", schema.name)
            yield to_packet(record, schema.name)
    except AvroError as error:
        raise PacketFileError("message cannot be read", str(error)) from error


def _read_parquet(
    file: BinaryIO, size: int, wanted: Collection[str] | None
) -> Iterator[Packet | Damage]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(
            file,
            buffer_size=2**20,  # read column chunks piece by piece instead of whole
            pre_buffer=False,
            thrift_string_size_limit=64 * 2**20,
            thrift_container_size_limit=2**20,
        )
        names = parquet.schema_arrow.names
        rows = parquet.metadata.num_rows
        columns = _columns(parquet, wanted)
    except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError) as error:
        raise PacketFileError("Parquet file damaged", _one_line(error)) from error
    if not has_cutouts(names):
        raise PacketFileError("no cutouts in the schema", ", ".join(names)[:80])
    if not 0 <= rows <= size:
        raise PacketFileError("Parquet file damaged", f"{rows:,} rows promised in {size:,} bytes")
    groups = parquet.num_row_groups
    for group in range(groups):
        yield from _read_group(parquet, group, columns, -(-rows // groups))


def _read_group(
    parquet: Any, group: int, columns: list[str], expected: int
) -> Iterator[Packet | Damage]:
    """Packets of one row group of about `expected`; damage in one leaves the others readable."""
    import pyarrow as pa

    # What the metadata say of a row group and its columns is not asked for here: pyarrow ends
    # the whole process when that part of a file is damaged, where reading only raises.
    done = 0
    try:
        for batch in parquet.iter_batches(
            batch_size=_BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False
        ):
            for record in batch.to_pylist():
                yield to_packet(record)
            done += len(batch)
    except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError) as error:
        yield Damage(
            f"row group {group}, from row {done + 1}: {_one_line(error)}", max(1, expected - done)
        )


def _columns(parquet: Any, wanted: Collection[str] | None) -> list[str]:
    """Paths of the columns that are read.

    Not those of lists, as an alert's history is most of its values. Not dates either, which no
    field is read from: Python has none beyond the year 9999, and one such costs its row group.
    """
    schema = parquet.schema
    images = cutouts_in(parquet.schema_arrow.names)
    found = []
    for column in (schema.column(i) for i in range(len(schema))):
        parts = column.path.split(".")
        if parts[0] in images or (
            column.max_repetition_level == 0
            and (len(parts) == 1 or key(parts[0]) in (*MEASUREMENTS, "diaobject"))
            and column.physical_type != "INT96"
            and column.logical_type.type not in ("TIMESTAMP", "DATE", "TIME")
            and (wanted is None or key(parts[-1]) in wanted)
        ):
            found.append(column.path)
    return found


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
