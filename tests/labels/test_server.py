"""The review's server, asked rightly and wrongly."""

from __future__ import annotations

import base64
import http.client
import json
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from reviews import write_table
from toys import write_set

from rb.cli import main
from rb.errors import UserError
from rb.labels.journal import read_journal, read_journals
from rb.labels.merge import merge_verdicts, write_verdicts
from rb.labels.review import Choice, Review
from rb.labels.server import ReviewServer
from rb.stamps.relabelled import relabel


@pytest.fixture
def server(stamp_set, tmp_path) -> Iterator[ReviewServer]:
    table = write_table(stamp_set, tmp_path / "suspects.parquet")
    with ReviewServer(Review(table, tmp_path / "review"), port=0) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.shutdown()
        thread.join(10)


def ask(
    server: ReviewServer, path: str, body: object = None, **headers: str | None
) -> tuple[int, bytes]:
    """A request as the page makes it; headers (with _ for -) may be changed or left out."""
    told: dict[str, str | None] = {"X-Review-Token": server.token}
    content = None
    if body is not None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        told["Content-Type"] = "application/json"
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        sent = {k: v for k, v in told.items() if v is not None}
        connection.request("GET" if body is None else "POST", path, content, sent)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def verdict(**changed: object) -> dict[str, object]:
    return {"inspector": "Ada", "number": 0, "verdict": "real", "shown": False} | changed


def test_the_page_gets_what_it_needs(server, stamp_set):
    status, page = ask(server, server.url.split(str(server.port))[1], X_Review_Token=None)
    assert status == 200
    assert b"{{" not in page
    assert page.count(b"http://") + page.count(b"https://") == 0  # nothing from elsewhere
    start = json.loads(ask(server, "/api/start")[1])
    assert len(start["ids"]) == 8
    told = json.loads(ask(server, "/api/candidate/3")[1])
    row = int(np.flatnonzero(stamp_set.ids == int(told["id"]))[0])
    for k, panel in enumerate(told["panels"]):
        pixels = np.frombuffer(base64.b64decode(panel["pixels"]), "<f4").reshape(51, 51)
        np.testing.assert_array_equal(pixels, stamp_set[row][k])
        assert panel["low"] < panel["high"]
    assert [name for name, _ in told["facts"]] == ["mag", "snr"]
    assert not {"kind", "label", "p_real"} & {name for name, _ in told["facts"]}
    assert told["hidden"]["rank"] == 4


def test_verdicts_are_on_the_disk_when_the_answer_comes(server, tmp_path, stamp_set):
    for number, said in enumerate(["real", "bogus", "unsure"]):
        assert ask(server, "/api/verdict", verdict(number=number, verdict=said))[0] == 200
        assert len(read_journal(tmp_path / "review" / "verdicts-Ada.csv")) == number + 1
    assert ask(server, "/api/verdict", verdict(inspector="Bo <i>", shown=True))[0] == 200
    said = json.loads(ask(server, "/api/verdicts?inspector=Ada")[1])
    assert list(said.values()) == ["real", "bogus", "unsure"]
    assert json.loads(ask(server, "/api/verdicts?inspector=" + quote("Bo <i>"))[1]) != {}
    assert json.loads(ask(server, "/api/verdicts?inspector=New")[1]) == {}
    journals = read_journals(tmp_path / "review")
    assert journals["Bo <i>"]["shown"].tolist() == [1]
    # All the way: what was said becomes labels of the set, pixels compared.
    table = tmp_path / "v.parquet"
    write_verdicts(merge_verdicts(journals), table)
    new = relabel(stamp_set, table)
    expected = {int(i): {"real": 0, "bogus": 1, "unsure": -1}[v] for i, v in said.items()}
    found = dict(zip(new.ids.tolist(), new.labels.tolist(), strict=True))
    assert {i: found[i] for i in expected} == expected


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {}),
        ("/?token=", {}),
        ("/?token=wrong", {}),
        ("/?token=%C3%A9", {}),
        ("/api/start", {"X_Review_Token": None}),
        ("/api/start", {"X_Review_Token": "wrong"}),
        ("/api/start", {"Host": "evil.example"}),
        ("/api/start", {"Host": "evil.example:80"}),
        ("/api/start", {"Host": "127.0.0.1.evil.example:80"}),
        ("/api/start", {"Origin": "http://evil.example"}),
        ("/api/start", {"Origin": "null"}),
    ],
)
def test_strangers_get_nothing(server, path, headers):
    status, body = ask(server, path, **headers)
    assert status == 403
    assert server.token.encode() not in body


def test_a_tunnel_from_another_port_is_welcome(server):
    for host in ("localhost:9000", "127.0.0.1:1234", "localhost"):
        assert ask(server, "/api/start", Host=host, Origin=f"http://{host}")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd", "/../../etc/passwd", "//etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/api",
        "/api/candidate/", "/api/candidate/-1", "/api/candidate/1e3", "/api/candidate/0/../../x",
        "/api/candidate/٣", "/review.html", "/templates/review.html", "/api/verdict",
    ],
)  # fmt: skip
def test_there_is_nothing_else_to_be_had(server, path):
    status, body = ask(server, quote(path, safe="/%"))
    assert status in (400, 404)
    assert b"root:" not in body


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[]", {}, 400),
        (b"\xff\xfe", {}, 400),
        (b"[" * 4000, {}, 400),
        (b'"' + b"x" * 5000 + b'"', {}, 413),
        (verdict(), {"Content_Type": "text/plain"}, 415),
        (verdict(), {"Content_Length": "-5"}, 411),
        (verdict(), {"Content_Length": "x"}, 411),
        (verdict(), {"X_Review_Token": None}, 403),
        (verdict(), {"Origin": "http://evil.example"}, 403),
        (verdict(number=8), {}, 400),
        (verdict(number=-1), {}, 400),
        (verdict(number=True), {}, 400),
        (verdict(number="0"), {}, 400),
        (verdict(number=None), {}, 400),
        (verdict(verdict="maybe"), {}, 400),
        (verdict(verdict=None), {}, 400),
        (verdict(inspector=""), {}, 400),
        (verdict(inspector=None), {}, 400),
        (verdict(inspector="a\r\nb"), {}, 400),
        ({}, {}, 400),
    ],
)
def test_a_verdict_that_is_none_changes_nothing(server, tmp_path, body, headers, status):
    assert ask(server, "/api/verdict", body, **headers)[0] == status
    assert list((tmp_path / "review").glob("verdicts-*")) == []
    assert ask(server, "/api/start")[0] == 200


def test_noise_on_the_line_does_not_stop_it(server, tmp_path):
    rng = random.Random(1)
    for _ in range(60):
        junk = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 300)))
        if rng.random() < 0.5:
            junk = b"POST /api/verdict HTTP/1.1\r\nHost: localhost\r\n" + junk
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
            line.sendall(junk)
    assert ask(server, "/api/verdict", verdict())[0] == 200
    assert [p.name for p in (tmp_path / "review").glob("verdicts-*")] == ["verdicts-Ada.csv"]


def test_inspectors_at_the_same_time_lose_nothing(server, tmp_path):
    def inspect(who: str) -> None:
        for number in range(8):
            assert ask(server, "/api/verdict", verdict(inspector=who, number=number))[0] == 200

    threads = [threading.Thread(target=inspect, args=(w,)) for w in ("Ada", "Bo", "Cy", "Ada")]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert [len(t) for t in read_journals(tmp_path / "review").values()] == [8, 8, 8]


def test_what_is_shown_can_be_chosen(stamp_set, tmp_path):
    table = write_table(stamp_set, tmp_path / "s.parquet")

    def shown(**choice: object) -> list[str]:
        return Review(table, tmp_path / "out", choice=Choice(**choice)).chosen["id"].tolist()  # type: ignore[arg-type]

    assert len(shown()) == 8
    assert shown(top=3) == shown()[:3]
    assert len(shown(everything=True)) == 120
    labels = dict(zip(map(str, stamp_set.ids), stamp_set.labels, strict=True))
    assert {labels[i] for i in shown(given=1)} == {1}
    drawn = shown(random=30, given=1)
    assert len(drawn) == 30
    assert drawn == shown(random=30, given=1) != shown(random=30, given=1, seed=2)


def test_a_single_inspector_can_be_fixed(stamp_set, tmp_path):
    table = write_table(stamp_set, tmp_path / "s.parquet")
    review = Review(table, tmp_path / "out", inspector=" Ada ")
    assert review.start()["inspector"] == "Ada"
    review.record("Ada", 0, "real", False)
    with pytest.raises(UserError, match="that of Ada, not of Bo"):
        review.record("Bo", 0, "real", False)


def test_a_folder_belongs_to_one_stamp_set(stamp_set, tmp_path, capsys):
    table = write_table(stamp_set, tmp_path / "s.parquet")
    Review(table, tmp_path / "out")
    other = write_set(tmp_path / "other", 120, seed=5)
    table = write_table(other, tmp_path / "o.parquet")
    words = ["labels", "review", str(table), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "holds verdicts on another stamp set" in capsys.readouterr().err
    assert main([*words, "--set", str(stamp_set.path)]) == 2
    assert "belongs to a stamp set with digest" in capsys.readouterr().err
    assert main(["labels", "review", str(tmp_path / "none.parquet")]) == 2
    assert "none.parquet does not exist" in capsys.readouterr().err
    assert main([*words, "--facts", "mag,nonsense"]) == 2
    assert "no column nonsense" in capsys.readouterr().err


def test_a_port_that_is_taken_is_said(server, stamp_set, tmp_path):
    with pytest.raises(UserError, match=f"--port {server.port}: cannot listen"):
        ReviewServer(server.review, port=server.port)


def test_nan_and_missing_channels_can_be_shown(tmp_path):
    stamps = write_set(tmp_path / "nodiff", 60, channels=("srch", "tmpl"))
    table = write_table(stamps, tmp_path / "s.parquet")
    told = Review(table, tmp_path / "out").candidate(0)
    json.dumps(told, allow_nan=False)
    assert [p["channel"] for p in told["panels"]] == ["srch", "tmpl"]


def test_commands_end_well(stamp_set, tmp_path: Path, monkeypatch, capsys):
    """Ctrl-C: what was said so far is told, and how to go on."""
    table = write_table(stamp_set, tmp_path / "s.parquet")

    def interrupted(self: ReviewServer, poll_interval: float = 0.5) -> None:
        self.review.record("Ada [bold]", 0, "bogus", False)
        raise KeyboardInterrupt

    monkeypatch.setattr(ReviewServer, "serve_forever", interrupted)
    out = tmp_path / "my review"
    assert main(["labels", "review", str(table), "--out", str(out), "--port", "0"]) == 0
    text = capsys.readouterr().out
    assert "8 candidates of toy survey" in text
    assert "http://127.0.0.1:" in text
    assert "ssh -N -L" in text
    assert "Ada [bold]: 1 judged (0 real, 1 bogus, 0 unsure)" in text
    assert f"rb labels merge '{out}'" in text
