"""Stamp sets from DES archives: what is in them."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from des_files import WHERE, archive, build, report, small_tree, write_table

from rb.errors import UserError
from rb.sources.des.archive import exposure_of
from rb.stamps import StampSet


def test_tree_with_table(tmp_path: Path) -> None:
    root = tmp_path / "des"
    small_tree(root)
    stamps = build(root)
    assert stamps.ids.tolist() == [11, 12, 13]
    assert stamps.labels.tolist() == [1, 0, 1]
    for row, number in enumerate((11, 12, 13)):
        for panel in range(3):
            np.testing.assert_array_equal(stamps[row][panel], archive.pixels(number, panel))
    row = stamps.catalogue.iloc[1]
    assert (row["group"], row["exposure"], row["date"]) == ("470681007", "470681007", "20130829")
    assert (row["band"], row["BAND"]) == ("i", 3.0)
    assert row["mag"] == row["MAG"] == 1.2 + archive.FEATURES.index("MAG")
    assert row["snr"] == row["SNR"]
    assert set(archive.FEATURES) <= set(stamps.catalogue.columns)
    assert stamps.meta["pixel_scale"] == 0.263
    assert report(stamps)["candidates"] == {"found": 3, "kept": 3, "dropped": 0, "damaged": 0}
    assert report(stamps)["shards"][0]["passed_over"] == {"gif": 9}
    stamps.verify()


@pytest.mark.parametrize(
    "packing", [("tar",), ("tar.gz",), ("tree",), ("tar", "tree", "tar.gz")], ids="+".join
)
def test_archive_with_all_quirks(tmp_path: Path, packing: tuple[str, ...]) -> None:
    truth = archive.write_archive(tmp_path / "des", 500, packing=packing, damage=0.004)
    stamps = build(tmp_path / "des", max_bad_share=0.05)
    # Gaps are closed with the last rows, so only the set of rows is known beforehand.
    assert_right_in_any_order(stamps, truth)
    problems = report(stamps)["problems"]
    assert {len(v["list"]) - v["count"] for v in problems.values()} == {0}

    def of(kind: str) -> set[int]:
        return {i for i, k in truth.damage.items() if k == kind}

    assert {p["id"] for p in problems["missing_member"]["list"]} == of("missing")
    bad = {p["id"]: p for p in problems["bad_member"]["list"]}
    assert set(bad) == of("cut") | of("shape") | of("not_fits")
    for number in of("cut"):
        assert f"diff{number}.fits" in bad[number]["member"]
        assert "cut off" in bad[number]["reason"]
    assert {p["id"] for p in problems["conflicting_duplicate"]["list"]} == of("conflict")
    assert {p["id"] for p in problems["identical_duplicate"]["list"]} == of("twice")
    assert all(len(p["members"]) == 2 for p in problems["identical_duplicate"]["list"])
    assert set(problems["id_without_row"]["list"]) == of("no_row")
    assert {p["id"] for p in problems["not_finite"]["list"]} == of("nan")
    assert stamps.meta["n_nan_pixels"] == 2 * len(of("nan"))
    assert stamps.meta["n_nan_stamps"] == len(of("nan"))
    groups = dict(zip(stamps.ids.tolist(), stamps.groups.tolist(), strict=True))
    assert all(groups[i] == truth.exposure[i] for i in truth.good if truth.exposure[i])


def assert_right_in_any_order(stamps: StampSet, truth: Any) -> None:
    assert sorted(stamps.ids.tolist()) == sorted(truth.good)
    for row, number in enumerate(stamps.ids.tolist()):
        for panel in range(3):
            expected = archive.expected(truth, number, panel)
            np.testing.assert_array_equal(stamps.stamps[row, panel], expected)
        known = truth.damage.get(number) != "no_row"
        assert stamps.labels[row] == (truth.labels[number] if known else -1)
    stamps.verify()


def test_packing_does_not_change_the_set(tmp_path: Path) -> None:
    small_tree(tmp_path / "tree", tuple(range(100, 130)))
    digests = {build(tmp_path / "tree").digest}
    for kind in ("tar", "tar.gz"):
        root = tmp_path / kind
        root.mkdir()
        shutil.copy(tmp_path / "tree" / "autoscan_features.3.csv", root)
        with tarfile.open(root / f"stamps_0.{kind}", "w:gz" if kind == "tar.gz" else "w") as tar:
            tar.add(tmp_path / "tree" / "SNWG", arcname="home2/SNWG")
        digests.add(build(root).digest)
    packed = tmp_path / "packed"
    shutil.copytree(tmp_path / "tree", packed)
    for file in list(packed.rglob("*.fits")):
        file.with_name(file.name + ".gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    digests.add(build(packed).digest)
    assert len(digests) == 1


def test_the_same_stamps_in_tar_and_tree_count_once(tmp_path: Path) -> None:
    root = tmp_path / "des"
    small_tree(root)
    with tarfile.open(root / "stamps_0.tar", "w") as tar:
        tar.add(root / "SNWG", arcname="SNWG")
    stamps = build(root, max_bad_share=0)
    assert stamps.ids.tolist() == [11, 12, 13]
    assert report(stamps)["problems"]["identical_duplicate"]["count"] == 3


def test_second_call_opens_and_a_change_builds_anew(tmp_path: Path) -> None:
    folder = small_tree(tmp_path / "des")
    first = build(tmp_path / "des")
    written = (first.path / "meta.json").stat().st_mtime_ns
    assert build(tmp_path / "des", max_bad_share=0.5).path == first.path
    assert (first.path / "meta.json").stat().st_mtime_ns == written
    (folder / "diff12.fits").write_bytes(archive.fits_file(archive.pixels(5, 0)))
    second = build(tmp_path / "des")
    assert second.path != first.path
    np.testing.assert_array_equal(second[1][0], archive.pixels(5, 0))


def test_unlabelled(tmp_path: Path) -> None:
    root = tmp_path / "des"
    small_tree(root)
    write_table(root, {11: 0, 99: 1})
    kept = build(root)
    assert kept.labels.tolist() == [0, -1, -1]
    assert np.isnan(kept.catalogue["mag"].to_numpy()[1:]).all()
    assert report(kept)["problems"]["row_without_stamps"]["list"] == [99]
    assert build(root, unlabelled="drop").ids.tolist() == [11]
    (root / "autoscan_features.3.csv").unlink()
    assert build(root, table="none").labels.tolist() == [-1, -1, -1]


def test_candidates_without_a_panel(tmp_path: Path) -> None:
    folder = small_tree(tmp_path / "des")
    (folder / "diff12.fits").unlink()
    (folder / "diff13.fits").write_bytes(b"nothing")
    stamps = build(tmp_path / "des", require=["srch", "tmpl"])
    assert stamps.ids.tolist() == [11, 12, 13]
    assert stamps.channels == ("diff", "srch", "tmpl")
    assert np.isnan(stamps.stamps[1:, 0]).all()
    np.testing.assert_array_equal(stamps[2][1], archive.pixels(13, 1))
    assert stamps.meta["n_nan_stamps"] == 2
    for file in folder.glob("diff*.fits"):
        file.unlink()
    assert build(tmp_path / "des", require="srch").channels == ("srch", "tmpl")


def test_flat_folders_have_a_group(tmp_path: Path) -> None:
    root = tmp_path / "des"
    small_tree(root, where="stamps_10")
    assert set(build(root).groups) == {"tree:stamps_10"}
    assert len(set(build(root, flat="apart").groups)) == 3


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("home2/SNWG/Archive/2013/Y1/20130829/470681007", ("20130829", "470681007")),
        ("20130829/470681007", ("20130829", "470681007")),
        ("x/20130829", ("20130829", None)),
        ("470681007", (None, "470681007")),
        ("stamps_10", (None, None)),
        ("", (None, None)),
    ],
)
def test_exposure_of(folder: str, expected: tuple[str | None, str | None]) -> None:
    assert exposure_of(folder) == expected


def test_links_and_pipes_in_a_tree(tmp_path: Path) -> None:
    folder = small_tree(tmp_path / "des")
    os.mkfifo(folder / "diff99.fits")
    (folder / "srch99.fits").symlink_to("/nowhere")
    (folder / "loop").symlink_to(tmp_path / "des")
    elsewhere = small_tree(tmp_path / "elsewhere", (21,), "20130830/470681008")
    (tmp_path / "des" / "more").symlink_to(elsewhere)
    write_table(tmp_path / "des", {11: 0, 12: 1, 13: 0, 21: 1})
    assert build(tmp_path / "des").ids.tolist() == [11, 12, 13, 21]


def test_real_stamps(tmp_path: Path, shared_data: Path) -> None:
    published = json.loads((shared_data / "des" / "published.json").read_text())
    root, expected = tmp_path / "des", {}
    for file in sorted((shared_data / "des").glob("*.npz")):
        panels = np.load(file)
        folder = root / published[file.stem].get("archive_path", f"stamps9/{WHERE}")
        folder.mkdir(parents=True, exist_ok=True)
        expected[int(file.stem)] = panels
        for channel, name in (("diff", "diff"), ("srch", "srch"), ("tmpl", "temp")):
            if channel in panels:
                data = archive.fits_file(panels[channel])
                (folder / f"{name}{file.stem}.fits").write_bytes(data)
    assert len(expected) == 8
    write_table(root, {i: int(p["label"]) for i, p in expected.items()})
    stamps = build(root, require=["srch", "tmpl"])
    assert stamps.ids.tolist() == sorted(expected)
    for row, (number, panels) in enumerate(sorted(expected.items())):
        assert stamps.labels[row] == published[str(number)]["label"]
        for c, channel in enumerate(("diff", "srch", "tmpl")):
            found = stamps.stamps[row, c]
            if channel in panels:
                np.testing.assert_array_equal(found, panels[channel])
            else:
                assert np.isnan(found).all()
    with pytest.raises(UserError, match=r"1 of 8 candidates.*diff10821556\.fits is missing"):
        build(root)
