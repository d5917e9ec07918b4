"""Downloading from a server that drops, ignores, refuses and lies."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from rb.cli import main
from rb.errors import UserError
from rb.sources.des.download import MANIFEST, Downloader, RemoteFile, des_files

BIG = np.random.default_rng(0).integers(0, 256, 3_000_017, dtype=np.uint8).tobytes()
SMALL = b"ID,OBJECT_TYPE\n1,0\n" * 50


class Server(ThreadingHTTPServer):
    """Serves `files`, misbehaving as `mood` says."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.etag: str | None = '"v1"'
        self.ranges = True
        self.drops = 0  # connections still to be dropped half-way
        self.errors: list[int] = []  # statuses to answer with first
        self.length_lie = 0  # added to Content-Length
        self.range_lie = 0  # added to where a range is said to begin
        self.total_lie = 0  # added to the total of Content-Range
        self.chunked = False
        self.head = True
        self.kind = "application/octet-stream"
        self.requests: list[tuple[str, str, str | None]] = []
        self.sent = 0
        self.after_drop = lambda: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/a/stamps/"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        s = self.server
        s.requests.append((self.command, self.path, self.headers.get("Range")))
        assert self.headers["Accept-Encoding"] == "identity"
        if not body and not s.head:
            return self._status(405)
        if body and s.errors:
            return self._status(s.errors.pop(0))
        data = s.files.get(self.path)
        if data is None:
            return self._status(404)
        start, status = 0, 200
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and s.ranges and self.headers.get("If-Range") in (None, s.etag):
            start, status = int(wanted[1]), 206
            if start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
        self.send_response(status)
        if status == 206:
            said = start + s.range_lie
            total = len(data) + s.length_lie + s.total_lie
            self.send_header("Content-Range", f"bytes {said}-{len(data) - 1}/{total}")
        if s.etag:
            self.send_header("ETag", s.etag)
        self.send_header("Content-Type", s.kind)
        if s.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(data) - start + s.length_lie))
        self.end_headers()
        if not body:
            return None
        data = data[start:]
        if s.drops > 0:
            s.drops -= 1
            data = data[: len(data) // 2]
            self.close_connection = True
            self._send(data)
            s.after_drop()
            return None
        self._send(data)
        if s.chunked:
            self.wfile.write(b"0\r\n\r\n")
        if s.length_lie:
            self.close_connection = True
        return None

    def _send(self, data: bytes) -> None:
        try:
            for i in range(0, len(data), 2**16):
                piece = data[i : i + 2**16]
                self.wfile.write(
                    b"%x\r\n%s\r\n" % (len(piece), piece) if self.server.chunked else piece
                )
                self.server.sent += len(piece)
        except OSError:
            self.close_connection = True

    def _status(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        server.files = {"/a/stamps/stamps_0.tar": BIG, "/a/stamps/autoscan_features.3.csv": SMALL}
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()


def downloader(folder: Path, **options: object) -> Downloader:
    settings = {"progress": False, "backoff": 0.01, "timeout": 2.0, "retries": 3} | options
    return Downloader(folder, **settings)  # type: ignore[arg-type]


def fetch(folder: Path, server: Server, shards: str = "0", **options: object) -> list[str]:
    return downloader(folder, **options).fetch(des_files(server.url, shards))


def assert_whole(folder: Path) -> None:
    assert (folder / "stamps_0.tar").read_bytes() == BIG
    assert (folder / "autoscan_features.3.csv").read_bytes() == SMALL
    assert not list(folder.glob("*.part*"))
    entry = json.loads((folder / MANIFEST).read_text())["stamps_0.tar"]
    assert entry["size"] == len(BIG)
    assert entry["sha256"] == hashlib.sha256(BIG).hexdigest()


def test_downloads_and_then_verifies(server: Server, tmp_path: Path) -> None:
    first = fetch(tmp_path, server)
    assert_whole(tmp_path)
    assert [line.split(",")[0] for line in first] == [
        "autoscan_features.3.csv: downloaded",
        "stamps_0.tar: downloaded",
    ]
    server.requests.clear()
    second = fetch(tmp_path, server)
    assert server.requests == []
    assert all("verified" in line for line in second)


def test_goes_on_after_dropped_connections(server: Server, tmp_path: Path) -> None:
    server.drops = 3
    fetch(tmp_path, server, retries=1)
    assert_whole(tmp_path)
    ranges = [r for m, path, r in server.requests if m == "GET" and path.endswith(".tar")]
    assert len(ranges) >= 2
    # Nothing is fetched twice.
    assert server.sent <= len(BIG) + len(SMALL) + 3 * 2**16


def test_goes_on_in_a_later_run(server: Server, tmp_path: Path) -> None:
    server.drops = 1
    with pytest.raises(UserError, match=r"dropped|connection ended"):
        downloader(tmp_path, retries=0).fetch(des_files(server.url, "0", table=False))
    assert not (tmp_path / "stamps_0.tar").exists()
    assert 0 < (tmp_path / "stamps_0.tar.part").stat().st_size < len(BIG)
    fetch(tmp_path, server)
    assert_whole(tmp_path)
    assert server.sent == len(BIG) + len(SMALL)


def test_a_new_version_begins_anew(server: Server, tmp_path: Path) -> None:
    other = bytes(reversed(BIG))

    def replace() -> None:
        server.files["/a/stamps/stamps_0.tar"] = other
        server.etag = '"v2"'

    server.drops, server.after_drop = 1, replace
    downloader(tmp_path).fetch(des_files(server.url, "0", table=False))
    assert (tmp_path / "stamps_0.tar").read_bytes() == other


def test_without_a_version_it_begins_anew(server: Server, tmp_path: Path) -> None:
    server.etag, server.drops = None, 1
    fetch(tmp_path, server)
    assert_whole(tmp_path)
    assert all(wanted is None for _, _, wanted in server.requests)


def test_server_that_ignores_ranges(server: Server, tmp_path: Path) -> None:
    server.ranges, server.drops = False, 2
    fetch(tmp_path, server)
    assert_whole(tmp_path)


def test_server_that_sends_another_range(server: Server, tmp_path: Path) -> None:
    server.range_lie, server.drops = -7, 1
    fetch(tmp_path, server)
    assert_whole(tmp_path)


@pytest.mark.parametrize("lie", [5, -5])
def test_lies_about_the_length(server: Server, tmp_path: Path, lie: int) -> None:
    server.length_lie = lie
    if lie > 0:
        with pytest.raises(UserError, match=r"stamps_0\.tar: .*after"):
            downloader(tmp_path).fetch(des_files(server.url, "0", table=False))
        assert not (tmp_path / "stamps_0.tar").exists()
    else:
        # HEAD and GET agree on a file that is too short: what was promised is what counts.
        downloader(tmp_path).fetch(des_files(server.url, "0", table=False))
        assert (tmp_path / "stamps_0.tar").read_bytes() == BIG[:lie]


def test_total_that_changes_its_mind(server: Server, tmp_path: Path) -> None:
    server.total_lie, server.drops = 9, 1
    fetch(tmp_path, server, retries=6)
    # Only an answer that is true to itself is believed.
    assert_whole(tmp_path)


def test_server_without_head_or_length(server: Server, tmp_path: Path) -> None:
    server.head, server.chunked = False, True
    fetch(tmp_path, server)
    assert_whole(tmp_path)


def test_passing_errors_are_waited_out(server: Server, tmp_path: Path) -> None:
    server.errors = [500, 503, 429]
    fetch(tmp_path, server)
    assert_whole(tmp_path)


@pytest.mark.parametrize("status", [500, 403])
def test_lasting_errors_end_in_one_line(
    server: Server, tmp_path: Path, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    server.errors = [status] * 50
    told = ["des", "download", str(tmp_path), "--base-url", server.url, "--shards", "0"]
    assert main([*told, "--no-table", "--quiet", "--retries", "1"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"stamps_0.tar: {status}" in error


def test_missing_file_is_named_and_the_others_are_finished(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"stamps_1\.tar: 404 .*2 of 3 files are whole"):
        fetch(tmp_path, server, shards="0-1")
    assert_whole(tmp_path)


def test_table_one_level_above(server: Server, tmp_path: Path) -> None:
    server.files["/a/autoscan_features.3.csv"] = server.files.pop(
        "/a/stamps/autoscan_features.3.csv"
    )
    fetch(tmp_path, server)
    assert_whole(tmp_path)


def test_web_page_in_place_of_the_file(server: Server, tmp_path: Path) -> None:
    server.kind = "text/html; charset=utf-8"
    with pytest.raises(UserError, match="is a web page"):
        fetch(tmp_path, server)
    assert not (tmp_path / "stamps_0.tar").exists()


def test_damaged_file_is_fetched_again(server: Server, tmp_path: Path) -> None:
    fetch(tmp_path, server)
    damaged = bytearray(BIG)
    damaged[1000] ^= 1
    (tmp_path / "stamps_0.tar").write_bytes(damaged)
    # Same length as on the server: only the digest tells.
    lines = fetch(tmp_path, server)
    assert_whole(tmp_path)
    assert "verified" in lines[0]
    assert "downloaded" in lines[1]


def test_file_fetched_by_other_means_is_recorded(server: Server, tmp_path: Path) -> None:
    (tmp_path / "stamps_0.tar").write_bytes(BIG)
    lines = fetch(tmp_path, server)
    assert "found" in lines[1]
    assert_whole(tmp_path)
    assert ("GET", "/a/stamps/stamps_0.tar", None) not in server.requests


def test_too_little_space(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("rb.sources.des.download.shutil.disk_usage", lambda _: usage)
    with pytest.raises(UserError, match="are to be fetched"):
        fetch(tmp_path, server)
    assert all(method == "HEAD" for method, _, _ in server.requests)


def test_silent_server(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        begun = time.monotonic()
        with pytest.raises(UserError, match="fell silent"):
            downloader(tmp_path, timeout=0.2, retries=1).fetch(
                des_files(f"http://127.0.0.1:{port}/", "0", table=False)
            )
        assert time.monotonic() - begun < 5


def test_no_server(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(UserError, match="no connection"):
        downloader(tmp_path).fetch(des_files(f"http://127.0.0.1:{port}/", "0"))


def test_two_downloads_into_one_folder(server: Server, tmp_path: Path) -> None:
    first = downloader(tmp_path)
    with first._alone(), pytest.raises(UserError, match="another download"):
        fetch(tmp_path, server)


def test_damaged_manifest(server: Server, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text("[1, 2")
    with pytest.raises(UserError, match=r"download\.json: damaged"):
        fetch(tmp_path, server)


def test_which_files() -> None:
    assert [f.name for f in des_files("http://x/y", "0,3-5")] == [
        "autoscan_features.3.csv", "stamps_0.tar", "stamps_3.tar", "stamps_4.tar", "stamps_5.tar",
    ]  # fmt: skip
    assert des_files("http://x/y", "10", table=False) == [
        RemoteFile("stamps_10.tar", ("http://x/y/stamps_10.tar",))
    ]
    assert len(des_files("https://x/y/")) == 12


@pytest.mark.parametrize(
    ("url", "shards"),
    [("ftp://x/", "0"), ("/etc/passwd", "0"), ("http://x/", "11"), ("http://x/", "3-1"),
     ("http://x/", ""), ("http://x/", "a"), ("http://x/", "0-")],
)  # fmt: skip
def test_wrong_addresses_and_shards(url: str, shards: str) -> None:
    with pytest.raises(UserError, match=r"--base-url|--shards"):
        des_files(url, shards)
