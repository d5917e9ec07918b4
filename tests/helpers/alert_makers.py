"""Alert packets of several surveys, written as they write them, and worse."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
from astropy.io import fits

from rb.sources.alerts.source import open_stamps
from rb.stamps import StampSet

SYNC = bytes(range(16))
LEVELS = {"diff": 1.0, "srch": 2.0, "tmpl": 3.0}


def image(level: float = 1.0, shape: tuple[int, int] = (63, 63), dtype: str = "f4") -> np.ndarray:
    """Pixels that differ from each other, with `level` + 100 at the candidate's place."""
    pixels = level + np.arange(shape[0] * shape[1], dtype=float).reshape(shape) / 1e4
    pixels[shape[0] // 2, shape[1] // 2] = level + 100
    return pixels.astype(dtype)


def fits_bytes(pixels: np.ndarray, compress: bool = True) -> bytes:
    out = io.BytesIO()
    fits.PrimaryHDU(pixels).writeto(out)
    return gzip.compress(out.getvalue(), 1, mtime=0) if compress else out.getvalue()


def triplet(
    shape: tuple[int, int] = (63, 63), dtype: str = "f4", compress: bool = True
) -> dict[str, bytes]:
    return {c: fits_bytes(image(level, shape, dtype), compress) for c, level in LEVELS.items()}


def varint(value: int) -> bytes:
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def header(schema: Any, codec: str = "null") -> bytes:
    text = schema if isinstance(schema, bytes) else json.dumps(schema).encode()
    meta = {b"avro.schema": text, b"avro.codec": codec.encode()}
    body = b"".join(varint(len(k)) + k + varint(len(v)) + v for k, v in meta.items())
    return b"Obj\x01" + varint(len(meta)) + body + varint(0) + SYNC


def block(count: int, data: bytes) -> bytes:
    return varint(count) + varint(len(data)) + data + SYNC


def encode(records: Iterable[dict[str, Any]], schema: Any) -> bytes:
    out = io.BytesIO()
    parsed = fastavro.parse_schema(json.loads(json.dumps(schema)))
    for record in records:
        fastavro.schemaless_writer(out, parsed, record)
    return out.getvalue()


def container(
    records: list[dict[str, Any]],
    schema: Any,
    *,
    stated: Any = None,
    codec: str = "null",
    squeeze: Callable[[bytes], bytes] = bytes,
    per_block: int = 1,
) -> bytes:
    """An Avro file whose header states the schema `stated`, valid or not."""
    out = header(stated if stated is not None else schema, codec)
    for i in range(0, len(records), per_block):
        part = records[i : i + per_block]
        out += block(len(part), squeeze(encode(part, schema)))
    return out


def _field(name: str, kind: Any) -> dict[str, Any]:
    return {"name": name, "type": kind}


def _nullable(name: str, kind: Any) -> dict[str, Any]:
    return {"name": name, "type": ["null", kind], "default": None}


ZTF_SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "alert",
    "namespace": "ztf",
    "fields": [
        _field("publisher", "string"),
        _field("objectId", "string"),
        _field("candid", "long"),
        _field(
            "candidate",
            {
                "type": "record",
                "name": "candidate",
                "namespace": "ztf.alert",
                "fields": [
                    _field("jd", "double"),
                    _field("fid", "int"),
                    _field("candid", "long"),
                    _field("isdiffpos", "string"),
                    _field("ra", "double"),
                    _field("dec", "double"),
                    _field("magpsf", "float"),
                    _field("sigmapsf", "float"),
                    _nullable("xpos", "float"),
                    _nullable("ypos", "float"),
                    _nullable("field", "int"),
                    _nullable("rcid", "int"),
                    _nullable("rb", "float"),
                    _nullable("drb", "float"),
                    _nullable("distnr", "float"),
                ],
            },
        ),
        _nullable("prv_candidates", {"type": "array", "items": "ztf.alert.candidate"}),
        _nullable(
            "cutoutScience",
            {
                "type": "record",
                "name": "cutout",
                "namespace": "ztf.alert",
                "fields": [_field("fileName", "string"), _field("stampData", "bytes")],
            },
        ),
        _nullable("cutoutTemplate", "ztf.alert.cutout"),
        _nullable("cutoutDifference", "ztf.alert.cutout"),
    ],
}


def ztf(candid: int, cutouts: dict[str, bytes] | None = None, **measured: Any) -> dict[str, Any]:
    cutouts = triplet() if cutouts is None else cutouts
    candidate = {
        "jd": 2458860.5,
        "fid": 2,
        "candid": candid,
        "isdiffpos": "t",
        "ra": 185.7,
        "dec": 15.8,
        "magpsf": 18.5,
        "sigmapsf": 0.1,
        "xpos": 1500.0,
        "ypos": 1500.0,
        "field": 576,
        "rcid": 10,
        "rb": 0.5,
        "drb": 0.75,
        "distnr": -999.0,
    } | {k: v for k, v in measured.items() if k != "objectId"}
    record = {
        "publisher": "ZTF",
        "objectId": measured.get("objectId", f"ZTF20a{candid}"),
        "candid": candid,
        "candidate": candidate,
        "prv_candidates": [candidate] * 3,
    }
    for name, channel in (("Science", "srch"), ("Template", "tmpl"), ("Difference", "diff")):
        data = cutouts.get(channel)
        record[f"cutout{name}"] = (
            None if data is None else {"fileName": f"{candid}_{channel}.fits.gz", "stampData": data}
        )
    return record


def ztf_file(candid: int, cutouts: dict[str, bytes] | None = None, **measured: Any) -> bytes:
    return container([ztf(candid, cutouts, **measured)], ZTF_SCHEMA)


WINTER_SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "alert",
    "namespace": "winter",
    "fields": [
        _field("objectid", "string"),
        _field("candid", "long"),
        _field(
            "candidate",
            {
                "type": "record",
                "name": "candidate",
                "fields": [
                    _field("jd", "double"),
                    _field("fid", "int"),
                    _field("fieldid", "int"),
                    _field("boardid", "int"),
                    _field("isdiffpos", "boolean"),
                    _field("magpsf", "float"),
                    _field("sigmapsf", "float"),
                    _field("rb", ["float", "null"]),
                ],
            },
        ),
        _field("cutout_science", "bytes"),
        _field("cutout_template", "bytes"),
        _field("cutout_difference", "bytes"),
    ],
}


def winter(candid: int, cutouts: dict[str, bytes] | None = None) -> dict[str, Any]:
    cutouts = triplet((81, 81), "f8") if cutouts is None else cutouts
    return {
        "objectid": "WNTR24aaaab",
        "candid": candid,
        "candidate": {
            "jd": 2460300.5,
            "fid": 2,
            "fieldid": 40,
            "boardid": 3,
            "isdiffpos": False,
            "magpsf": 15.0,
            "sigmapsf": 0.05,
            "rb": 0.25,
        },
        "cutout_science": cutouts["srch"],
        "cutout_template": cutouts["tmpl"],
        "cutout_difference": cutouts["diff"],
    }


RUBIN_SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "alert",
    "namespace": "lsst.v7_4",
    "fields": [
        _field("diaSourceId", "long"),
        _field(
            "diaSource",
            {
                "type": "record",
                "name": "diaSource",
                "fields": [
                    _field("diaSourceId", "long"),
                    _field("visit", "long"),
                    _field("detector", "int"),
                    _nullable("diaObjectId", "long"),
                    _nullable("ssObjectId", "long"),
                    _field("midpointMjdTai", "double"),
                    _field("ra", "double"),
                    _field("dec", "double"),
                    _nullable("psfFlux", "float"),
                    _nullable("psfFluxErr", "float"),
                    _nullable("snr", "float"),
                    _nullable("isNegative", "boolean"),
                    _nullable("band", "string"),
                    _nullable("reliability", "float"),
                ],
            },
        ),
        _nullable("prvDiaSources", {"type": "array", "items": "lsst.v7_4.diaSource"}),
        _nullable("cutoutDifference", "bytes"),
        _nullable("cutoutScience", "bytes"),
        _nullable("cutoutTemplate", "bytes"),
    ],
}


def rubin(source: int, cutouts: dict[str, bytes] | None = None, **measured: Any) -> dict[str, Any]:
    cutouts = triplet((62, 63), compress=False) if cutouts is None else cutouts
    found = {
        "diaSourceId": source,
        "visit": 12345,
        "detector": 94,
        "diaObjectId": 777,
        "ssObjectId": None,
        "midpointMjdTai": 60000.25,
        "ra": 53.0,
        "dec": -27.0,
        "psfFlux": -1000.0,
        "psfFluxErr": 50.0,
        "snr": 20.0,
        "isNegative": True,
        "band": "r",
        "reliability": 0.875,
    } | measured
    return {
        "diaSourceId": source,
        "diaSource": found,
        "prvDiaSources": [found] * 2,
        "cutoutDifference": cutouts.get("diff"),
        "cutoutScience": cutouts.get("srch"),
        "cutoutTemplate": cutouts.get("tmpl"),
    }


def invalid_defaults(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema` with null as the default of fields that cannot be null."""
    broken = json.loads(json.dumps(schema))
    for part in (broken, *(f["type"] for f in broken["fields"] if isinstance(f["type"], dict))):
        for field in part.get("fields", []):
            field["default"] = None
    return broken


def write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """A copy with flipped bytes, a piece missing, doubled or overwritten, or cut short."""
    raw = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        if not raw:
            break
        at = int(rng.integers(len(raw)))
        length = int(rng.integers(1, 64))
        match int(rng.integers(5)):
            case 0:
                raw[at] ^= int(rng.integers(1, 256))
            case 1:
                del raw[at : at + length]
            case 2:
                raw[at:at] = raw[at : at + length]
            case 3:
                raw[at : at + length] = rng.bytes(length)
            case _:
                del raw[at:]
    return bytes(raw)


def read(root: Path, **settings: Any) -> StampSet:
    config = {"root": str(root), "cache": str(root.parent / "cache"), **settings}
    return open_stamps(config, progress=False)


def reasons(stamps: StampSet) -> dict[str, int]:
    return stamps.table("skipped")["reason"].value_counts().to_dict()


def without(*channels: str) -> dict[str, bytes]:
    return {c: data for c, data in triplet().items() if c not in channels}
