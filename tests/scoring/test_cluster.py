"""Scoring by several workers: the same table, each row once, whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from alert_makers import write, ztf_file
from exported import exported
from ports import free_port
from toys import toy_stamps

from rb.cli import main
from rb.scoring import alerts, candidates
from rb.scoring.job import made_by

pytest.importorskip("distributed", reason="needs rb[dask]")


def words(data: Path, out: Path, *more: str, model: Path | None = None) -> list[str]:
    return [
        "score", str(data), "--model", str(model or exported()[1]), "--out", str(out), "--quiet",
        *more,
    ]  # fmt: skip


def stack(folder: Path, n: int) -> Path:
    stamps, _ = toy_stamps(50)
    np.save(folder / "stack.npy", np.concatenate([stamps] * (n // 50)).astype(np.float32))
    return folder / "stack.npy"


@contextmanager
def cluster(workers: int) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """A scheduler and workers as a cluster has them: processes that know an address only."""
    host, port = "127.0.0.1", str(free_port())
    address = f"tcp://{host}:{port}"
    dask = [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = [
        subprocess.Popen(
            [*dask, "scheduler", "--host", host, "--port", port, "--no-dashboard"], **quiet
        )
    ]
    try:
        for _ in range(workers):
            started.append(
                subprocess.Popen(
                    [*dask, "worker", address, "--no-nanny", "--nthreads", "1", "--no-dashboard"],
                    env=os.environ | {"OMP_NUM_THREADS": "1"}, **quiet,
                )
            )  # fmt: skip
        from distributed import Client

        with Client(address, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=60)
        yield address, started[1:]
    finally:
        for process in started[::-1]:
            process.kill()
            process.wait()


def when(folder: Path, parts: int) -> None:
    until = time.monotonic() + 60
    while len(list(folder.glob("part-*.parquet"))) < parts:
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.01)


@pytest.mark.slow
def test_processes_of_this_machine_make_the_same_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(candidates, "_PIECE", 30)
    data = stack(tmp_path, 100)
    assert main(words(data, tmp_path / "one.parquet", "--embeddings")) == 0
    assert main(words(data, tmp_path / "two.parquet", "--embeddings", "--dask", "2")) == 0
    assert "100 candidates" in capsys.readouterr().out.splitlines()[-1]
    one, two = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("one", "two"))
    pd.testing.assert_frame_equal(one.drop(columns="embedding"), two.drop(columns="embedding"))
    np.testing.assert_allclose(np.stack(one["embedding"]), np.stack(two["embedding"]), rtol=1e-5)
    about = made_by(tmp_path / "two.parquet")
    assert about["data_digest"] == made_by(tmp_path / "one.parquet")["data_digest"]


@pytest.mark.slow
def test_each_row_once_though_a_worker_and_the_job_are_killed(tmp_path, monkeypatch, capsys):
    data, out = stack(tmp_path, 6000), tmp_path / "scores.parquet"
    assert main(words(data, tmp_path / "one.parquet")) == 0
    job = (
        "import sys; from rb.scoring import candidates; from rb.cli import main; "
        "candidates._PIECE = 40; sys.exit(main(sys.argv[1:]))"
    )
    with cluster(3) as (address, workers):
        command = [sys.executable, "-c", job, *words(data, out, "--dask", address)]
        first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        when(tmp_path / ".scores.parquet.partial", 15)
        workers[0].send_signal(signal.SIGKILL)
        when(tmp_path / ".scores.parquet.partial", 40)
        first.kill()
        first.wait()
        assert not out.exists()
        kept = len(list((tmp_path / ".scores.parquet.partial").glob("part-*.parquet")))
        assert 40 <= kept < 150
        again = subprocess.run(command, capture_output=True, text=True)
        assert again.returncode == 0, again.stderr
        assert f"{kept * 40:,} of them before" in again.stdout
    one, two = pd.read_parquet(tmp_path / "one.parquet"), pd.read_parquet(out)
    pd.testing.assert_frame_equal(one, two)
    assert len(two) == 6000 and two["id"].is_unique


@pytest.mark.slow
def test_alerts_in_pieces_of_files(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "alerts"
    for number in range(7):
        write(folder, f"{number}.avro", ztf_file(number))
    write(folder, "notes.txt", b"no packets")
    monkeypatch.setattr(alerts, "_PIECE_BYTES", 2 * (folder / "0.avro").stat().st_size)
    model = exported()[1]
    assert main(words(folder, tmp_path / "one.csv", model=model)) == 0
    assert main(words(folder, tmp_path / "two.csv", "--dask", "2", model=model)) == 0
    assert (tmp_path / "one.csv").read_text() == (tmp_path / "two.csv").read_text()


def test_what_cannot_be_shared_is_said(tmp_path, capsys):
    data = stack(tmp_path, 50)
    assert main(words(data, tmp_path / "a.csv", "--dask", "tcp://127.0.0.1:9")) == 2
    said = capsys.readouterr().err
    assert "no scheduler answers at tcp://127.0.0.1:9" in said and said.count("\n") == 1
    assert not (tmp_path / "a.csv").exists()
