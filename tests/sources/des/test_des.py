"""Stamp sets from DES archives: whole, mixed, damaged, interrupted."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from des_files import archive, write_table
from hypothesis import given, settings
from hypothesis import strategies as st

from rb.errors import UserError
from rb.sources.des.archive import exposure_of
from rb.sources.des.source import open_stamps
from rb.stamps import StampSet

PANELS = ("diff", "srch", "temp")
WHERE = "SNWG/Archive/2013/Y1/20130829/470681007"


def build(folder: Path, /, **settings: Any) -> StampSet:
    config = {"name": "des", "root": folder, "cache": folder.parent / "cache", "processes": 1}
    return open_stamps(config | settings, progress=False)


def report(stamps: StampSet) -> dict[str, Any]:
    return json.loads((stamps.path / "build-report.json").read_text())


def small_tree(root: Path, ids: tuple[int, ...] = (11, 12, 13), where: str = WHERE) -> Path:
    folder = root / where
    folder.mkdir(parents=True)
    for number in ids:
        for panel, name in enumerate(PANELS):
            image = archive.pixels(number, panel)
            (folder / f"{name}{number}.fits").write_bytes(archive.fits_file(image))
            (folder / f"{name}{number}.gif").write_bytes(b"GIF89a")
    write_table(root, {number: number % 2 for number in ids})
    return folder


# --- what a set contains --------------------------------------------------------------------


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


# --- what goes wrong ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: f.write_bytes(f.read_bytes()[:5000]), r"srch12\.fits is cut off"),
        (lambda f: f.write_bytes(b"GIF89a"), r"srch12\.fits is not a FITS file"),
        (lambda f: f.write_bytes(b""), r"srch12\.fits is empty"),
        (lambda f: f.write_bytes(archive.fits_file(np.zeros((63, 63), "f4"))), "63x63 px"),
        (lambda f: f.write_bytes(bytes(2**21)), "larger than a stamp"),
        (lambda f: f.unlink(), r"srch12\.fits is missing"),
    ],
)
def test_damaged_file_is_named(tmp_path: Path, damage: Any, says: str) -> None:
    folder = small_tree(tmp_path / "des")
    damage(folder / "srch12.fits")
    with pytest.raises(UserError, match=says) as caught:
        build(tmp_path / "des")
    assert "1 of 3 candidates are damaged" in str(caught.value)
    named = re.search(r"listed in (\S+)", str(caught.value))
    assert named is not None
    assert json.loads(Path(named[1]).read_text())["candidates"]["damaged"] == 1
    # Nothing half-built stays; and with more tolerance the good ones come through.
    assert not list((tmp_path / "cache").glob(".*.partial"))
    assert build(tmp_path / "des", max_bad_share=0.5).ids.tolist() in ([11, 13], [11, 13][::-1])


def test_all_damaged(tmp_path: Path) -> None:
    folder = small_tree(tmp_path / "des")
    for file in folder.glob("diff*.fits"):
        file.write_bytes(b"x")
    with pytest.raises(UserError, match=r"not one of 3 candidates.*diff11\.fits is not a FITS"):
        build(tmp_path / "des", max_bad_share=1)


def test_truncated_shard(tmp_path: Path) -> None:
    truth = archive.write_archive(tmp_path / "des", 300, shards=2)
    tar = tmp_path / "des" / "stamps_0.tar"
    os.truncate(tar, tar.stat().st_size // 2 + 1000)
    stamps = build(tmp_path / "des", max_bad_share=1)
    assert 150 <= len(stamps) < 300
    for row, number in enumerate(stamps.ids.tolist()):
        np.testing.assert_array_equal(stamps.stamps[row, 0], archive.expected(truth, number, 0))
    shard = report(stamps)["shards"][0]
    assert shard["name"] == "stamps_0.tar"
    assert "without an end mark" in shard["problems"][0]
    lost = set(truth.ids) - set(stamps.ids.tolist())
    problems = report(stamps)["problems"]
    listed = {p["id"] for p in problems["missing_member"]["list"]}
    listed |= {p["id"] for p in problems["bad_member"]["list"]}
    assert lost == listed | set(problems["row_without_stamps"]["list"])


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("ID,BAND\n11,g\n", "no column OBJECT_TYPE"),
        ("OBJECT_TYPE,MAG\n1,g\n", "no column ID"),
        ("ID,OBJECT_TYPE\n11,2\n", r"line 3, column OBJECT_TYPE: '2' is neither 0"),
        ("ID,OBJECT_TYPE\n11,0\n11,1\n", "ID 11 is already in line 3"),
        ("ID,OBJECT_TYPE\nabc,0\n", "'abc' is not an integer"),
        ("ID,OBJECT_TYPE\n11,nan\n", "column OBJECT_TYPE: 'nan' is missing"),
        ("ID,OBJECT_TYPE,MAG\n11,0,faint\n", "column MAG: 'faint' is not a number"),
        ("ID,OBJECT_TYPE\n", "no rows"),
        ("", "empty"),
        ("ID,OBJECT_TYPE\n99,0\n", "none of its 1 IDs"),
        ("ID,OBJECT_TYPE\n11,0,7,8\n12,1,5\n", "line 3 has 4 cells"),
    ],
)
def test_wrong_tables(tmp_path: Path, table: str, says: str) -> None:
    small_tree(tmp_path / "des")
    (tmp_path / "des" / "autoscan_features.3.csv").write_text("# a\n" + table)
    with pytest.raises(UserError, match=says):
        build(tmp_path / "des")
    assert list((tmp_path / "cache").iterdir()) == []


def test_binary_table(tmp_path: Path) -> None:
    small_tree(tmp_path / "des")
    (tmp_path / "des" / "autoscan_features.3.csv").write_bytes(bytes(range(256)) * 100)
    with pytest.raises(UserError, match=r"autoscan_features\.3\.csv"):
        build(tmp_path / "des")


def test_missing_and_ambiguous_table(tmp_path: Path) -> None:
    small_tree(tmp_path / "des")
    table = tmp_path / "des" / "autoscan_features.3.csv"
    shutil.copy(table, table.with_name("autoscan_features.2.csv"))
    with pytest.raises(UserError, match=r"several feature tables"):
        build(tmp_path / "des")
    assert len(build(tmp_path / "des", table="autoscan_features.2.csv")) == 3
    for file in (tmp_path / "des").glob("*.csv"):
        file.unlink()
    with pytest.raises(UserError, match=r"no feature table .* data\.table=none"):
        build(tmp_path / "des")
    with pytest.raises(UserError, match=r"nowhere\.csv: no such feature table"):
        build(tmp_path / "des", table="nowhere.csv")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"root": None}, "data.root is not set"),
        ({"root": "/nowhere"}, "/nowhere: no such folder"),
        ({"colour": 1}, "data.colour: no such setting"),
        ({"require": ["diff", "x"]}, "data.require"),
        ({"require": []}, "data.require"),
        ({"unlabelled": "maybe"}, "data.unlabelled"),
        ({"flat": 1}, "data.flat"),
        ({"max_bad_share": 2}, "data.max_bad_share"),
        ({"max_bad_share": "x"}, "data.max_bad_share"),
        ({"processes": 0}, "data.processes"),
    ],
)
def test_wrong_settings(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    small_tree(tmp_path / "des")
    with pytest.raises(UserError, match=re.escape(says)):
        build(tmp_path / "des", **change)


def test_empty_folder_and_empty_tar(tmp_path: Path) -> None:
    root = tmp_path / "des"
    root.mkdir()
    with pytest.raises(UserError, match="no stamps here"):
        build(root)
    write_table(root, {1: 0})
    (root / "stamps_0.tar").write_bytes(b"<html></html>" * 100)
    with pytest.raises(UserError, match=r"stamps_0\.tar has no valid member header"):
        build(root)


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_tree(tmp_path / "des")
    usage = type("Usage", (), {"free": 50_000})
    monkeypatch.setattr("rb.sources.des.file.shutil.disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"need .* GB, 5e-05 GB are free"):
        build(tmp_path / "des")
    assert not list((tmp_path / "cache").glob(".*.partial"))


@settings(max_examples=60, deadline=None)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, 150_000), st.binary(min_size=1, max_size=600)), max_size=12
    ),
    cut=st.none() | st.integers(0, 150_000),
    packed=st.booleans(),
)
def test_any_damage_to_a_tar_costs_only_what_it_hits(
    tmp_path_factory: pytest.TempPathFactory,
    changes: list[tuple[int, bytes]],
    cut: int | None,
    packed: bool,
) -> None:
    base = tmp_path_factory.mktemp("fuzz")
    small_tree(base / "whole")
    with tarfile.open(base / "whole.tar", "w") as tar:
        tar.add(base / "whole" / "SNWG", arcname="SNWG")
    data = bytearray((base / "whole.tar").read_bytes())
    if packed:
        data = bytearray(gzip.compress(data, 1, mtime=0))
    for place, new in changes:
        data[place : place + len(new)] = new
    (base / "des").mkdir()
    (base / "des" / "stamps_0.tar").write_bytes(data[:cut])
    try:
        stamps = build(base / "des", table="none", max_bad_share=1)
    except UserError as error:
        assert "\n" not in str(error)
        return
    found = report(stamps)["candidates"]
    assert len(stamps) == found["kept"] <= found["found"]
    for row, number in enumerate(stamps.ids.tolist()):
        # A candidate that no change comes near is as it was.
        if number in (11, 12, 13) and not changes:
            np.testing.assert_array_equal(stamps[row][0], archive.pixels(number, 0))
    shutil.rmtree(base)


# --- interruptions --------------------------------------------------------------------------

_CHILD = """
import sys
import rb.sources.des.plan, rb.sources.des.read
rb.sources.des.plan._UNIT = 60
# No `if __name__ == "__main__"`: worker processes must not run the script again.
from rb.sources import des
import rb.sources.des.build
rb.sources.des.build._WORTH_A_POOL = {pool}
stamps = des.open_stamps(
    dict(root={root!r}, cache={cache!r}, processes=2, max_bad_share=0.05), progress=False)
print(stamps.digest)
"""


@pytest.mark.slow
@pytest.mark.parametrize("pool", [1, 10**9], ids=["processes", "alone"])
def test_killed_build_goes_on_to_the_same_set(tmp_path: Path, pool: int) -> None:
    root = tmp_path / "des"
    archive.write_archive(root, 4000, shards=3, packing=("tar", "tree", "tar.gz"), damage=0.002)
    expected = build(root, cache=tmp_path / "undisturbed", max_bad_share=0.05)
    cache = tmp_path / "killed"
    script = tmp_path / "child.py"
    script.write_text(_CHILD.format(pool=pool, root=str(root), cache=str(cache)))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[3])}

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, str(script)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    done: list[int] = []
    for target in (3, 40):
        with start() as child:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and child.poll() is None:
                if len(list(cache.glob(".des-*.partial/unit-*.json"))) >= target:
                    break
                time.sleep(0.001)
            child.send_signal(signal.SIGKILL)
        done.append(len(list(cache.glob(".des-*.partial/unit-*.json"))))
        assert not list(cache.glob("des-*"))
    assert 3 <= done[0] < done[1]
    with start() as child:
        assert child.communicate(timeout=120)[0].split() == [expected.digest]
    assert not list(cache.glob(".des-*.partial"))


def test_killed_while_closing_the_gaps(tmp_path: Path) -> None:
    from rb.sources.des.file import StampFile

    kept = np.array([True, False, True, False, True, True])
    good = np.ones((6, 3), bool)
    good[2, 0] = False
    rows = np.arange(6 * 3 * 51 * 51, dtype="<f4").reshape(6, 3, 51, 51)

    def fill(name: str) -> StampFile:
        file = StampFile.allocate(tmp_path / name, 6)
        with file.path.open("rb+") as out:
            out.seek(file.header)
            out.write(rows.tobytes())
        return file

    file = fill("a.npy")
    order = file.close_gaps(kept, good)
    assert order.tolist() == [0, 4, 2, 5]
    once = np.load(file.path)
    expected = rows[order].copy()
    expected[2, 0] = np.nan
    np.testing.assert_array_equal(once, expected)
    # Once more, as after a kill behind the cut, and with the moves half done before it.
    file.close_gaps(kept, good)
    np.testing.assert_array_equal(np.load(file.path), once)
    half = fill("b.npy")
    with half.path.open("rb+") as out:
        out.seek(half.header + 1 * rows[0].nbytes)
        out.write(rows[4].tobytes())
    half.close_gaps(kept, good)
    np.testing.assert_array_equal(np.load(half.path), once)
