"""Avro schemas as surveys write them, made safe and readable.

The schema in a packet comes from outside and is often not valid: defaults of the wrong type,
fields named twice, names that Avro forbids. Only the layout of the bytes matters for reading, so
`clean_schema` keeps that and drops everything else: defaults, aliases, logical types,
documentation. Named types are written out where they are used.

It also refuses what could make a decoder loop, recurse or fill the memory: recursive types,
arrays of items that take no bytes, types that expand to very many fields.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rb.sources.alerts.names import is_cutout

MAX_FIELDS = 20_000
"""Most types and fields that a schema may have once all names are written out."""

MAX_DEPTH = 40
MAX_FIXED = 16 * 2**20

_PRIMITIVE = {
    "null": 0,
    "boolean": 1,
    "int": 1,
    "long": 1,
    "float": 4,
    "double": 8,
    "bytes": 1,
    "string": 1,
}


class AvroError(ValueError):
    """An Avro file or schema that cannot be read."""


@dataclass(frozen=True)
class Schema:
    """A cleaned schema.

    Attributes
    ----------
    name : str
        Full name of the record, such as ``ztf.alert``.
    writer : dict
        How the bytes are laid out, for fastavro.
    reader : dict
        The part of `writer` worth decoding: everything but arrays and maps, which hold an
        alert's history and would make it many times as large in memory. Cutouts are kept,
        whatever they are.
    min_size : int
        Fewest bytes that a record can take.
    runs_on : bool
        Whether it has arrays of nothing but numbers, truth values or fixed bytes. fastavro
        skips those without noticing that the data have ended.
    """

    name: str
    writer: Any
    reader: Any
    min_size: int
    runs_on: bool

    @property
    def fields(self) -> list[str]:
        """Names of the record's own fields."""
        return [f["name"] for f in self.reader["fields"]]


@lru_cache(maxsize=32)
def clean_schema(text: bytes) -> Schema:
    """Read the JSON of a schema.

    Raises
    ------
    AvroError
        If it is no schema of a record, or one that is not safe to decode by.
    """
    import fastavro

    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AvroError(f"the schema is no JSON ({type(error).__name__})") from error
    if isinstance(raw, list):  # all the types, with the alert itself as the last
        records = [t for t in raw if isinstance(t, dict)]
        if not records:
            raise AvroError("the schema is a union without records")
        walk = _Walk()
        for definition in records[:-1]:  # files of types have no order of their own
            if isinstance(definition.get("name"), str):
                space, name = _full_name(definition, "")
                walk.named[f"{space}.{name}"] = (definition, space)
        for definition in records[:-1]:
            walk.type(definition, "", 0)
        raw = records[-1]
    else:
        walk = _Walk()
    if not isinstance(raw, dict):
        raise AvroError("the schema is not that of a record")
    writer, min_size = walk.type(raw, "", 0)
    if not isinstance(writer, dict) or writer["type"] != "record":
        raise AvroError("the schema is not that of a record")
    if min_size == 0:
        raise AvroError("records of this schema take no bytes")
    runs_on = _runs_on(writer)
    try:
        reader: Any = fastavro.parse_schema(_worth_reading(writer))
        writer = fastavro.parse_schema(writer)
    except Exception as error:
        # Enum symbols and the like; fastavro's exceptions have no common base.
        raise AvroError(f"the schema is not valid ({error})") from error
    namespace, name = _full_name(raw, "")
    return Schema(f"{namespace}.{name}" if namespace else name, writer, reader, min_size, runs_on)


class _Walk:
    """Write out a schema type by type: ``type`` gives (clean schema, fewest bytes)."""

    def __init__(self) -> None:
        self.named: dict[str, tuple[dict[str, Any], str]] = {}
        self.open: set[str] = set()
        self.count = 0

    def type(self, node: Any, namespace: str, depth: int) -> tuple[Any, int]:
        self.count += 1
        if self.count > MAX_FIELDS:
            raise AvroError(f"the schema has more than {MAX_FIELDS:,} fields")
        if depth > MAX_DEPTH:
            raise AvroError(f"the schema is nested more than {MAX_DEPTH} deep")
        if isinstance(node, str):
            if node in _PRIMITIVE:
                return node, _PRIMITIVE[node]
            return self._reference(node, namespace, depth)
        if isinstance(node, list):
            return self._union(node, namespace, depth)
        if not isinstance(node, dict):
            raise AvroError(f"the schema has {node!r:.40} where a type should be")
        kind = node.get("type")
        if not isinstance(kind, str):
            return self.type(kind, namespace, depth + 1)
        if kind in ("record", "error", "enum", "fixed"):
            space, name = _full_name(node, namespace)
            full = f"{space}.{name}"
            self.named[full] = (node, space)
            return self._named(full, depth)
        if kind == "array":
            items, size = self.type(node.get("items"), namespace, depth + 1)
            if size == 0:
                raise AvroError("the schema has an array of items that take no bytes")
            return {"type": "array", "items": items}, 1
        if kind == "map":
            return {
                "type": "map",
                "values": self.type(node.get("values"), namespace, depth + 1)[0],
            }, 1
        return self.type(kind, namespace, depth + 1)

    def _reference(self, name: str, namespace: str, depth: int) -> tuple[Any, int]:
        for full in (name, f"{namespace}.{name}", f".{name}"):
            if full in self.named:
                return self._named(full, depth)
        raise AvroError(f"the schema uses the type '{name:.60}' without defining it")

    def _union(self, node: list[Any], namespace: str, depth: int) -> tuple[Any, int]:
        if not node or any(isinstance(branch, list) for branch in node):
            raise AvroError("the schema has an empty union, or a union in a union")
        return [self.type(branch, namespace, depth + 1)[0] for branch in node], 1

    def _named(self, full: str, depth: int) -> tuple[Any, int]:
        if full in self.open:
            raise AvroError(f"the schema's type '{full:.60}' contains itself")
        node, space = self.named[full]
        name = f"t{self.count}"  # written out at each use, so each use needs its own name
        if node["type"] == "enum":
            return {"type": "enum", "name": name, "symbols": _symbols(node)}, 1
        if node["type"] == "fixed":
            size = node.get("size")
            if not isinstance(size, int) or not 0 < size <= MAX_FIXED:
                raise AvroError(f"the schema has a fixed type of {size!r:.20} bytes")
            return {"type": "fixed", "name": name, "size": size}, size
        self.open.add(full)
        fields: list[dict[str, Any]] = []
        total = 0
        taken: set[str] = set()
        given = node.get("fields")
        if not isinstance(given, list):
            raise AvroError(f"the schema's record '{full:.60}' has no fields")
        for field in given:
            if not isinstance(field, dict) or not isinstance(field.get("name"), str):
                raise AvroError(f"the schema's record '{full:.60}' has a field without a name")
            clean, size = self.type(field.get("type"), space, depth + 1)
            label = field["name"]
            while label in taken:
                label += "_"
            taken.add(label)
            fields.append({"name": label, "type": clean})
            total += size
        self.open.discard(full)
        return {"type": "record", "name": name, "fields": fields}, total


def _symbols(node: dict[str, Any]) -> list[str]:
    """An enum's symbols, told apart; what Avro's grammar forbids in them becomes ``_``."""
    given = node.get("symbols")
    if not isinstance(given, list) or not 0 < len(given) <= MAX_FIELDS:
        raise AvroError("the schema has an enum without symbols, or with too many")
    found: dict[str, None] = {}
    for i, symbol in enumerate(given):
        name = re.sub(r"\W", "_", str(symbol)[:200], flags=re.ASCII)
        name = f"_{name}" if not name or name[0].isdigit() else name
        found[name if name not in found else f"{name}_{i}_"] = None
    return list(found)


def _full_name(node: dict[str, Any], namespace: str) -> tuple[str, str]:
    name, space = node.get("name"), node.get("namespace", namespace)
    if not isinstance(name, str) or not isinstance(space, str | None):
        raise AvroError("the schema has a type without a name")
    before, _, last = name.rpartition(".")
    return (before or space or ""), last


def _runs_on(node: Any) -> bool:
    if isinstance(node, list):
        return any(_runs_on(branch) for branch in node)
    if not isinstance(node, dict):
        return False
    if node["type"] == "record":
        return any(_runs_on(f["type"]) for f in node["fields"])
    if node["type"] == "array":
        return not _has_length(node["items"]) or _runs_on(node["items"])
    return node["type"] == "map" and _runs_on(node["values"])


def _has_length(node: Any) -> bool:
    """Whether the type begins with, or contains, a number that is read byte by byte."""
    if isinstance(node, dict) and node["type"] == "record":
        return any(_has_length(f["type"]) for f in node["fields"])
    if isinstance(node, dict):
        return node["type"] != "fixed"
    return node not in ("null", "boolean", "float", "double")


def _worth_reading(record: dict[str, Any]) -> dict[str, Any]:
    """The schema without arrays and maps, but for cutouts that are written as arrays."""
    fields = []
    for field in record["fields"]:
        kept = is_cutout(field["name"])
        kind = field["type"] if kept else _without_collections(field["type"])
        if kind is not None:
            fields.append({**field, "type": kind})
    return {**record, "fields": fields}


def _without_collections(node: Any) -> Any:
    """The schema without arrays and maps; None where nothing is left to read."""
    if isinstance(node, list):
        branches = [_without_collections(branch) for branch in node]
        return None if None in branches else branches
    if not isinstance(node, dict):
        return node
    if node["type"] in ("array", "map"):
        return None
    if node["type"] != "record":
        return node
    fields = [{**f, "type": _without_collections(f["type"])} for f in node["fields"]]
    return {**node, "fields": [f for f in fields if f["type"] is not None]}
