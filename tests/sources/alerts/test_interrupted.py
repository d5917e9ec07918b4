"""Builds of alert packets that are interrupted, killed, or lose what they have kept."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from alert_makers import (
    ZTF_SCHEMA,
    container,
    read,
    without,
    write,
    ztf,
    ztf_file,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from rb.errors import UserError
from rb.io.locks import locked
from rb.sources.alerts import source as alerts


def night(root: Path) -> None:
    """Files with good packets, a second copy, one without an image, and one without difference."""
    write(root, "a", container([ztf(i) for i in range(5)], ZTF_SCHEMA))
    write(root, "b", container([ztf(i) for i in (4, 5, 6)], ZTF_SCHEMA))
    write(root, "c", b"hello")
    write(root, "d", ztf_file(7, without("tmpl")))
    write(root, "e", container([ztf(i, without("diff")) for i in range(8, 11)], ZTF_SCHEMA))


@pytest.mark.parametrize("at", range(1, 13))
def test_an_interrupted_build_goes_on_to_the_same_set(
    root: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    monkeypatch.setattr(alerts, "CHUNK", 2)
    night(root)
    real, cut = alerts.candidate, []

    def stop(packet: Any, *arguments: Any) -> Any:
        cut.append(packet)
        if len(cut) == at:
            raise KeyboardInterrupt
        return real(packet, *arguments)

    monkeypatch.setattr(alerts, "candidate", stop)
    with pytest.raises(KeyboardInterrupt):
        read(root, require=["srch", "tmpl"])
    again = read(root, require=["srch", "tmpl"])
    # What was kept in twos is not cut out again. Of the 12 packets that are, the sixth is a second
    # copy and the ninth is bad.
    good = at - 1 - (at > 6) - (at > 9)
    kept = 2 * (good // 2)
    assert len(cut) - at == 12 - kept - (kept >= 6) - (kept == 8)
    monkeypatch.setattr(alerts, "candidate", real)
    whole = read(root, require=["srch", "tmpl"], cache=str(root.parent / "other"))
    assert again.digest == whole.digest and len(whole) == 10
    assert again.meta["n_nan_stamps"] == whole.meta["n_nan_stamps"] == 3
    assert again.catalogue.equals(whole.catalogue)
    assert again.table("skipped").equals(whole.table("skipped"))
    assert [p.name for p in (root.parent / "cache").iterdir()] == [again.path.name]


@pytest.mark.parametrize(
    ("name", "left"),
    [("00000.npz", 0), ("00001.npz", 0.7), ("00002.npz", 0.5), ("00000.npz", 0.99),
     ("00003.npz", 0), ("00001.npz", 0.01)],
)  # fmt: skip
def test_a_kept_part_that_is_cut_short_is_read_again(
    root: Path, monkeypatch: pytest.MonkeyPatch, name: str, left: float
) -> None:
    monkeypatch.setattr(alerts, "CHUNK", 2)
    night(root)
    expected = read(root, require=["srch", "tmpl"], cache=str(root.parent / "other")).digest
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(alerts._Build, "_write", lambda *_: 1 / 0)
        read(root, require=["srch", "tmpl"])
    (file,) = (root.parent / "cache").glob(f".*.partial/{name}")
    with file.open("r+b") as opened:
        opened.truncate(int(left * file.stat().st_size))
    assert read(root, require=["srch", "tmpl"]).digest == expected


@given(at=st.floats(0, 1), bit=st.integers(0, 7))
@settings(max_examples=15, deadline=None)
def test_a_flipped_bit_in_a_kept_part_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, at: float, bit: int
) -> None:
    base = tmp_path_factory.mktemp("flipped")
    root = base / "alerts"
    root.mkdir()
    night(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alerts, "CHUNK", 2)
        expected = read(root, require=["srch", "tmpl"], cache=str(base / "other")).digest
        with pytest.MonkeyPatch.context() as inner, pytest.raises(ZeroDivisionError):
            inner.setattr(alerts._Build, "_write", lambda *_: 1 / 0)
            read(root, require=["srch", "tmpl"])
        (file,) = (base / "cache").glob(".*.partial/00001.npz")
        data = bytearray(file.read_bytes())
        data[int(at * (len(data) - 1))] ^= 1 << bit
        file.write_bytes(data)
        assert read(root, require=["srch", "tmpl"]).digest == expected


def test_a_build_killed_right_after_its_end_is_tidied_up_after(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    night(root)
    cache = root.parent / "cache"
    with monkeypatch.context() as patch:
        patch.setattr("rb.stamps.resumable.shutil.rmtree", lambda *_, **__: None)
        built = read(root, require=["srch", "tmpl"])
    assert [p.name for p in cache.glob(".*")] == [f".{built.path.name}.partial"]
    with locked(cache / f".{built.path.name}.partial.lock"):  # whoever builds tidies up itself
        assert read(root, require=["srch", "tmpl"]).digest == built.digest
        assert len(list(cache.glob(".*.partial"))) == 1
    assert read(root, require=["srch", "tmpl"]).digest == built.digest
    assert [p.name for p in cache.iterdir()] == [built.path.name]


def test_a_build_that_fails_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "CHUNK", 2)
    night(root)
    with pytest.raises(UserError, match="max_skipped"):
        read(root, require=["srch", "tmpl"], max_skipped=0)
    assert list((root.parent / "cache").iterdir()) == []


def test_more_skips_than_are_listed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "MAX_LISTED", 3)
    write(root, "a", container([ztf(1)] * 10, ZTF_SCHEMA))
    table = read(root).table("skipped")
    assert list(table["reason"]) == ["duplicate"] * 3 + ["not listed"]
    assert table["detail"].iloc[-1] == "6 more"
    shutil.rmtree(root.parent / "cache")
