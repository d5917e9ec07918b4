"""Rubin's alerts as they are sent: framed, with variances, PSFs and their place in the header."""

from __future__ import annotations

import io
import json
import logging
import math
import shutil
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from alert_makers import RUBIN_SCHEMA, container, read, rubin, write, ztf, ztf_file
from astropy.io import fits
from fastavro.utils import generate_one

from rb.errors import UserError
from rb.sources.alerts import wire
from rb.sources.alerts.source import open_stamps

VERSIONS = [(7, 0), (7, 1), (7, 2), (7, 3), (7, 4), (8, 0), (9, 0), (10, 0), (11, 0), (11, 1)]


@pytest.fixture(scope="module")
def schemas() -> Path:
    folder = wire._package()
    if folder is None:
        pytest.skip("lsst-alert-packet is not installed")
    return folder


def cutout(
    size: int = 30, crpix: tuple[float, float] | None = None, level: float = 1.0, psf: int = 41
) -> bytes:
    """A cutout as Rubin makes one: a peak in the pixel that is nearest to CRPIX (column, row)."""
    column, row = crpix or (size / 2, size / 2 + 0.9)
    pixels = level + np.arange(size * size, dtype="f4").reshape(size, size) / 1e4
    pixels[round(row - 1), round(column - 1)] = 1000
    header = fits.Header()
    header["BUNIT"] = "nJy"
    header["CRPIX1"], header["CRPIX2"] = column, row
    angle = math.radians(30)
    for (i, j), value in {
        (1, 1): -math.cos(angle), (1, 2): math.sin(angle),
        (2, 1): math.sin(angle), (2, 2): math.cos(angle),
    }.items():  # fmt: skip
        header[f"PC{i}_{j}"] = value * 0.2 / 3600
    y, x = np.mgrid[:psf, :psf] - psf // 2
    kernel = np.exp(-(x**2 + y**2) / (2 * 2.0**2))
    out = io.BytesIO()
    fits.HDUList(
        [
            fits.PrimaryHDU(pixels, header),
            fits.ImageHDU(np.full_like(pixels, 4.0), name="UNCERT"),
            fits.ImageHDU(7 * kernel, name="PSFIMAGE"),
        ]
    ).writeto(out)
    return out.getvalue()


def cutouts(**given: Any) -> dict[str, bytes]:
    return {
        "diff": cutout(level=1, **given),
        "srch": cutout(level=2, **given),
        "tmpl": cutout(level=3, psf=49, **given),
    }


def message(number: int, record: dict[str, Any], schema: Any) -> bytes:
    out = io.BytesIO(b"\0" + number.to_bytes(4, "big"))
    out.seek(0, io.SEEK_END)
    fastavro.schemaless_writer(out, schema, record)
    return out.getvalue()


def as_sent(schemas: Path, version: tuple[int, int], source: int = 5) -> bytes:
    """A message written with the schema that Rubin publishes."""
    major, minor = version
    folder = schemas / str(major) / str(minor)
    schema = fastavro.schema.load_schema(folder / f"lsst.v{major}_{minor}.alert.avsc")
    record: dict[str, Any] = generate_one(schema)
    record["diaSourceId"] = source
    for name in ("prvDiaSources", "prvDiaForcedSources"):
        record[name] = None if major >= 7 else record.get(name)
    record["diaSource"] |= {"diaSourceId": source, "diaObjectId": 2**60 + 1, "snr": 9.0}
    for name, data in zip(("Difference", "Science", "Template"), cutouts().values(), strict=True):
        record[f"cutout{name}"] = data
    return message(100 * major + minor, record, schema)


@pytest.mark.parametrize("version", VERSIONS)
def test_messages_of_all_versions(root: Path, schemas: Path, version: tuple[int, int]) -> None:
    write(root, "one", as_sent(schemas, version))
    stamps = read(root, stamp_size=None)
    row = stamps.catalogue.iloc[0]
    assert (row["id"], row["group"], row["snr"]) == (5, str(2**60 + 1), 9.0)
    assert stamps.meta["survey"] == "rubin" and stamps.stamp_size == 30
    expected = fits.getdata(io.BytesIO(cutouts()["srch"]))
    np.testing.assert_array_equal(stamps.stamps[0, 1], expected)


def test_messages_behind_one_another(root: Path, schemas: Path) -> None:
    first, second = as_sent(schemas, (10, 0), 1), as_sent(schemas, (9, 0), 2)
    write(root, "topic", first + second + first[:2000])
    stamps = read(root, stamp_size=None)
    assert list(stamps.ids) == [1, 2]
    (skipped,) = stamps.table("skipped").itertuples()
    assert skipped.reason == "damaged part of a file"
    assert f"message at byte {len(first) + len(second):,}" in skipped.detail


def test_an_unknown_schema_says_where_it_was_looked_for(root: Path, schemas: Path) -> None:
    write(root, "one", b"\0" + (1203).to_bytes(4, "big") + b"\2" * 100)
    with pytest.raises(UserError, match=r"schema 1203 \(version 12\.3\) is not known") as error:
        read(root)
    assert str(schemas) in str(error.value) and "data.schemas=FOLDER" in str(error.value)


def test_schemas_of_ones_own(root: Path, schemas: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = as_sent(schemas, (11, 1))
    own = root.parent / "schemas"
    shutil.copytree(schemas / "11" / "1", own / "deep", ignore=shutil.ignore_patterns("sample*"))
    monkeypatch.setattr(wire, "_package", lambda: None)
    wire.schema_of.cache_clear()
    write(root, "one", data)
    with pytest.raises(UserError, match="looked for in nowhere; install lsst-alert-packet"):
        read(root)
    assert len(read(root, schemas=str(own), stamp_size=None)) == 1
    wire.schema_of.cache_clear()


def one(root: Path, images: dict[str, bytes] | None = None, **measured: Any) -> None:
    write(root, "one", container([rubin(1, images or cutouts(), **measured)], RUBIN_SCHEMA))


def test_planes_and_what_headers_say(root: Path) -> None:
    one(root)
    stamps = read(root, stamp_size=None)
    assert stamps.arrays == ("variance", "psf") and stamps.psf is not None
    np.testing.assert_array_equal(stamps.variance, np.full((1, 3, 30, 30), 4.0))
    assert stamps.psf.shape == (1, 2, 41, 41)
    np.testing.assert_allclose(stamps.psf.sum(axis=(2, 3)), 1, rtol=1e-5)
    np.testing.assert_allclose(stamps.psf[0, 0], stamps.psf[0, 1], atol=1e-6)
    assert np.unravel_index(stamps.psf[0, 1].argmax(), (41, 41)) == (20, 20)
    row = stamps.catalogue.iloc[0]
    assert row["psf_fwhm_srch"] == pytest.approx(2.0 * 2.3548, abs=0.03)
    assert row["psf_e1_srch"] == pytest.approx(0, abs=1e-6)
    assert (row["sky_noise_tmpl"], row["zero_point_srch"]) == (2.0, 31.4)
    assert row["rotation"] == pytest.approx(30) and not row["mirrored"]
    assert read(root, stamp_size=None, planes=[]).arrays == ()
    assert read(root, stamp_size=None, psf_size=25).psf.shape[-1] == 25


@pytest.mark.parametrize("size", [30, 31, 45, 102])
@pytest.mark.parametrize("wanted", [None, 30, 51, 25])
def test_the_candidate_is_where_the_header_says(root: Path, size: int, wanted: int | None) -> None:
    crpix = (size / 2 + 0.52, size / 2 + 0.92)
    one(root, cutouts(size=size, crpix=crpix))
    stamps = read(root, stamp_size=wanted)
    n = wanted or size
    row = stamps.catalogue.iloc[0]
    assert abs(row["dx"]) <= 0.5 and abs(row["dy"]) <= 0.5
    if n <= size:
        assert row["n_padded"] == row["n_nan_rows"] == 0
    if n == size:
        assert (row["dx"], row["dy"]) == pytest.approx((0.02, 0.42))
    peak = np.unravel_index(np.nanargmax(stamps.stamps[0, 1]), (n, n))
    place = (n - 1) / 2 + row["dy"], (n - 1) / 2 + row["dx"]
    assert peak == pytest.approx(place, abs=0.51)
    assert row["n_nan_rows"] == 2 * max(0, n - size)
    assert np.isnan(stamps.variance[0]).sum() == np.isnan(stamps.stamps[0]).sum()


def test_rows_without_data_are_marked(root: Path) -> None:
    with fits.open(io.BytesIO(cutout())) as hdus:
        hdus[0].data[:3] = np.nan
        hdus[0].data[:, -1] = np.nan
        out = io.BytesIO()
        hdus.writeto(out)
    one(root, cutouts() | {"srch": out.getvalue()})
    row = read(root, stamp_size=None).catalogue.iloc[0]
    assert row["n_nan_rows"] == 4 and row["n_nan"] == 3 * 30 + 27 and row["n_padded"] == 0


def test_variances_are_resampled_as_their_pixels_are(root: Path) -> None:
    one(root, cutouts(size=60))
    stamps = read(root, stamp_size=21, pixel_scale_target=0.4)
    # The sum of four independent pixels of variance 4; the spline's weights are not quite that.
    np.testing.assert_allclose(stamps.variance[0, 1], 16, rtol=0.2)
    assert stamps.psf is not None
    assert stamps.catalogue["psf_fwhm_srch"][0] == pytest.approx(2.0 * 2.3548 / 2, rel=0.1)


@pytest.mark.parametrize(
    ("sign", "turned"), [("as_sent", False), ("difference", False), ("positive", True)]
)
def test_the_sign_of_negative_sources(root: Path, sign: str, turned: bool) -> None:
    one(root, isNegative=True)
    stamps = read(root, stamp_size=None, sign=sign)
    assert stamps.stamps[0, 0].max() == (1000 if not turned else -1)
    assert not stamps.catalogue["isdiffpos"][0]


def test_the_sign_of_ztfs_negative_sources(root: Path) -> None:
    write(root, "a", ztf_file(1, isdiffpos="f"))
    values = {sign: read(root, sign=sign).stamps[0, 0, 25, 25] for sign in ("as_sent", "difference", "positive")}  # fmt: skip  # noqa: E501
    assert values == {"as_sent": 101, "difference": -101, "positive": 101}


def nested(i: int, **measured: Any) -> dict[str, Any]:
    record = rubin(i, cutouts(), **measured)
    return {k: v for k, v in record.items() if k != "prvDiaSources"}


def test_kinds_of_bogus_and_weak_labels(root: Path) -> None:
    flags = [
        {"isDipole": True},
        {"isDipole": True, "pixelFlags_saturatedCenter": True},
        {"glint_trail": True, "pixelFlags_injectedCenter": True},
        {"pixelFlags_streak": True},
        {},
    ]
    keys = sorted({k for f in flags for k in f})
    rows = [nested(i, **(dict.fromkeys(keys, False) | f)) for i, f in enumerate(flags)]
    for i, row in enumerate(rows):  # pixels of their own, or they would be one candidate
        row["cutoutScience"] = cutout(level=2 + i)
    pq.write_table(pa.Table.from_pylist(rows), root / "part")
    catalogue = read(root, stamp_size=None, label={"flags": True}).catalogue
    assert catalogue["bogus_kind"].fillna("").tolist() == ["dipole", "saturated", "", "", ""]
    assert catalogue["label"].fillna(-1).tolist() == [1, 1, 0, -1, -1]
    assert catalogue["pixel_flags_streak"].tolist() == [False, False, False, True, False]


def test_objects_that_were_floating_point_in_some_parts(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    obj = 169813006680588318
    table = pa.Table.from_pylist([nested(1, diaObjectId=obj)])
    pq.write_table(table, root / "a")
    record = nested(2, diaObjectId=float(obj))
    record["cutoutScience"] = cutout(level=9)
    pq.write_table(pa.Table.from_pylist([record]), root / "b")
    with caplog.at_level(logging.WARNING):
        stamps = read(root, stamp_size=None)
    assert len(set(stamps.groups)) == 1
    assert "objects of 1 candidates came as floating-point numbers" in caplog.text


def test_identifiers_that_have_lost_digits_are_refused(root: Path) -> None:
    record = nested(1)
    record["diaSourceId"] = record["diaSource"]["diaSourceId"] = 2.0**60
    good = nested(2)
    good["diaSourceId"] = good["diaSource"]["diaSourceId"] = 17.0  # no digits are lost here
    pq.write_table(pa.Table.from_pylist([record, good]), root / "a")
    stamps = read(root, stamp_size=None)
    assert list(stamps.ids) == [17]
    (skipped,) = stamps.table("skipped").itertuples()
    assert skipped.reason == "identifier has lost digits"


def test_identifiers_that_are_the_same_in_all_packets(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for i in range(4):
        record = ztf(100 + i)
        record["candidate"]["candid"] = 89
        record["objectId"] = f"ZTF20a{i}"
        record.pop("prv_candidates")
        pq.write_table(pa.Table.from_pylist([record]), root / f"{i}")
    shutil.copy(root / "0", root / "copy")
    with caplog.at_level(logging.WARNING):
        stamps = read(root)
    # The pixels are alike here, so it is the packets' own identifiers that tell them apart.
    assert sorted(stamps.ids) == [100, 101, 102, 103]
    assert "4 candidates, 1 skipped (1 duplicate)" in caplog.text


def test_dates_that_python_cannot_hold_cost_nothing(root: Path) -> None:
    table = pa.Table.from_pylist([nested(i) for i in (1, 2)])
    dates = pa.array([2**62, 0], pa.timestamp("us"))
    pq.write_table(table.append_column("brokerTime", dates), root / "a")
    assert len(read(root, stamp_size=None)) == 2


def test_markers_of_spark_are_no_packets(root: Path) -> None:
    pq.write_table(pa.Table.from_pylist([nested(1)]), root / "part")
    for name in ("_SUCCESS", "_committed_12"):
        (root / name).touch()
    assert len(read(root, stamp_size=None).table("skipped")) == 0


@pytest.mark.parametrize("kind", ["bytes", "pixels", "rows"])
def test_cutouts_as_lists(root: Path, kind: str) -> None:
    record = ztf(1)
    record.pop("prv_candidates")
    for name in ("Science", "Template", "Difference"):
        data = record[f"cutout{name}"]["stampData"]
        pixels = np.arange(63.0 * 63).reshape(63, 63) + 0.5
        values = {"bytes": list(data), "pixels": pixels.ravel().tolist(), "rows": pixels.tolist()}
        record[f"cutout{name}"] = values[kind]
    pq.write_table(pa.Table.from_pylist([record]), root / "a")
    stamps = read(root)
    expected = 102 if kind == "bytes" else 31 * 63 + 31.5
    assert stamps.stamps[0, 1, 25, 25] == expected


def test_enum_symbols_outside_the_grammar(root: Path) -> None:
    valid = json.loads(json.dumps(RUBIN_SCHEMA))
    stated = json.loads(json.dumps(RUBIN_SCHEMA))
    for schema, symbols in ((valid, ["g", "r"]), (stated, ["g-band", "2 r"])):
        (source,) = (f for f in schema["fields"] if f["name"] == "diaSource")
        (band,) = (f for f in source["type"]["fields"] if f["name"] == "band")
        band |= {"type": {"type": "enum", "name": "band", "symbols": symbols}}
        band.pop("default")
    write(root, "a", container([rubin(1, cutouts())], valid, stated=stated))
    assert read(root, stamp_size=None).catalogue["band"][0] == "_2_r"


def test_the_15_alerts_of_a_broker_come_in_whole(shared_data: Path, tmp_path: Path) -> None:
    stamps = open_stamps(
        {"root": str(shared_data / "alerts" / "rubin"), "cache": str(tmp_path), "stamp_size": None},
        progress=False,
    )
    assert len(stamps) == 15 and stamps.stamp_size == 30 and len(stamps.table("skipped")) == 0
    assert stamps.arrays == ("variance", "psf")
    table = pq.read_table(next((shared_data / "alerts" / "rubin").glob("*.parquet"))).to_pylist()
    rows = stamps.catalogue
    for i, record in enumerate(table):
        source = record["diaSource"]
        assert rows["id"][i] == record["diaSourceId"]
        assert rows["group"][i] == str(source["diaObjectId"]), "diaObject has it as a float"
        assert rows["reliability"][i] == source["reliability"]
        for j, name in enumerate(("Difference", "Science", "Template")):
            with fits.open(io.BytesIO(record[f"cutout{name}"])) as hdus:
                np.testing.assert_array_equal(stamps.stamps[i, j], hdus[0].data)
                np.testing.assert_array_equal(stamps.variance[i, j], hdus["UNCERT"].data)
                header = hdus[0].header
        place = 14.5 + rows["dx"][i], 14.5 + rows["dy"][i]
        assert place == pytest.approx((header["CRPIX1"] - 1, header["CRPIX2"] - 1))
    assert rows["bogus_kind"].notna().sum() == 2 and rows["n_nan"].sum() == 0
