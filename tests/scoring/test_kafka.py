"""Scores of a stream: each alert once in the output, whatever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from alert_makers import ZTF_SCHEMA, container, ztf, ztf_file
from exported import exported
from kafka_broker import broker, consume, counting, produce

import rb
from rb.cli import main
from rb.errors import UserError
from rb.scoring.kafka import Topic

pytest.importorskip("confluent_kafka", reason="needs rb[kafka]")


def words(source: str, out: str, *more: str) -> list[str]:
    return [
        "score", source, "--model", str(exported()[1]), "--out", out, "--quiet", "--latency", "0.2",
        *more,
    ]  # fmt: skip


def scores_in(folder: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(file) for file in sorted(folder.glob("*.parquet"))])


def running(*command: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "rb", *command], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_for(there, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.05)


def test_a_topic_into_a_folder(tmp_path, capsys):
    alerts = [ztf_file(i) for i in range(1, 8)]
    several = container([ztf(8), ztf(9)], ZTF_SCHEMA)
    with broker(alerts=2) as kafka:
        produce(kafka.address, "alerts", [*alerts, b"no alert", b"", several], 2)
        source = f"kafka://{kafka.address}/alerts"
        assert main(words(source, str(tmp_path / "out"), "--idle", "1")) == 0
        table = scores_in(tmp_path / "out")
        assert sorted(table["id"].dropna().astype(int)) == list(range(1, 10))
        broken = table[table["id"].isna()]
        assert list(broken["tags"]) == ["broken", "broken"] and broken["p_real"].isna().all()
        assert "no packet" in set(broken["problem"]).pop() or len(set(broken["problem"])) == 2
        assert set(table["origin"]) == {f"alerts:{i % 2}:{i // 2}" for i in range(10)}
        one = rb.load(exported()[1])
        assert np.isfinite(table["p_real"].dropna()).all() and one.threshold == 0.5
        # Once more: nothing is new; then one comes.
        assert main(words(source, str(tmp_path / "out"), "--idle", "1")) == 0
        assert len(scores_in(tmp_path / "out")) == len(table)
        produce(kafka.address, "alerts", [ztf_file(20)], 1)
        assert main(words(source, str(tmp_path / "out"), "--idle", "1")) == 0
        assert len(scores_in(tmp_path / "out")) == len(table) + 1
        capsys.readouterr()
        assert main([*words(source, str(tmp_path / "out")), "--max-nan", "0.5"]) == 2
        assert "scores of another job" in capsys.readouterr().err


def test_scores_of_the_stream_are_those_of_the_files(tmp_path):
    (tmp_path / "alerts").mkdir()
    for i in range(1, 6):
        (tmp_path / "alerts" / f"{i}.avro").write_bytes(ztf_file(i))
    table = tmp_path / "table.parquet"
    assert (
        main(
            [
                "score",
                str(tmp_path / "alerts"),
                "--model",
                str(exported()[1]),
                "--out",
                str(table),
                "--quiet",
            ]
        )
        == 0
    )
    with broker(alerts=1) as kafka:
        produce(kafka.address, "alerts", [ztf_file(i) for i in range(1, 6)], 1)
        assert (
            main(words(f"kafka://{kafka.address}/alerts", str(tmp_path / "out"), "--idle", "1"))
            == 0
        )
    streamed = scores_in(tmp_path / "out").set_index("id")["p_real"]
    pd.testing.assert_series_equal(
        streamed.sort_index(), pd.read_parquet(table).set_index("id")["p_real"].sort_index()
    )


@pytest.mark.slow
@pytest.mark.parametrize("into", ["folder", "topic"])
def test_killed_consumers_lose_nothing_and_write_nothing_twice(tmp_path, into):
    n = 300  # the mock broker forgets what is beyond 5 MB of a partition
    messages = [container([ztf(2 * i), ztf(2 * i + 1)], ZTF_SCHEMA) for i in range(1, n // 2 + 1)]
    with broker(alerts=3, scores=2) as kafka:
        produce(kafka.address, "alerts", messages, 3)
        source = f"kafka://{kafka.address}/alerts"
        out = f"kafka://{kafka.address}/scores" if into == "topic" else str(tmp_path / "out")

        count = counting(kafka.address, "scores")

        def done() -> int:
            if into == "topic":
                return count()
            made = any((tmp_path / "out").glob("*.parquet"))
            return len(scores_in(tmp_path / "out")) if made else 0

        for kill in range(2):
            process = running(*words(source, out, "--batch", "4"))
            before = done()
            wait_for(lambda least=before + 10: done() >= least)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            assert done() < n, f"kill {kill} came too late to say anything"
        assert main(words(source, out, "--idle", "3", "--batch", "64")) == 0
        if into == "topic":
            rows = [json.loads(value) for _, value in consume(kafka.address, "scores")]
            ids = [row["id"] for row in rows]
            assert all(row["decision"] in ("real", "bogus") for row in rows)
        else:
            ids = list(scores_in(tmp_path / "out")["id"])
        assert sorted(map(int, ids)) == list(range(2, n + 2))


@pytest.mark.slow
def test_a_broker_that_goes_away_and_comes_back(tmp_path):
    with broker(alerts=1) as kafka:
        produce(kafka.address, "alerts", [ztf_file(i) for i in range(1, 40)], 1)
        process = running(
            *words(f"kafka://{kafka.address}/alerts", str(tmp_path / "out"), "--batch", "4")
        )
        wait_for(lambda: any((tmp_path / "out").glob("*.parquet")))
        kafka.tell("down")
        time.sleep(3)
        kafka.tell("up")
        produce(kafka.address, "alerts", [ztf_file(i) for i in range(40, 60)], 1)
        wait_for(lambda: len(scores_in(tmp_path / "out")) >= 59)
        assert process.poll() is None, "it went on"
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=60)
        assert "Traceback" not in error
    assert sorted(scores_in(tmp_path / "out")["id"].astype(int)) == list(range(1, 60))


def test_wrong_addresses(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("rb.scoring.kafka.topics.WAIT_S", 1.0)
    for text in ("kafka://host:9092", "kafka:///topic", "kafka://h/a b"):
        with pytest.raises(UserError, match="give kafka://HOST:PORT/TOPIC"):
            Topic.parse(text)
    assert main(words("kafka://127.0.0.1:1/alerts", str(tmp_path / "out"))) == 2
    said = capsys.readouterr().err
    assert "is the broker up?" in said and said.strip().count("\n") == 0
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert main(words("kafka://127.0.0.1:1/alerts", str(tmp_path / "full"))) == 2
    assert "holds other files" in capsys.readouterr().err
    assert os.listdir(tmp_path / "full") == ["file"]
