"""One job of a sweep: find it done, take it up, or train it; a failure is noted, not raised."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from rb.config import check_training, config_digest, resolved
from rb.errors import UserError
from rb.interrupts import SIGNALS, Interrupted, listen
from rb.sweeps import board as sweep_board
from rb.sweeps.keys import SWEPT_VARIABLE, job_name, job_values

if TYPE_CHECKING:
    from mlflow.entities import Run
    from rich.console import Console

    from rb.tracking import TrackedRun, Tracking

SILENCE = 1800
"""Seconds without a sign of life after which a run on another machine counts as dead."""

NEW, REUSED, RESUMED = "trained", "reused", "resumed"
"""How a job of a sweep came by its result."""

_WAIT = 5.0  # seconds between two looks at a run that another process is training


@dataclass
class _Job:
    number: int
    name: str
    overrides: list[str]
    parent: str
    tracking: Tracking
    settings: dict[str, Any] | None = None

    def tag(self, how: str) -> dict[str, str]:
        """What marks a run as this job of this sweep."""
        from rb.tracking import SWEEP_TAG

        values = job_values(self.overrides, self.settings or {})
        content = {"job": self.number, "how": how, "values": values, "pid": os.getpid()}
        return {SWEEP_TAG + self.parent: json.dumps(content)}


def sweep_job(config: DictConfig) -> float | None:
    """Do one job of ``train.py -m``; returns the best validation accuracy, None if it failed.

    A job that any sweep or single run of the MLflow experiment has trained with the same
    settings on the same candidates is not run again; one that was cut short is taken up at its
    last save point. ``sweep.reuse=false`` trains it anew.
    """
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    _listen()
    try:
        return _done(config, int(hydra.job.num), list(hydra.overrides.task))
    except Interrupted as stop:
        if sweep_board.current is None:  # in a process that would go on with the next job
            sys.stdout.flush()
            os._exit(128 + stop.signum)
        raise


def _done(config: DictConfig, number: int, overrides: list[str]) -> float | None:
    from rb.tracking import PARENT_VARIABLE, open_tracking

    tracking = open_tracking(config)
    name = job_name(overrides) or str(config.model.name)
    job = _Job(number, name, overrides, os.environ[PARENT_VARIABLE], tracking)
    try:
        job.settings = _settings(config)
        check_training(job.settings)
        return _result(job)
    except Exception as error:
        _note_failure(job, error)
        return None  # Hydra's Optuna sweeper takes this for a failure, but stops at a NaN
    finally:
        _free_memory()


def _settings(config: DictConfig) -> dict[str, Any]:
    settings = resolved(config)
    if settings["run"] is not None:
        raise UserError("run=… takes up a single run; a sweep is taken up by its own command")
    if "name" not in os.environ.get(SWEPT_VARIABLE, "").split():
        settings["name"] = None  # a name given to the sweep is that of its parent run
    return settings


def _result(job: _Job) -> float:
    from rb.tracking import TrackedRun

    assert job.settings is not None
    console = _console(job)
    data = _data_digest(job.settings)
    if job.settings["sweep"]["reuse"]:
        done, cut = _earlier(job, config_digest(job.settings), data)
        if done is not None:
            if _number(done, job.parent) is None:  # else this sweep itself had trained it
                TrackedRun(job.tracking, done.info.run_id).tag(job.tag(REUSED))
            best = done.data.metrics["best/val_acc"]
            console.print(f"{job.name}: was trained before, as run {done.info.run_id[:8]}")
            return best
        if cut is not None:
            from rb.training.job import resume

            TrackedRun(job.tracking, cut.info.run_id).tag(job.tag(RESUMED))
            return resume(job.settings | {"run": cut.info.run_id}, [], console)
    from rb.training.job import train

    return train(job.settings, job.name, console, job.tag(NEW))


def _data_digest(settings: Mapping[str, Any]) -> str:
    """Digest of the candidates; the first job builds the stamp set while the others wait."""
    from rb.sources import open_stamps

    return open_stamps(settings["data"]).digest


def _earlier(job: _Job, digest: str, data: str) -> tuple[Run | None, Run | None]:
    """The run that has done this job, or one that was cut short while doing it."""
    from rb.tracking import PROCESS_TAG, Process

    announced = False
    while True:
        runs = _same(job.tracking, digest, data)
        done = [r for r in runs if r.info.status == "FINISHED" and _has_result(r)]
        if done:
            return done[0], None
        busy = [r for r in runs if r.info.status == "RUNNING" and is_going_on(job.tracking, r)]
        if not busy:
            break
        if not announced:
            run = busy[0]
            process = Process.parse(run.data.tags.get(PROCESS_TAG))
            print(
                f"{job.name}: waiting for run {run.info.run_id[:8]}, which trains the same "
                f"(process {process})",
                file=sys.stderr,
            )
            announced = True
        time.sleep(_WAIT)
    ours = [r for r in runs if _can_go_on(r)]
    return None, ours[0] if ours else None


def _same(tracking: Tracking, digest: str, data: str) -> list[Run]:
    from rb.tracking import CONFIG_TAG, KIND_TAG

    runs = tracking.tagged({KIND_TAG: "training", CONFIG_TAG: digest})
    return [r for r in runs if r.data.tags.get("data.digest", data) == data]


def _has_result(run: Run) -> bool:
    return "best/val_acc" in run.data.metrics and "data.digest" in run.data.tags


def _can_go_on(run: Run) -> bool:
    from rb.tracking import SAVED_CONFIG_TAG

    return run.info.status != "FINISHED" and SAVED_CONFIG_TAG in run.data.tags


def is_going_on(tracking: Tracking, run: Run) -> bool:
    """Whether a run that says it is running has a process, as far as can be told from here.

    On this machine the process is looked up. A run on another one is alive if it was started or
    has logged an epoch within the last `SILENCE` seconds.
    """
    from rb.tracking import PROCESS_TAG, Process, is_alive

    tag = run.data.tags.get(PROCESS_TAG)
    process = Process.parse(tag)
    if process is not None and process.is_here:
        return is_alive(tag) or tracking.is_locked(run.info.run_id)
    epochs = tracking.client.get_metric_history(run.info.run_id, "val/loss")
    last = max([run.info.start_time, *(m.timestamp for m in epochs)])
    return time.time() - last / 1000 < SILENCE


def _note_failure(job: _Job, error: Exception) -> None:
    """FAILED in MLflow, whether the error came before the run was there or in it."""
    from rb.tracking import ERROR_TAG, STATE_TAG, TrackedRun

    with suppress(Exception):
        found = [
            run
            for run in job.tracking.runs(parent=job.parent)
            if _number(run, job.parent) == job.number and run.data.tags.get(STATE_TAG) == "failed"
        ]
        if found:
            run = TrackedRun(job.tracking, found[0].info.run_id)
            run.tag({ERROR_TAG: str(error)[:500] or type(error).__name__})
        else:
            run = _failed_run(job, error)
        run.log_text("".join(traceback.format_exception(error)), "error.txt")
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    print(f"error: {job.name}: {kind}{error}", file=sys.stderr)


def _failed_run(job: _Job, error: Exception) -> TrackedRun:
    tags = job.tag(NEW)
    if job.settings is not None:
        from rb.tracking import CONFIG_TAG

        tags[CONFIG_TAG] = config_digest(job.settings)
    opened = []
    with suppress(type(error)), job.tracking.run(job.name, "training", tags) as run:
        opened.append(run)
        if job.settings is not None:
            run.log_config(job.settings)
        raise error
    return opened[0]


def _number(run: Run, parent: str) -> int | None:
    from rb.tracking import SWEEP_TAG

    return json.loads(run.data.tags.get(SWEEP_TAG + parent, "{}")).get("job")


def _console(job: _Job) -> Console:
    """Where a job reports: in the sweep's own process the terminal, else a file of its own.

    A batch system keeps what a job prints; processes of joblib share the terminal and would
    write over each other.
    """
    from rb.console import make_console

    if sweep_board.current is not None:
        return sweep_board.current.console
    if os.environ.get("SUBMITIT_EXECUTOR"):
        return make_console()
    from rich.console import Console

    assert job.settings is not None
    folder = Path(job.settings["paths"]["runs"]) / "logs" / job.parent
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / f"{job.number}.log").open("a", buffering=1, encoding="utf-8")
    return Console(file=file, width=100, highlight=False, soft_wrap=True)


def _listen() -> None:
    """Make Ctrl-C and SIGTERM interrupt a job in a process that has no handler of ours."""
    if sweep_board.current is not None:
        return
    untouched = (signal.SIG_DFL, signal.default_int_handler)
    with suppress(ValueError):  # not in the main thread
        listen(one for one in SIGNALS if signal.getsignal(one) in untouched)


def _free_memory() -> None:
    """What a job that ran out of the accelerator's memory held must not take the next down."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        import gc

        gc.collect()
        torch.cuda.empty_cache()
