"""Packets of every survey from valid, invalid and hostile files."""

from __future__ import annotations

import bz2
import json
import lzma
import pickle
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from alert_makers import (
    RUBIN_SCHEMA,
    SYNC,
    WINTER_SCHEMA,
    ZTF_SCHEMA,
    block,
    container,
    damage,
    encode,
    header,
    image,
    invalid_defaults,
    rubin,
    triplet,
    varint,
    winter,
    write,
    ztf,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from rb.sources.alerts.avro import Damage
from rb.sources.alerts.cutouts import decode_cutout
from rb.sources.alerts.packets import Packet, PacketFileError, key, read_packets, to_packet
from rb.sources.alerts.schema import AvroError, clean_schema


def packets(path: Path) -> list[Packet]:
    found = list(read_packets(path))
    assert all(isinstance(p, Packet) for p in found), found
    return found  # type: ignore[return-value]


def deflate(data: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=-15)
    return squeeze.compress(data) + squeeze.flush()


def snappy(data: bytes) -> bytes:
    body = pa.Codec("snappy").compress(data, asbytes=True)
    return body + zlib.crc32(data).to_bytes(4, "big")


def zstandard(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


CODECS = {
    "null": bytes,
    "deflate": deflate,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "snappy": snappy,
    "zstandard": zstandard,
}


@pytest.mark.parametrize(
    ("record", "schema", "survey", "shape"),
    [
        (ztf(1), ZTF_SCHEMA, "ztf", (63, 63)),
        (winter(1), WINTER_SCHEMA, "winter", (81, 81)),
        (rubin(1), RUBIN_SCHEMA, "rubin", (62, 63)),
    ],
)
def test_each_survey_gives_the_same_kind_of_packet(
    tmp_path: Path, record: dict[str, Any], schema: Any, survey: str, shape: tuple[int, int]
) -> None:
    (packet,) = packets(write(tmp_path, "p.bin", container([record], schema)))
    assert packet.survey == survey
    assert list(packet.cutouts) == ["diff", "srch", "tmpl"]
    for channel, level in (("diff", 1.0), ("srch", 2.0), ("tmpl", 3.0)):
        pixels = decode_cutout(packet.cutouts[channel])
        assert pixels.shape == shape
        assert pixels[shape[0] // 2, shape[1] // 2] == level + 100


def test_history_is_not_decoded(tmp_path: Path) -> None:
    (packet,) = packets(write(tmp_path, "p", container([ztf(5, jd=1.5)], ZTF_SCHEMA)))
    assert packet.fields["jd"] == 1.5
    assert "prvcandidates" not in packet.fields
    names = clean_schema(json.dumps(ZTF_SCHEMA).encode()).fields
    assert "prv_candidates" not in names and "candidate" in names


@pytest.mark.parametrize("codec", CODECS)
def test_codecs_and_many_records_in_blocks(tmp_path: Path, codec: str) -> None:
    records = [rubin(i) for i in range(7)]
    data = container(records, RUBIN_SCHEMA, codec=codec, squeeze=CODECS[codec], per_block=3)
    found = packets(write(tmp_path, "many", data))
    assert [p.fields["diasourceid"] for p in found] == list(range(7))


def test_history_of_plain_numbers(tmp_path: Path) -> None:
    """Arrays whose end fastavro does not see are read with more care, not refused."""
    schema = json.loads(json.dumps(RUBIN_SCHEMA))
    schema["fields"].insert(0, {"name": "past", "type": {"type": "array", "items": "double"}})
    assert clean_schema(json.dumps(schema).encode()).runs_on
    assert not clean_schema(json.dumps(RUBIN_SCHEMA).encode()).runs_on
    data = container([rubin(3) | {"past": [1.5] * 1000}], schema)
    assert packets(write(tmp_path, "p", data))[0].fields["diasourceid"] == 3


def test_files_that_fastavro_writes(tmp_path: Path) -> None:
    path = tmp_path / "many.avro"
    with path.open("wb") as file:
        fastavro.writer(file, fastavro.parse_schema(ZTF_SCHEMA), [ztf(i) for i in range(3)])
    assert [p.fields["candid"] for p in packets(path)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("records", "schema"),
    [([ztf(1)], ZTF_SCHEMA), ([winter(1)], WINTER_SCHEMA), ([rubin(1)], RUBIN_SCHEMA)],
)
def test_invalid_null_defaults_are_put_right(
    tmp_path: Path, records: list[dict[str, Any]], schema: Any
) -> None:
    data = container(records, schema, stated=invalid_defaults(schema))
    path = write(tmp_path, "p", data)
    with path.open("rb") as file, pytest.raises(fastavro.schema.SchemaParseException):
        list(fastavro.reader(file))
    (packet,) = packets(path)
    assert len(packet.cutouts) == 3


def test_fields_named_twice_and_bad_names(tmp_path: Path) -> None:
    schema = json.loads(json.dumps(WINTER_SCHEMA))
    fields = schema["fields"][2]["type"]["fields"]
    fields.insert(0, {"name": "not a name!", "type": "double", "aliases": "none"})
    fields.append({"name": "rb", "type": {"type": "int", "logicalType": "date"}})
    valid = json.loads(json.dumps(schema))
    valid["fields"][2]["type"]["fields"][0] = {"name": "other", "type": "double"}
    valid["fields"][2]["type"]["fields"][-1] = {"name": "rb_twice", "type": "int"}
    record = winter(4)
    record["candidate"] |= {"other": 2.5, "rb_twice": 7}
    (packet,) = packets(write(tmp_path, "p", container([record], valid, stated=schema)))
    assert packet.fields["notaname"] == 2.5
    assert packet.cutouts.keys() == {"diff", "srch", "tmpl"}


def test_a_damaged_block_costs_only_itself(tmp_path: Path) -> None:
    data = bytearray(container([ztf(i) for i in range(5)], ZTF_SCHEMA))
    starts = [i for i in range(len(data)) if data.startswith(SYNC, i)]
    data[starts[1] - 3 : starts[1] + 4] = b"garbage"  # breaks the second marker
    found = list(read_packets(write(tmp_path, "p", bytes(data))))
    good = [p.fields["candid"] for p in found if isinstance(p, Packet)]
    assert good == [1 + 1, 3, 4] and sum(isinstance(p, Damage) for p in found) == 1


def test_a_cut_file_keeps_what_is_whole(tmp_path: Path) -> None:
    data = container([rubin(i) for i in range(4)], RUBIN_SCHEMA)
    found = list(read_packets(write(tmp_path, "p", data[:-1000])))
    assert [isinstance(p, Packet) for p in found] == [True, True, True, False]


def test_missing_cutouts_are_absent(tmp_path: Path) -> None:
    cutouts = triplet()
    del cutouts["diff"]
    (packet,) = packets(write(tmp_path, "p", container([ztf(1, cutouts)], ZTF_SCHEMA)))
    assert list(packet.cutouts) == ["srch", "tmpl"]


def parquet_rows() -> list[dict[str, Any]]:
    return [ztf(i, objectId=f"ZTF21{i}") for i in range(150)]


def test_parquet_with_nested_and_flat_columns(tmp_path: Path) -> None:
    rows = parquet_rows()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "nested", row_group_size=40)
    flat = [
        {"candid": r["candid"], "objectId": r["objectId"], "drb": r["candidate"]["drb"]}
        | {
            f"cutout{c}_stampData": r[f"cutout{c}"]["stampData"]
            for c in ("Science", "Template", "Difference")
        }
        for r in rows
    ]
    pq.write_table(pa.Table.from_pylist(flat), tmp_path / "flat")
    for name in ("nested", "flat"):
        found = packets(tmp_path / name)
        assert [p.fields["candid"] for p in found] == list(range(150))
        assert {p.survey for p in found} == {"ztf"}
        assert all(p.fields["drb"] == 0.75 for p in found)
        assert decode_cutout(found[-1].cutouts["diff"])[31, 31] == 101


def test_alerce_record_of_stamps() -> None:
    record = {"oid": "ZTF20x", "candid": "12", "stamps": {"science": b"s", "template": b"t"}}
    packet = to_packet(record, "alerce.alert")
    assert packet.cutouts == {"srch": b"s", "tmpl": b"t"} and packet.survey == "ztf"


@given(st.text())
def test_key_keeps_only_letters_and_digits(name: str) -> None:
    assert key(name) == key(key(name)) and (not key(name) or key(name).isalnum())


ONE = [{"name": "cutoutScience", "type": ["null", "bytes"]}]


def record_of(*fields: Any, name: str = "alert") -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [*ONE, *fields]}


def doubling(depth: int) -> dict[str, Any]:
    node: Any = "null"
    for i in range(depth):
        inner = {"type": "record", "name": f"r{i}", "fields": [{"name": "a", "type": node}]}
        inner["fields"].append({"name": "b", "type": f"r{i - 1}" if i else "null"})
        node = inner
    return record_of({"name": "x", "type": node})


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (record_of({"name": "x", "type": ["null", "alert"]}), "contains itself"),
        (record_of({"name": "x", "type": {"type": "array", "items": "null"}}), "no bytes"),
        (doubling(30), "more than 20,000 fields"),
        (record_of({"name": "x", "type": "missing"}), "without defining it"),
        (record_of({"name": "x", "type": {"type": "fixed", "name": "f", "size": 2**60}}), "fixed"),
        ({"type": "record", "name": "a", "fields": [{"name": "x", "type": "null"}]}, "no bytes"),
        ("string", "not that of a record"),
        ([], "without records"),
        (b"{" * 100_000, "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"\xff\xfe", "no JSON"),
    ],
)
def test_schemas_that_are_refused(schema: Any, message: str) -> None:
    text = schema if isinstance(schema, bytes) else json.dumps(schema).encode()
    with pytest.raises(AvroError, match=message):
        clean_schema(text)


TEXT = json.dumps(record_of()).encode()


def history_bomb(kind: Any) -> bytes:
    item = {"type": "record", "name": "i", "fields": [{"name": "v", "type": kind}]}
    schema = record_of({"name": "history", "type": {"type": "array", "items": item}})
    return header(schema) + block(1, varint(0) + varint(2**40) + bytes(2**18))


BOMBS: dict[str, Callable[[], bytes]] = {
    "count": lambda: header(TEXT) + varint(2**60) + varint(3) + b"\0\0\0" + SYNC,
    "length": lambda: header(TEXT) + varint(1) + varint(2**60) + b"\0" * 100,
    "negative": lambda: header(TEXT) + varint(-5) + varint(-7) + b"\0" * 100,
    "cutout": lambda: header(TEXT) + block(1, varint(1) + varint(2**50)),
    "below": lambda: header(TEXT) + block(1, varint(1) + varint(-5) + b"\0" * 50),
    "deflate": lambda: header(TEXT, "deflate") + block(1, deflate(bytes(2**27))),
    "zstandard": lambda: header(TEXT, "zstandard") + block(1, zstandard(bytes(2**27))),
    "bzip2": lambda: header(TEXT, "bzip2") + block(1, bz2.compress(bytes(2**27), 1)),
    "snappy": lambda: header(TEXT, "snappy") + block(1, varint(2**40) + b"\0" * 50),
    "truths": lambda: history_bomb("boolean"),
    "numbers": lambda: history_bomb("double"),
    "fixed": lambda: history_bomb({"type": "fixed", "name": "f", "size": 3}),
    "texts": lambda: history_bomb("string"),
    "header": lambda: b"Obj\x01" + varint(2**40) + varint(2**50),
    "endless": lambda: b"Obj\x01" + varint(1) + b"\xff" * 5000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_cost_neither_memory_nor_time(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, BOMBS[name]())
    tracemalloc.start()
    begin = time.process_time()
    try:
        found = list(read_packets(path))
    except PacketFileError:
        found = []
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not any(isinstance(p, Packet) for p in found)
    assert time.process_time() - begin < 5
    assert used < 300 * 2**20


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"\0\0\0\0\x07packet without a schema", "neither Avro nor Parquet"),
        (pickle.dumps({"candid": 1}), "neither Avro nor Parquet"),
        (b"Obj\x01", "Avro file damaged.*cut short"),
        (header(b"{}"), "Avro file damaged"),
        (header(ZTF_SCHEMA, "rot13"), "rot13"),
        (header({"type": "record", "name": "a.b", "fields": [{"name": "x", "type": "int"}]}),
         "no cutouts in the schema"),
        (b"PAR1" + bytes(100), "Parquet file damaged"),
    ],
)  # fmt: skip
def test_files_that_are_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(PacketFileError, match=reason):
        list(read_packets(write(tmp_path, "x.avro", data)))


def test_parquet_without_cutouts_and_missing_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "t")
    with pytest.raises(PacketFileError, match="no cutouts in the schema"):
        list(read_packets(tmp_path / "t"))
    with pytest.raises(PacketFileError, match="cannot be read"):
        list(read_packets(tmp_path / "none"))


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("samples")
    small = {c: b"\x1f\x8b" + bytes(40) for c in ("diff", "srch", "tmpl")}
    pq.write_table(pa.Table.from_pylist([ztf(i, small) for i in range(5)]), folder / "p")
    return {
        "ztf": container([ztf(i, small) for i in range(3)], ZTF_SCHEMA),
        "rubin": container(
            [rubin(i, small) for i in range(3)], RUBIN_SCHEMA, codec="deflate", squeeze=deflate
        ),
        "parquet": (folder / "p").read_bytes(),
    }


@pytest.mark.parametrize("kind", ["ztf", "rubin", "parquet"])
def test_damaged_files_are_read_or_refused(
    tmp_path: Path, samples: dict[str, bytes], kind: str
) -> None:
    outcomes = set()
    for seed in range(150):
        path = write(tmp_path, "x", damage(samples[kind], np.random.default_rng(seed)))
        begin = time.process_time()
        try:
            for found in read_packets(path):
                assert isinstance(found, Packet | Damage)
                outcomes.add(type(found))
        except PacketFileError:
            outcomes.add(PacketFileError)
        assert time.process_time() - begin < 5
    assert outcomes == {Packet, Damage, PacketFileError}


def test_damaged_parquet_footers(tmp_path: Path, samples: dict[str, bytes]) -> None:
    """pyarrow can end the process over these, so this test may not just fail."""
    whole = samples["parquet"]
    footer = int.from_bytes(whole[-8:-4], "little")
    rng = np.random.default_rng(3)
    for _ in range(400):
        data = bytearray(whole)
        for at in rng.integers(len(data) - 8 - footer, len(data) - 8, 3):
            data[at] = rng.integers(256)
        try:
            assert all(
                isinstance(p, Packet | Damage)
                for p in read_packets(write(tmp_path, "x", bytes(data)))
            )
        except PacketFileError as error:
            assert "Parquet" in str(error) or "no cutouts" in str(error)


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes_as_blocks(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = write(tmp_path_factory.getbasetemp(), "any", header(ZTF_SCHEMA) + data)
    for found in read_packets(path):
        assert isinstance(found, Packet | Damage)


@given(st.recursive(
    st.one_of(st.none(), st.integers(), st.sampled_from(
        ["record", "array", "map", "fixed", "enum", "null", "bytes", "string", "a", ""])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(
            ["type", "name", "fields", "items", "values", "symbols", "size", "namespace"]),
            inner, max_size=6)),
    max_leaves=25,
))  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_any_json_as_schema(schema: Any) -> None:
    try:
        found = clean_schema(json.dumps(schema).encode())
    except AvroError:
        return
    assert found.min_size > 0


def test_encoding_helper_agrees_with_fastavro(tmp_path: Path) -> None:
    """The files of these tests are what fastavro itself reads."""
    path = write(tmp_path, "p", container([ztf(9)], ZTF_SCHEMA))
    with path.open("rb") as file:
        (record,) = fastavro.reader(file)
    assert record["candid"] == 9 and encode([record], ZTF_SCHEMA) == encode([ztf(9)], ZTF_SCHEMA)
    assert image()[31, 31] == 101
