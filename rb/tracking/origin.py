"""Where a run comes from: its tags, the process that has it, and the code."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from rb.config import project_root

PARENT_VARIABLE = "RB_PARENT_RUN"
PARENT_TAG = "mlflow.parentRunId"
KIND_TAG = "rb.kind"  # training, sweep or evaluation
STATE_TAG = "rb.state"  # running, interrupted, failed, finished
PROCESS_TAG = "rb.process"  # a `Process`, to tell a run that goes on from one that was killed
ERROR_TAG = "rb.error"  # why it failed
SWEEP_TAG = "rb.sweep."  # and the ID of a sweep: what its job was, as JSON
CONFIG_TAG = "rb.config"  # digest of all settings that change the result
SAVED_CONFIG_TAG = "rb.saved_config"  # SHA-256 of the artifact config.yaml, set once it is there
EXPERIMENT_TAG = "rb.experiment"  # file of conf/experiment that put the settings together
SIZE_TAG = "rb.size"  # full, small or toy

_SAME_START_S = 3.0  # start times that differ by less are the same: clocks are adjusted


@dataclass(frozen=True)
class Process:
    """A process on some machine; a number that was given anew to another program is another one.

    Attributes
    ----------
    started : float
        When it was started, s since 1970.
    """

    host: str
    pid: int
    started: float

    @classmethod
    def this(cls) -> Process:
        """The one that asks."""
        return cls(socket.gethostname(), os.getpid(), psutil.Process().create_time())

    @classmethod
    def parse(cls, tag: str | None) -> Process | None:
        """Read what `tag` wrote; None for anything else."""
        try:
            host, pid, started = (tag or "").rsplit(":", 2)
            return cls(host, int(pid), float(started))
        except ValueError:
            return None

    @property
    def tag(self) -> str:
        """For the tag `PROCESS_TAG`."""
        return f"{self.host}:{self.pid}:{self.started:.2f}"

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"

    @property
    def is_here(self) -> bool:
        """Whether it is, or was, on this machine."""
        return self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """Whether it still exists, as far as this machine can tell."""
        if not self.is_here:
            return False
        try:
            started = psutil.Process(self.pid).create_time()
        except psutil.AccessDenied:
            return True
        except (psutil.Error, ValueError, OverflowError):
            return False
        return abs(started - self.started) < _SAME_START_S


def is_alive(tag: str | None) -> bool:
    """Whether another process, which the tag `PROCESS_TAG` of a run names, still has that run."""
    process = Process.parse(tag)
    return process is not None and process.pid != os.getpid() and process.is_alive


def git_commit() -> str | None:
    """Commit of the code that runs, with a `+` if files were changed since; None outside git."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(project_root()), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def origin_tags() -> dict[str, str]:
    """Command and code of this process, for the tags of a run."""
    script = Path(sys.argv[0]).name
    tags = {
        "rb.command": "python " + shlex.join([script, *sys.argv[1:]]),
        "mlflow.source.name": script,
        "mlflow.source.type": "LOCAL",
    }
    commit = git_commit()
    if commit:
        tags |= {
            "mlflow.source.git.commit": commit.rstrip("+"),
            "rb.uncommitted_changes": str(commit.endswith("+")).lower(),
        }
    return tags
