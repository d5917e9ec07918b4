"""The command lines as a user types them, in a process of their own or in this one."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from toys import REPOSITORY

from rb import hydra_job as commands

_OURS = ("MLFLOW", "RB_")
_FORKING = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload(["forked"])


def command(script: str, *arguments: str) -> list[str]:
    return [sys.executable, str(REPOSITORY / script), *arguments]


class Started:
    """``python SCRIPT ARGUMENTS`` in a process of its own, with these variables set.

    One that has imported the large libraries forks it, which saves it most of its time.
    """

    def __init__(self, script: str, *arguments: str, **environment: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        told = (command(script, *arguments)[1:], _kept(environment), self._folder.name)
        self._process = _FORKING.Process(target=_perform, args=told)
        self._process.start()

    def poll(self) -> int | None:
        """Its exit code; None while it goes on."""
        return self._process.exitcode

    def send_signal(self, signum: int) -> None:
        os.kill(self._process.pid, signum)

    def wait(self, seconds: float = 300) -> int:
        """Its exit code, once it has ended; it is killed if that takes longer."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        return self._process.exitcode

    @property
    def said(self) -> tuple[str, str]:
        """What it wrote to stdout and stderr."""
        folder = Path(self._folder.name)
        return (folder / "stdout").read_text(), (folder / "stderr").read_text()


def run(
    script: str, *arguments: str, expect: int = 0, forked: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`Started`, to its end. The commands of `rb`, which have to start fast, are not forked."""
    words = command(script, *arguments)
    if forked:
        process = Started(script, *arguments, **environment)
        done = subprocess.CompletedProcess(words, process.wait(), *process.said)
    else:  # such as one that has a pool of processes, or is told what libraries read once
        kept = _kept(environment)
        done = subprocess.run(words, capture_output=True, text=True, env=kept, timeout=300)
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def _kept(environment: dict[str, str]) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(_OURS)} | environment


def _perform(words: list[str], environment: dict[str, str], folder: str) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(Path(folder) / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.argv = words
    try:
        runpy.run_path(words[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()


def run_here(monkeypatch: pytest.MonkeyPatch, script: str, *arguments: str) -> int:
    """The same in this process, which saves seconds; gives the exit code.

    Tests of it use the fixture `as_before`.
    """
    commands._failed_jobs.clear()
    GlobalHydra.instance().clear()
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # MLflow puts it there, and it wins
    monkeypatch.setattr(sys, "argv", [str(REPOSITORY / script), *arguments])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(REPOSITORY / script), run_name="__main__")
    return int(end.value.code or 0)
