"""A training that several processes share ends as one of a single process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import command_lines
import pytest
import torch
from ports import free_port
from toys import REPOSITORY, write_set

from rb.tracking import Tracking

pytestmark = pytest.mark.slow

NO_DROPOUT = "model.network.convolutions=[{filters: 4, kernel: 5, pool: 2}]"


def command(root: Path, *more: str) -> list[str]:
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    return [*start, "train.py", f"paths.root={root}", *more]


def settings(data: Path, *more: str) -> list[str]:
    return [
        "model=nodia", "data=stamps", f"data.path={data}", "trainer=quick", "split.val=40",
        "split.test=20", "trainer.batch_size=20", "trainer.accelerator=cpu", *more,
    ]  # fmt: skip


def run(words: list[str]) -> subprocess.CompletedProcess:
    done = subprocess.run(
        words, cwd=REPOSITORY, capture_output=True, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def trained(root: Path, file: str = "last.ckpt"):
    tracking = Tracking(None, root / "mlruns", "rb")
    (only,) = tracking.runs("training")
    folder = tracking.checkpoints(only.info.run_id)
    return only, torch.load(folder / file, weights_only=True)


def test_two_processes_learn_what_one_learns(tmp_path):
    write_set(tmp_path / "set", 160)
    words = settings(tmp_path / "set", "trainer.max_epochs=3", NO_DROPOUT)
    command_lines.run("train.py", *words, f"paths.root={tmp_path / 'one'}")
    said = run(command(tmp_path / "two", *words))
    assert said.stdout.count("best val/acc") == 1 and "Warning" not in said.stderr
    (one, weights), (two, others) = trained(tmp_path / "one"), trained(tmp_path / "two")
    for name, value in weights["state_dict"].items():
        torch.testing.assert_close(others["state_dict"][name], value, atol=1e-5, rtol=1e-4)
    for key in ("train/loss", "val/loss", "val/acc"):
        assert two.data.metrics[key] == pytest.approx(one.data.metrics[key], abs=1e-4)
    assert two.data.tags["rb.state"] == "finished" and two.info.status == "FINISHED"


def two(root: Path, *more: str) -> list[command_lines.Started]:
    """The two processes that torchrun would start, forked, which saves most of their time."""
    told = {
        "TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    words = ["train.py", *more, f"paths.root={root}"]
    return [command_lines.Started(*words, **told, RANK=i, LOCAL_RANK=i) for i in ("0", "1")]


def finish(processes: list[command_lines.Started]) -> None:
    for process in processes:
        assert process.wait() == 0, process.said


def test_killed_and_taken_up_it_ends_as_undisturbed(tmp_path):
    write_set(tmp_path / "set", 160)
    words = settings(tmp_path / "set", "trainer.max_epochs=40", "trainer.save_every_s=0")
    finish(two(tmp_path / "whole", *words))
    first = two(tmp_path / "cut", *words)
    until = time.monotonic() + 120
    while not list((tmp_path / "cut").glob("mlruns/checkpoints/*/last.ckpt")):
        assert time.monotonic() < until and first[0].poll() is None
        time.sleep(0.02)
    time.sleep(0.3)
    for process in first:
        process.send_signal(signal.SIGKILL)
    for process in first:
        process.wait()
    cut, point = trained(tmp_path / "cut")
    assert point["epoch"] < 39
    finish(two(tmp_path / "cut", f"run={cut.info.run_id}"))
    (_, expected), (again, found) = trained(tmp_path / "whole"), trained(tmp_path / "cut")
    for name, value in expected["state_dict"].items():
        assert torch.equal(found["state_dict"][name], value)
    history = Tracking(None, tmp_path / "cut" / "mlruns", "rb").client.get_metric_history(
        again.info.run_id, "val/loss"
    )
    assert sorted(m.step for m in history) == list(range(40))


def test_a_sweep_is_refused(tmp_path):
    words = [
        *command(tmp_path)[:-1],
        "-m",
        "model=dia,nodia",
        f"paths.root={tmp_path}",
    ]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode and "start it without torchrun" in done.stderr
