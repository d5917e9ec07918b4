"""DES archives that are damaged, wrong, or whose build is interrupted."""

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
from des_files import archive, build, report, small_tree, write_table
from hypothesis import given, settings
from hypothesis import strategies as st

from rb.errors import UserError


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
from rb.sources.des import build as des_build
des_build._WORTH_A_POOL = {pool}
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
