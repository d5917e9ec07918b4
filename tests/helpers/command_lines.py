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


def run(
    script: str, *arguments: str, expect: int = 0, forked: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    """``python SCRIPT ARGUMENTS`` in a process of its own, with these variables set.

    One that has imported the large libraries forks it, which saves it most of its time. What tests
    kill, and the commands of `rb`, which have to start fast, are started as users do.
    """
    words = command(script, *arguments)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)} | environment
    if forked:
        done = _forked(words, kept)
    else:  # such as one that has a pool of processes, or is told what libraries read once
        done = subprocess.run(words, capture_output=True, text=True, env=kept, timeout=300)
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def _forked(words: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as folder:
        process = _FORKING.Process(target=_perform, args=(words[1:], environment, folder))
        process.start()
        process.join(300)
        if process.exitcode is None:
            process.kill()
            process.join()
        said = [(Path(folder) / name).read_text() for name in ("stdout", "stderr")]
    return subprocess.CompletedProcess(words, process.exitcode, *said)


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
