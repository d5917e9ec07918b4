"""The command lines in this process: seconds faster than one of their own."""

from __future__ import annotations

import os
import runpy
import sys

import pytest
from hydra.core.global_hydra import GlobalHydra
from toys import REPOSITORY

from rb import commands


def run_script(monkeypatch: pytest.MonkeyPatch, script: str, *arguments: str) -> int:
    """``python SCRIPT ARGUMENTS``; its exit code. Tests of it use the fixture `as_before`."""
    commands._failed_jobs.clear()
    GlobalHydra.instance().clear()
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # MLflow puts it there, and it wins
    monkeypatch.setattr(sys, "argv", [str(REPOSITORY / script), *arguments])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(REPOSITORY / script), run_name="__main__")
    return int(end.value.code or 0)
