"""The command lines as a user types them, in a process of their own or in this one."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys

import pytest
from hydra.core.global_hydra import GlobalHydra
from toys import REPOSITORY

from rb import hydra_job as commands


def command(script: str, *arguments: str) -> list[str]:
    return [sys.executable, str(REPOSITORY / script), *arguments]


def run(
    script: str, *arguments: str, expect: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """``python SCRIPT ARGUMENTS`` in a process of its own, with these variables set."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "RB_"))}
    done = subprocess.run(
        command(script, *arguments),
        capture_output=True, text=True, env=kept | environment, timeout=300,
    )  # fmt: skip
    assert done.returncode == expect, done.stdout + done.stderr
    return done


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
