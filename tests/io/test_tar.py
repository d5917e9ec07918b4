"""The walk over tars against Python's own reader, and against damage."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rb.io.tar import TarState, open_reader, walk

LONG = "a/" + "very" * 60 + "/diff7.fits"
MEMBERS = [
    ("home2/x/diff1.fits", b"one" * 999),
    ("./srch1.fits", b""),
    (LONG, b"long" * 333),
    ("ünïcode/temp1.fits", b"u" * 512),
    ("p" * 90 + "/" + "q" * 90, b"prefix"),
]


def tar_bytes(kind: int = tarfile.GNU_FORMAT, members: list[tuple[str, bytes]] = MEMBERS) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def walked(path: Path) -> tuple[list[tuple[str, bytes]], TarState]:
    state, found = TarState(), []
    with open_reader(path) as reader:
        for name, offset, size in walk(reader, state):
            found.append((name.decode("utf-8", "replace"), reader.read(offset, min(size, 10**6))))
    return found, state


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_all_members_of_all_formats(tmp_path: Path, kind: int, packed: bool) -> None:
    members = MEMBERS if kind != tarfile.USTAR_FORMAT else [m for m in MEMBERS if m[0] != LONG]
    data = tar_bytes(kind, members)
    (tmp_path / "a.tar").write_bytes(gzip.compress(data) if packed else data)
    found, state = walked(tmp_path / "a.tar")
    assert found == members
    assert state == TarState()


def test_links_devices_folders_and_escapes_are_passed_over(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for kind, name in (
            (tarfile.SYMTYPE, "diff1.fits"), (tarfile.LNKTYPE, "diff2.fits"),
            (tarfile.CHRTYPE, "diff3.fits"), (tarfile.FIFOTYPE, "diff4.fits"),
            (tarfile.DIRTYPE, "diff5.fits"),
        ):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        for name in ("../../diff6.fits", "a/../diff7.fits", "good..name/diff8.fits"):
            tar.addfile(tarfile.TarInfo(name))
    found, state = walked(tmp_path / "a.tar")
    assert [name for name, _ in found] == ["good..name/diff8.fits"]
    assert (state.links, state.special, state.escapes) == (2, 2, 2)


@pytest.mark.parametrize("packed", [False, True])
def test_truncated_tar_keeps_what_is_before(tmp_path: Path, packed: bool) -> None:
    data = tar_bytes()[: 512 + 3072 + 512 + 100]
    if packed:
        data = gzip.compress(tar_bytes(members=[("a", bytes(range(256)) * 4000), *MEMBERS]))[:-60]
    (tmp_path / "a.tar").write_bytes(data)
    found, state = walked(tmp_path / "a.tar")
    assert len(found) >= 1
    assert state.problems
    assert "end" in state.problems[0]


def test_goes_on_behind_a_damaged_header(tmp_path: Path) -> None:
    data = bytearray(tar_bytes(members=[*MEMBERS[:2], ("x/diff9.fits", b"nine")]))
    data[512 + 3072 + 140] ^= 0x10  # in the second header
    (tmp_path / "a.tar").write_bytes(data)
    found, state = walked(tmp_path / "a.tar")
    assert [name for name, _ in found] == ["home2/x/diff1.fits", "x/diff9.fits"]
    assert state.problems == ["has no valid member header at byte 3584"]


def test_no_tar_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"<html>not found</html>" * 1000)
    found, state = walked(tmp_path / "a.tar")
    assert found == []
    assert state.problems


def test_promised_terabyte_and_endless_zeros(tmp_path: Path) -> None:
    info = tarfile.TarInfo("diff1.fits")
    info.size = 10**13
    path = tmp_path / "a.tar"
    with path.open("wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
    found, state = walked(path)
    assert found == [("diff1.fits", b"")]
    assert "without an end mark" in state.problems[0]
    with path.open("wb") as file:
        file.write(tar_bytes())
        file.truncate(10**12)  # a hole: nothing on disk
    found, _ = walked(path)
    assert found == MEMBERS


WHOLE = tar_bytes(tarfile.PAX_FORMAT)


@settings(max_examples=200, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, len(WHOLE)), st.binary(min_size=1, max_size=20))),
    cut=st.none() | st.integers(0, len(WHOLE)),
    packed=st.booleans(),
)
def test_any_damage_ends_in_members_and_problems(
    tmp_path_factory: pytest.TempPathFactory,
    changes: list[tuple[int, bytes]],
    cut: int | None,
    packed: bool,
) -> None:
    data = bytearray(gzip.compress(WHOLE, mtime=0) if packed else WHOLE)
    for place, new in changes:
        data[place : place + len(new)] = new
    path = tmp_path_factory.getbasetemp() / "mutated.tar"
    path.write_bytes(data[:cut])
    found, _ = walked(path)
    # A checksum stands between damage and a name; only long names lie outside of it.
    for name, data in found:
        assert name in {n for n, _ in MEMBERS} or len(name) > 99 or changes
        assert len(data) <= len(WHOLE) + 20 * len(changes)
