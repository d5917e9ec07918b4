"""Alert packets through the front door: a folder in, a stamp set out."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from alert_makers import (
    RUBIN_SCHEMA,
    WINTER_SCHEMA,
    ZTF_SCHEMA,
    container,
    fits_bytes,
    image,
    invalid_defaults,
    read,
    reasons,
    rubin,
    triplet,
    winter,
    without,
    write,
    ztf,
    ztf_file,
)
from omegaconf import OmegaConf

from rb.errors import UserError
from rb.sources.alerts import source as alerts
from rb.sources.alerts.settings import AlertSettings
from rb.sources.alerts.source import open_stamps

CONFIG = Path(__file__).resolve().parents[3] / "conf" / "data" / "alerts.yaml"


def test_the_shipped_configuration_states_the_defaults(tmp_path: Path) -> None:
    config = OmegaConf.create({"paths": {"cache": str(tmp_path)}, "data": OmegaConf.load(CONFIG)})
    config.data.root = "alerts"
    found = AlertSettings.from_config(config.data)
    assert found == AlertSettings(root=Path("alerts").absolute(), cache=tmp_path)


def test_ztf_folder(root: Path) -> None:
    for i in (7, 8):
        write(root, f"sub{i}/{i}.avro", ztf_file(i, objectId="ZTF20same"))
    write(root, "many", container([ztf(i) for i in range(20, 25)], ZTF_SCHEMA, per_block=2))
    stamps = read(root)
    assert len(stamps) == 7 and stamps.channels == ("diff", "srch", "tmpl")
    assert stamps.meta["survey"] == "ztf" and stamps.meta["pixel_scale"] == 1.012
    assert sorted(stamps.ids) == [7, 8, 20, 21, 22, 23, 24]
    assert stamps.ids.dtype == np.int64
    for i, level in enumerate((1.0, 2.0, 3.0)):
        np.testing.assert_array_equal(stamps.stamps[0, i], image(level)[6:57, 6:57])
    assert (stamps.labels == -1).all()
    row = stamps.catalogue.set_index("id").loc[8]
    assert row["group"] == row["object_id"] == "ZTF20same" and row["candid"] == 8
    assert (row["band"], row["fid"], row["field"], row["rcid"]) == ("r", 2, 576, 10)
    assert row["mag"] == row["magpsf"] == 18.5
    assert row["snr"] == pytest.approx(2.5 / math.log(10) / 0.1, rel=1e-6)
    assert row["drb"] == 0.75 and row["rb"] == 0.5 and row["isdiffpos"]
    assert math.isnan(row["dist_ref"]), "-999 means that there is no value"
    assert row["file"] == os.path.join("sub8", "8.avro")
    assert reasons(stamps) == {}
    stamps.verify()


def test_winter_and_rubin_fields(root: Path) -> None:
    stated = invalid_defaults(WINTER_SCHEMA)
    write(root, "w", container([winter(5)], WINTER_SCHEMA, stated=stated))
    row = read(root).catalogue.iloc[0]
    assert (row["id"], row["group"], row["band"]) == (5, "WNTR24aaaab", "J")
    assert (row["field"], row["detector"], row["rb"]) == (40, 3, 0.25)
    assert not row["isdiffpos"] and row["cutout_rows"] == 81

    (root / "w").unlink()
    records = [rubin(2**40), rubin(2**40 + 1, diaObjectId=None, ssObjectId=9, psfFlux=None)]
    write(root, "r", container(records, RUBIN_SCHEMA))
    stamps = read(root)
    first, second = stamps.catalogue.iloc[0], stamps.catalogue.iloc[1]
    assert stamps.meta["pixel_scale"] == 0.2
    assert (first["id"], first["group"], second["group"]) == (2**40, "777", "9")
    assert first["mag"] == pytest.approx(31.4 - 2.5 * 3)
    assert first["mag_err"] == pytest.approx(2.5 / math.log(10) * 0.05, rel=1e-6)
    assert math.isnan(second["mag"]) and first["snr"] == 20
    assert first["jd"] == 2460000.75 and first["reliability"] == 0.875
    assert not first["isdiffpos"] and first["band"] == "r" and first["visit"] == 12345
    assert (first["cutout_rows"], first["cutout_columns"]) == (62, 63)
    assert stamps.stamps[0, 0, 25, 25] == 101


def test_fink_parquet(root: Path) -> None:
    pq.write_table(pa.Table.from_pylist([ztf(i) for i in range(70)]), root / "part-0")
    stamps = read(root)
    assert list(stamps.ids) == list(range(70)) and stamps.meta["survey"] == "ztf"
    assert stamps.stamps[69, 2, 25, 25] == 103


def test_without_difference_the_set_says_so(root: Path) -> None:
    write(root, "a", container([ztf(i, without("diff")) for i in range(3)], ZTF_SCHEMA))
    stamps = read(root)
    assert stamps.channels == ("srch", "tmpl")
    assert np.isnan(stamps.stamps[:, 0]).all() and np.isfinite(stamps.stamps[:, 1:]).all()
    assert not stamps.catalogue["has_diff"].any()
    assert stamps.meta["n_nan_pixels"] == 0


@pytest.mark.parametrize("chunk", [1000, 2])
def test_a_difference_in_some_packets(
    root: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(alerts, "CHUNK", chunk)
    records = [ztf(i, without("diff")) for i in range(5)] + [ztf(9)]
    write(root, "a", container(records, ZTF_SCHEMA))
    stamps = read(root)
    assert stamps.channels == ("diff", "srch", "tmpl") and len(stamps) == 6
    assert list(stamps.catalogue["has_diff"]) == [False] * 5 + [True]
    assert np.isnan(stamps.stamps[:5, 0]).all() and stamps.stamps[5, 0, 25, 25] == 101


def test_a_difference_without_pixels_counts_as_lacking(root: Path) -> None:
    empty = fits_bytes(np.full((63, 63), np.nan, "f4"))
    write(root, "a", ztf_file(1, triplet() | {"diff": empty}))
    assert read(root).channels == ("srch", "tmpl")


def test_required_channels(root: Path) -> None:
    write(root, "a", container([ztf(1), ztf(2, without("tmpl")), ztf(3)], ZTF_SCHEMA))
    assert reasons(read(root)) == {"no tmpl cutout": 1}
    stamps = read(root, require=["srch"])
    assert len(stamps) == 3 and np.isnan(stamps.stamps[1, 2]).all()


@pytest.mark.parametrize(
    ("shape", "padded"),
    [((63, 63), 0), ((62, 63), 0), ((81, 81), 0), ((50, 51), 51), ((40, 63), 11 * 51)],
)
def test_sizes(root: Path, shape: tuple[int, int], padded: int) -> None:
    write(root, "a", ztf_file(1, triplet(shape, "f8")))
    stamps = read(root, edges="middle")
    assert stamps.stamps[0, 1, 25, 25] == 102
    row = stamps.catalogue.iloc[0]
    assert row["n_padded"] == 3 * padded and row["n_nan"] == 0
    assert stamps.meta["n_nan_pixels"] == 3 * padded


@pytest.mark.parametrize("size", [30, 63, 64])
def test_stamps_of_any_size(root: Path, size: int) -> None:
    write(root, "a", ztf_file(1))
    stamps = read(root, stamp_size=size)
    assert stamps.stamp_size == size
    assert stamps.stamps[0, 1, size // 2, size // 2] == 102
    assert stamps.catalogue["n_padded"].iloc[0] == 3 * max(size**2 - 63**2, 0)


def test_cutouts_as_they_come(root: Path) -> None:
    # The second is shortened at the edge of the chip; a whole one of its survey has 63 px.
    edge = dict.fromkeys(triplet(), fits_bytes(np.ones((63, 36), "f4")))
    write(root, "a", container([ztf(1), ztf(2, edge, xpos=5.2)], ZTF_SCHEMA))
    stamps = read(root, stamp_size=None)
    np.testing.assert_array_equal(stamps.stamps[0, 1], image(2.0))
    assert np.isnan(stamps.stamps[1]).sum() == 3 * 63 * 27
    write(root, "b", container([winter(5)], WINTER_SCHEMA))
    assert read(root, stamp_size=None, survey="winter").stamp_size == 81


def test_cutouts_of_several_sizes_make_no_set_as_they_come(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "CHUNK", 1)
    records = [rubin(1, triplet((30, 30), compress=False)), rubin(2, triplet((40, 40)))]
    write(root, "r", container(records, RUBIN_SCHEMA))
    with pytest.raises(UserError, match="cutouts of 30 px, and of 40 px in r, .*data.stamp_size"):
        read(root, stamp_size=None)
    assert list((root.parent / "cache").iterdir()) == []
    assert len(read(root, stamp_size=30)) == 2


def test_shortened_cutouts_are_placed_by_the_chip(root: Path) -> None:
    # Columns 1 to 36 of the chip around a candidate in column 5 of it.
    pixels = np.ones((63, 36), "f4")
    pixels[31, 4] = 50.0
    write(root, "a", ztf_file(1, dict.fromkeys(triplet(), fits_bytes(pixels)), xpos=5.2))
    stamp = read(root).stamps[0, 1]
    assert stamp[25, 25] == 50
    assert np.isnan(stamp[:, :21]).all() and np.isfinite(stamp[:, 21:]).all()
    assert read(root, edges="middle").stamps[0, 1, 25, 25] == 1


def test_nan_pixels_are_kept_counted_and_limited(root: Path) -> None:
    pixels = image()
    pixels[:33] = np.nan
    write(root, "a", container([ztf(1), ztf(2, triplet() | {"srch": fits_bytes(pixels)})], ZTF_SCHEMA))  # fmt: skip  # noqa: E501
    stamps = read(root)
    assert list(stamps.catalogue["n_nan"]) == [0, 27 * 51]
    assert stamps.meta["n_nan_stamps"] == 1
    assert reasons(read(root, max_nan=0.5)) == {"too many missing pixels": 1}


def test_resampled_to_the_pixels_of_another_survey(root: Path) -> None:
    x = np.arange(63) - 31
    star = 1000 * np.exp(-(x[:, None] ** 2 + x**2) / (2 * 1.2**2))
    write(root, "a", ztf_file(1, dict.fromkeys(triplet(), fits_bytes(star))))
    stamps = read(root, pixel_scale_target=0.263)
    assert stamps.meta["pixel_scale"] == 0.263
    stamp = stamps.stamps[0, 0].astype(float)
    assert stamp.sum() == pytest.approx(star.sum(), rel=1e-3)
    assert np.unravel_index(stamp.argmax(), stamp.shape) == (25, 25)


def test_resampling_needs_the_pixel_scale(root: Path) -> None:
    write(root, "a", container([winter(1)], WINTER_SCHEMA))
    with pytest.raises(UserError, match=r"pixel_scales\.winter"):
        read(root, pixel_scale_target=0.263)
    assert len(read(root, pixel_scale_target=0.263, pixel_scales={"winter": 1.1})) == 1


def test_weak_labels(root: Path) -> None:
    scores = [0.95, 0.9, 0.5, 0.1, 0.05, None]
    write(root, "a", container([ztf(i, drb=s) for i, s in enumerate(scores)], ZTF_SCHEMA))
    label = {"score": "drb", "real_above": 0.9, "bogus_below": 0.1}
    # Packets hold float32, where 0.9 is a little less and 0.1 a little more.
    assert float(np.float32(0.9)) < 0.9 and float(np.float32(0.1)) > 0.1
    assert list(read(root, label=label).labels) == [0, -1, -1, -1, 1, -1]
    label = {"score": "drb", "real_above": 0.5, "bogus_below": 0.5}
    assert list(read(root, label=label).labels) == [0, 0, 0, 1, 1, -1]
    label = {"score": "fwhm2", "real_above": 0.5, "bogus_below": 0.5}
    with pytest.raises(UserError, match="fwhm2"):
        read(root, label=label)
    with pytest.raises(UserError, match="no packet has the score 'reliability'"):
        read(root, label={"score": "reliability"})


def test_further_columns(root: Path) -> None:
    write(root, "a", ztf_file(1, distnr=2.5))
    row = read(root, columns=["distnr", "magPsf", "publisher", "none"]).catalogue.iloc[0]
    assert row["distnr"] == 2.5 and row["mag_psf"] == 18.5
    assert row["publisher"] == "ZTF", "a column of its own is not replaced"
    assert np.isnan(row["none"])


def test_duplicates_are_counted_and_skipped(root: Path) -> None:
    for name in ("a", "b"):
        write(root, name, container([ztf(1), ztf(2)], ZTF_SCHEMA))
    stamps = read(root)
    assert sorted(stamps.ids) == [1, 2]
    table = stamps.table("skipped")
    assert list(table["reason"]) == ["duplicate"] * 2 and list(table["file"]) == ["b"] * 2
    assert list(table["packet"]) == [1, 2] and list(table["id"]) == ["1", "2"]


def test_several_surveys_are_not_mixed_unasked(root: Path) -> None:
    write(root, "a", ztf_file(1))
    write(root, "b", container([rubin(1)], RUBIN_SCHEMA))
    with pytest.raises(UserError, match=r"several surveys \(ztf, and rubin in b\)"):
        read(root)
    one = read(root, survey="rubin")
    assert list(one.ids) == [1] and reasons(one) == {"of another survey": 1}
    both = read(root, survey="any")
    assert list(both.ids) == ["ztf-1", "rubin-1"] and both.meta["pixel_scale"] is None


def test_damage_is_skipped_listed_and_logged(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(root, "README.txt", b"a note")
    write(root, ".hidden", b"not looked at")
    write(root, "cut", ztf_file(1)[:-500])
    broken = triplet() | {"srch": b"\x1f\x8b nonsense"}
    write(root, "good", container([ztf(2), ztf(3, broken), ztf(4)], ZTF_SCHEMA))
    write(root, "zero", b"")
    with caplog.at_level(logging.INFO):
        stamps = read(root, max_skipped=0.6)
    assert sorted(stamps.ids) == [2, 4]
    table = stamps.table("skipped").set_index("file")
    assert dict(table["reason"]) == {
        "README.txt": "neither Avro nor Parquet",
        "cut": "damaged part of a file",
        "good": "cutout is not readable as gzip",
        "zero": "file is empty",
    }
    assert table.loc["good", "id"] == "3" and table.loc["good", "packet"] == 2
    assert "4 packets in 4 files, 2 candidates, 4 skipped" in caplog.text
    with pytest.raises(
        UserError, match=r"more than data\.max_skipped=0\.5 of them, the first: cut"
    ):
        read(root)
    assert not any((root.parent / "cache").glob(".*")), "nothing half-built is left"


def test_a_damaged_row_group_costs_only_itself(root: Path) -> None:
    rows = [ztf(i) for i in range(9)]
    pq.write_table(pa.Table.from_pylist(rows), root / "p", row_group_size=3)
    group = pq.ParquetFile(root / "p").metadata.row_group(1)
    columns = [group.column(i) for i in range(group.num_columns)]
    column = next(c for c in columns if c.path_in_schema == "cutoutScience.stampData")
    start = column.dictionary_page_offset or column.data_page_offset
    data = bytearray((root / "p").read_bytes())
    data[start : start + 40] = b"\xff" * 40
    (root / "p").write_bytes(data)
    stamps = read(root)
    assert sorted(stamps.ids) == [0, 1, 2, 6, 7, 8]
    assert reasons(stamps) == {"damaged part of a file": 1}
    with pytest.raises(UserError, match="3 damaged part of a file"):
        read(root, max_skipped=0.3)
    assert "row group 1, from row 1" in stamps.table("skipped")["detail"].iloc[0]


def test_second_call_opens_the_set(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root, "a", ztf_file(1))
    first = read(root)
    real = alerts.read_packets
    monkeypatch.setattr(alerts, "read_packets", lambda path: pytest.fail("read again"))
    assert read(root).path == first.path and read(root).digest == first.digest
    monkeypatch.setattr(alerts, "read_packets", real)
    (first.path / "meta.json").unlink()
    assert read(root).digest == first.digest, "a broken set is built again"
    assert read(root, max_nan=0.9).path != first.path
    write(root, "b", ztf_file(2))
    assert len(read(root)) == 2


def test_one_file_as_root(root: Path) -> None:
    assert list(read(write(root, "a", ztf_file(1))).ids) == [1]


def test_pipes_and_devices_are_left_alone(root: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "loop").symlink_to(root, target_is_directory=True)
    (root / "device").symlink_to("/dev/zero")
    write(root, "a", ztf_file(1))
    assert len(read(root)) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"root": "/no/such/folder"}, "no such file or folder"),
        ({"root": None}, "data.root is not set"),
        ({"root": "???"}, "data.root is not set"),
        ({"edges": "left"}, r"data\.edges is 'left'; give chip or middle"),
        ({"require": ["diff", "new"]}, r"data\.require\[1\] is 'new'; give diff, srch or tmpl"),
        ({"require": "srch"}, r"data\.require is 'srch'; give a list"),
        ({"max_nan": 2}, r"data\.max_nan is 2; give a number from 0 to 1"),
        ({"max_skipped": "many"}, r"data\.max_skipped is 'many'; give a number"),
        ({"pixel_scale_target": -1}, r"pixel_scale_target is -1; give a number above 0"),
        ({"pixel_scale_target": "inf"}, r"pixel_scale_target is 'inf'; give a number"),
        (
            {"pixel_scales": [1, 2]},
            r"data\.pixel_scales is \[1, 2\]; give a group of entries, each a number",
        ),
        ({"cutout_sizes": {"ztf": 0}}, r"data\.cutout_sizes\.ztf is 0; give a whole number"),
        ({"stamp_size": 0}, r"data\.stamp_size is 0; give a whole number from 1 to 1024, or null"),
        ({"stamp_size": "big"}, r"data\.stamp_size is 'big'; give"),
        ({"stamp_size": None, "pixel_scale_target": 0.263}, "pixel_scale_target makes other"),
        (
            {"label": "drb"},
            r"data\.label is 'drb'; give a group of settings: score, real_above, bogus_below",
        ),
        ({"label": {"score": "drb", "real_above": 0.1, "bogus_below": 0.9}}, "would be both"),
    ],
)
def test_wrong_settings(root: Path, settings: dict[str, Any], message: str) -> None:
    write(root, "a", ztf_file(1))
    with pytest.raises(UserError, match=message):
        open_stamps(
            {"root": str(root), "cache": str(root.parent / "cache")} | settings, progress=False
        )


def test_nothing_usable(root: Path) -> None:
    with pytest.raises(UserError, match="the folder has no files"):
        read(root)
    write(root, "note.txt", b"hello")
    with pytest.raises(UserError, match=r"no usable alert packet .* note\.txt: neither Avro nor"):
        read(root)


def test_mandatory_value_of_a_hydra_config(tmp_path: Path) -> None:
    config = OmegaConf.create({"root": "???", "cache": str(tmp_path)})
    with pytest.raises(UserError, match=r"data\.root"):
        open_stamps(OmegaConf.to_container(config), progress=False)


def test_without_fastavro(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root, "a", ztf_file(1))
    monkeypatch.setitem(__import__("sys").modules, "fastavro", None)
    with pytest.raises(UserError, match=r"rb\[alerts\]"):
        read(root)
