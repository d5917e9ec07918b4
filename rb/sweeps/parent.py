"""The parent run of a sweep."""

from __future__ import annotations

import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from rb.config import check_places, register_resolvers
from rb.errors import UserError
from rb.hydra_job import at_failure, configuration_message, fail, job_failed
from rb.interrupts import Interrupted
from rb.sweeps.keys import SWEPT_VARIABLE, announce, n_jobs, sweep_key, swept

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn
    from mlflow.entities import Run

    from rb.sweeps.table import Row

KEY_TAG = "rb.sweep_key"  # digest of what is to be done, by which the same sweep is recognised


class JobsFailed(Exception):
    """Some jobs of a sweep did not come to a result; the sweep did not finish either."""


class SweepParent(Callback):
    """Hydra callback: one MLflow run around the jobs of ``train.py -m``.

    It creates database and experiment before any job starts, and passes its ID on to the
    jobs, also to those in other processes, through the environment. A sweep that did not
    finish is taken up in the same parent run by the same command; one that did is shown.
    """

    def __init__(self) -> None:
        self._context: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: in the process of a job this callback has nothing to do."""
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Get the process of a job, which has not come through `train.py`, ready."""
        register_resolvers()
        self._context = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Open the parent run, or take up or show the one that was opened for the same jobs."""
        # Hydra turns what a callback raises into a warning, and would go on without a parent.
        try:
            self._open(config)
        except UserError as error:
            fail(str(error))
        except Exception as error:
            message = configuration_message(error)
            if message is not None:
                fail(message)
            traceback.print_exc()
            sys.exit(1)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Show what came of a job that ran in this process."""
        if self._context is not None:
            self._board.update()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write table and picture of the jobs and close the parent run."""
        if self._context is None:
            return
        try:
            rows = self._finish()
        except Exception as error:
            if isinstance(error, UserError):
                print(f"error: {error}", file=sys.stderr)
            else:
                traceback.print_exc()
            job_failed("sweep")
            self._close(error)
            return
        self._close(
            JobsFailed(_failures(rows, self._total)) if _failed(rows, self._total) else None
        )

    def _open(self, config: DictConfig) -> None:
        # What is wrong with the list of jobs is said before anything heavy is imported.
        self._total, key, keys = n_jobs(config), sweep_key(config), swept(config)
        from rb.console import make_console
        from rb.sweeps.board import SweepBoard
        from rb.sweeps.table import rows_of
        from rb.tracking import EXPERIMENT_TAG, PARENT_VARIABLE, SIZE_TAG, open_tracking
        from rb.training.ranks import refuse_several

        refuse_several("a sweep")
        overrides = list(config.hydra.overrides.task)
        print("starting the sweep …", file=sys.stderr)
        check_places(OmegaConf.to_container(config.paths, resolve=True))  # type: ignore[arg-type]
        self._tracking = open_tracking(config)
        experiment, size = config.get("experiment"), config.get("size")
        name = config.name or _name(experiment, size, keys)
        tags = {"overrides": " ".join(overrides), KEY_TAG: key}
        tags |= {EXPERIMENT_TAG: experiment} if experiment else {}
        tags |= {SIZE_TAG: size["name"]} if size else {}
        self._submitted: list[Any] = []
        if "submitit" in str(config.hydra.launcher.get("_target_", "")):
            from rb.sweeps.remote import guard_submissions

            self._submitted = guard_submissions()
        if "optuna" in str(config.hydra.sweeper.get("_target_", "")):
            import optuna

            optuna.logging.set_verbosity(optuna.logging.WARNING)
        # Two that start at the same moment must not both find none and begin one.
        with self._tracking.alone():
            earlier = self._earlier(key) if config.sweep.reuse else None
            run_id = earlier.info.run_id if earlier else None
            self._context = self._tracking.run(name, "sweep", tags, run_id=run_id)
            self._run = self._context.__enter__()
        at_failure(self._stopped)
        os.environ[PARENT_VARIABLE] = self._run.run_id
        announce(list(keys))
        word = "taking up sweep" if earlier else "sweep"
        jobs = f"{self._total} jobs" if self._total is not None else "jobs"
        make_console().print(f"{word} {self._run.run_id} ({name}): {jobs}")
        self._board = SweepBoard(
            lambda: rows_of(self._tracking, self._run.run_id), self._total, name
        )
        self._board.start()

    def _earlier(self, key: str) -> Run | None:
        """The parent run of the same sweep to go on with; a finished one is shown instead."""
        from rb.sweeps.table import rows_of
        from rb.tracking import KIND_TAG, PROCESS_TAG, Process, is_alive

        for run in self._tracking.tagged({KIND_TAG: "sweep", KEY_TAG: key}):
            label, process = run.info.run_id[:8], run.data.tags.get(PROCESS_TAG)
            if run.info.status == "RUNNING" and is_alive(process):
                raise UserError(
                    f"this sweep is going on as run {label} (process {Process.parse(process)}); "
                    "wait for it, stop it, or give another one a name with name=…"
                )
            rows = rows_of(self._tracking, run.info.run_id)
            if run.info.status != "FINISHED" or _failed(rows, self._total):
                return run
            if not self._data_changed(rows):
                self._show(label, rows)
                sys.exit(0)
        return None

    def _show(self, label: str, rows: list[Row]) -> None:
        from rb.console import make_console
        from rb.sweeps.table import terminal_table

        console = make_console()
        console.print(terminal_table(rows, f"sweep {label}"))
        console.print(f"sweep {label} is finished; nothing to do (sweep.reuse=false runs it anew)")

    def _data_changed(self, rows: list[Row]) -> bool:
        """Whether the candidates that the jobs were trained on may be others now.

        The settings fix those of a survey that is simulated; a folder given by the user, or a
        table of labels, can have changed. Where it may have, the jobs look for themselves.
        """
        from rb.stamps import StampSet

        for row in rows:
            data = self._tracking.client.get_run(row.run_id).data
            if data.params.get("data.labels", "None") != "None":
                return True
            if data.params.get("data.name") == "stamps":
                path = data.params.get("data.path", "")
                try:
                    return StampSet.open(path).digest != data.tags.get("data.digest")
                except UserError:
                    return True
        return False

    def _finish(self) -> list[Row]:
        from rb.sweeps.summary import finish

        self._board.stop()
        self._reap()
        rows = finish(self._tracking, self._run, self._board.console)
        if _failed(rows, self._total):
            for row in rows:
                if not row.done:
                    job_failed(row.name)
            job_failed("sweep")
            print(f"error: {_failures(rows, self._total)}", file=sys.stderr)
            print("the same command runs only these again", file=sys.stderr)
        return rows

    def _stopped(self, error: BaseException) -> None:
        """Hydra gave up the sweep: a signal, settings that cannot be composed, a lost worker."""
        if self._context is None:
            return
        self._board.stop()
        for job in self._submitted:
            if not job.done():
                job.cancel()
        self._reap(all_of_them=bool(self._submitted))
        self._board.update()
        print(self._board.summary(estimate=False), file=sys.stderr)
        if isinstance(error, Interrupted) or self._tracking.runs(parent=self._run.run_id):
            print("the same command takes this sweep up where it stopped", file=sys.stderr)
        self._close(error)

    def _reap(self, all_of_them: bool = False) -> None:
        """Jobs whose process is gone did not end by themselves: say so."""
        from rb.sweeps.jobs import is_going_on

        for run in self._tracking.runs(parent=self._run.run_id):
            if run.info.status == "RUNNING" and (
                all_of_them or not is_going_on(self._tracking, run)
            ):
                self._tracking.close(run.info.run_id, "interrupted")

    def _close(self, error: BaseException | None) -> None:
        from rb.tracking import PARENT_VARIABLE

        for variable in (PARENT_VARIABLE, SWEPT_VARIABLE):
            os.environ.pop(variable, None)
        context, self._context = self._context, None
        context.__exit__(type(error) if error else None, error, None)


def _name(experiment: str | None, size: DictConfig | None, keys: dict[str, str]) -> str:
    if experiment:
        return f"{experiment} ({size['name']})" if size else experiment
    text = " ".join(f"{key}={values}" for key, values in keys.items()) or "one job"
    return "sweep: " + (text if len(text) <= 120 else text[:119] + "…")


def _failed(rows: list[Row], total: int | None) -> bool:
    return any(not r.done for r in rows) or (total is not None and len(rows) < total)


def _failures(rows: list[Row], total: int | None) -> str:
    lines = [
        f"  job {r.number} ({r.name}) {r.state}"
        + (f": {r.error.splitlines()[0]}" if r.error else "")
        for r in rows
        if not r.done
    ]
    if total is not None and len(rows) < total:
        lines.append(f"  {total - len(rows)} more were not begun")
    n = len(lines) if total is None or len(rows) >= total else len(lines) - 1 + total - len(rows)
    return f"{n} of {total if total is not None else len(rows)} jobs have no result\n" + "\n".join(
        lines
    )
