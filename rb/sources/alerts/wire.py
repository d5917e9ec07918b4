"""Packets without their schema, framed as Kafka's schema registries want it.

A message is byte 0, four bytes with the number of its schema (big-endian), and one record of
Avro. Rubin numbers its schemas 100·major + minor; they are those of the package
`lsst-alert-packet`, which is read for its files alone, or of a folder that the user names. A file
may hold several messages behind one another, as a topic that was written out does.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from rb.sources.alerts.avro import Damage, decode
from rb.sources.alerts.schema import AvroError, Schema, clean_schema

MAGIC = b"\0"
MAX_MESSAGE = 16 * 2**20
"""Most bytes of one record."""

_HEAD = 5
_ALERT = re.compile(r"(?:.*\.)?v(\d+)_(\d+)\.alert\.avsc")


def read_messages(file: BinaryIO, size: int, schemas: Path | None) -> Iterator[Any]:
    """Yield (schema, record) of each message in `file`, and a `Damage` where reading ends.

    Parameters
    ----------
    file : file
        Open at its first byte.
    size : int
        Its bytes.
    schemas : Path, optional
        Folder of schemas, searched before the package.

    Raises
    ------
    AvroError
        If the first message's schema is not known, or its record damaged.
    """
    start = 0
    while start < size:
        file.seek(start)
        head = file.read(_HEAD)
        try:
            if len(head) < _HEAD or head[:1] != MAGIC:
                raise AvroError("no message begins there")
            schema = schema_of(int.from_bytes(head[1:], "big"), schemas)
            record, read = decode(schema, file.read(MAX_MESSAGE))
        except AvroError as error:
            if not start:
                raise
            yield Damage(f"message at byte {start:,}: {error}")
            return
        yield schema, record
        start += _HEAD + read


@lru_cache(maxsize=32)
def schema_of(number: int, folder: Path | None) -> Schema:
    """The schema of an alert by its number: 1001 is version 10.1.

    Raises
    ------
    AvroError
        If there is no such schema; it says where it was looked for.
    """
    major, minor = divmod(number, 100)
    places = [] if folder is None else [folder]
    package = _package()
    places += [package] if package else []
    for place in places:
        for path in sorted(place.rglob("*.avsc")):
            name = _ALERT.fullmatch(path.name)
            if name and (int(name[1]), int(name[2])) == (major, minor):
                return _read(path)
    looked = ", ".join(map(str, places)) or "nowhere"
    hint = "" if package else "; install lsst-alert-packet (pip install 'rb[rubin]') or"
    raise AvroError(
        f"schema {number} (version {major}.{minor}) is not known, looked for in {looked}"
        f"{hint or ';'} name a folder with it: data.schemas=FOLDER"
    )


def _read(alert: Path) -> Schema:
    """The schema in `alert`, with the types in the files beside it."""
    others = sorted(p for p in alert.parent.glob("*.avsc") if p != alert)
    try:
        parts = [json.loads(p.read_bytes()) for p in (*others, alert)]
    except (OSError, ValueError) as error:
        raise AvroError(f"{alert.parent}: schemas cannot be read ({error})") from error
    return clean_schema(json.dumps(parts).encode())


@lru_cache(maxsize=1)
def _package() -> Path | None:
    """Folder of the schemas in `lsst-alert-packet`; its code is not run."""
    try:
        found = importlib.util.find_spec("lsst.alert.packet")
    except ModuleNotFoundError:
        return None
    if found is None or not found.submodule_search_locations:
        return None
    return Path(next(iter(found.submodule_search_locations))) / "schema"


def is_framed(start: bytes) -> bool:
    """Whether a file that begins with `start` (16 bytes) may hold framed messages."""
    # Versions 1.0 to 99.99; a file of zeros or of some other format begins otherwise.
    return (
        len(start) > _HEAD
        and start[:1] == MAGIC
        and 100 <= int.from_bytes(start[1:5], "big") < 10**4
    )
