"""The tracking server or database: opened, searched, and its runs started and ended."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rb.errors import UserError
from rb.interrupts import Interrupted
from rb.tracking import database
from rb.tracking.client import (
    GuardedClient,
    TrackingError,
    be_impatient,
    expect_server,
    quieten,
    translated,
)
from rb.tracking.origin import (
    ERROR_TAG,
    KIND_TAG,
    PARENT_TAG,
    PARENT_VARIABLE,
    PROCESS_TAG,
    SAVED_CONFIG_TAG,
    STATE_TAG,
    SWEEP_TAG,
    Process,
    origin_tags,
)
from rb.tracking.saved import parse_config, relocated
from rb.tracking.tracked_run import LONGEST, TrackedRun
from rb.tracking.view import prepare_view

if TYPE_CHECKING:
    from mlflow.entities import Run

_STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}

TIMEOUT_S = 10.0
"""Seconds that a server may take to answer, where no setting says otherwise."""


class Tracking:
    """The tracking server or database, opened once per process.

    Runs that say they are running although their process on this machine is gone are marked as
    what they are, and a database whose folder was moved or copied has its places brought up to
    date.

    Parameters
    ----------
    uri : str or None
        `None`: SQLite below `folder`. `MLFLOW_TRACKING_URI` in the environment wins.
    folder : path
        Where the database, artifacts and checkpoints lie (``mlruns/``).
    experiment : str
        Name of the MLflow experiment; created if it is not there.
    timeout_s : float
        How long a server may take to answer, s.
    create : bool
        Whether an experiment that is not there is created.

    Raises
    ------
    UserError
        If the store cannot be reached, or has no such experiment and none is to be created.
    """

    def __init__(
        self,
        uri: str | None,
        folder: str | os.PathLike[str],
        experiment: str,
        timeout_s: float = TIMEOUT_S,
        create: bool = True,
    ) -> None:
        self.folder = Path(folder).absolute()
        self.timeout_s = timeout_s
        database.check_folder(self.folder, "paths.runs")
        quieten()
        import mlflow

        be_impatient(timeout_s)
        given = os.environ.get("MLFLOW_TRACKING_URI")
        self.is_local = not (given or uri)
        self.uri = given or uri or database.address(self.folder)
        if self.uri.startswith(("http://", "https://")):
            expect_server(self.uri, timeout_s)
        self.read_only = (
            self.is_local
            and database.database_file(self.folder).is_file()
            and not os.access(self.folder, os.W_OK)
        )
        try:
            with translated(self.uri), self.alone():
                if self.is_local:
                    database.prepare(self.folder)
                mlflow.set_tracking_uri(self.uri)
                # MLflow writes it into the environment of this process, where it would look like
                # a user's wish to whoever opens another store later, here or in a child.
                os.environ.pop("MLFLOW_TRACKING_URI", None)
                if given:
                    os.environ["MLFLOW_TRACKING_URI"] = given
                client = mlflow.MlflowClient(self.uri)
                self.client: Any = GuardedClient(client, self.uri, self.read_only)
                self.experiment_id = self._experiment(experiment, create)
                mlflow.set_experiment(experiment_id=self.experiment_id)
        except (mlflow.exceptions.MlflowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"tracking.uri: no tracking at {self.uri} ({reason})") from error
        if not self.read_only:
            prepare_view(self.client, self.experiment_id)
            self._mark_dead_runs()

    def _experiment(self, name: str, create: bool) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is None:
            if self.read_only or not create:
                have = ", ".join(e.name for e in self.client.search_experiments())
                raise UserError(f"{self.folder} has no experiment '{name}'; it has: {have}")
            place = database.artifact_place(self.folder) if self.is_local else None
            # Makes the page show columns for training runs, not for chat traces.
            kind = {"mlflow.experimentKind": "custom_model_development"}
            return str(self.client.create_experiment(name, place, kind))
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        if self.is_local and not self.read_only:
            database.mend_places(self.folder, found.experiment_id)
        return str(found.experiment_id)

    def to_read(self) -> Tracking:
        """The same store, to which nothing is written through what is given back."""
        reader = copy(self)
        reader.read_only = True
        reader.client = self.client.to_read()
        return reader

    def alone(self) -> Any:
        """A block that no other process is in that uses this database."""
        if self.read_only or not self.uri.startswith("sqlite"):
            return nullcontext()
        return database.alone(self.folder)

    def _mark_dead_runs(self) -> None:
        """Say of runs whose process on this machine is gone that they don't run."""
        for run in self._search("attributes.status = 'RUNNING'"):
            process = Process.parse(run.data.tags.get(PROCESS_TAG))
            if process is None or not process.is_here or process.is_alive:
                continue
            if self.is_locked(run.info.run_id):  # another container called like this machine
                continue
            tags, state = run.data.tags, "interrupted"
            if tags.get(KIND_TAG) == "training" and SAVED_CONFIG_TAG not in tags:
                state, reason = "failed", "killed before its settings were recorded"
                self.client.set_tag(run.info.run_id, ERROR_TAG, reason)
            self.close(run.info.run_id, state)

    def find(self, run: str) -> Run:
        """The run with this ID, start of an ID, or name (the newest of that name).

        Raises
        ------
        UserError
            If there is none, or the start fits several.
        """
        runs = self.runs()
        exact = [r for r in runs if r.info.run_id == run]
        begins = [r for r in runs if r.info.run_id.startswith(run)] if len(run) >= 4 else []
        named = [r for r in runs if r.info.run_name == run]
        if not exact and len(begins) > 1:
            raise UserError(f"run '{run}' fits {len(begins)} runs; give more of its ID")
        for found in (exact, begins, named):
            if found:
                return found[0]
        trained = self.runs("training")[:5]
        recent = ", ".join(f"{r.info.run_id[:8]} ({r.info.run_name})" for r in trained) or "none"
        raise UserError(f"there is no run '{run}' in {self.uri}; the newest trainings: {recent}")

    def runs(self, kind: str | None = None, parent: str | None = None) -> list[Run]:
        """Runs of the experiment, newest first.

        With `parent` the jobs of that sweep, those included that an earlier sweep had trained.
        """
        if parent is None:
            return self.tagged({KIND_TAG: kind} if kind else {})
        kinds = {KIND_TAG: kind} if kind else {}
        own = self.tagged(kinds | {PARENT_TAG: parent})
        taken_over = self.tagged(kinds | {SWEEP_TAG + parent: None})
        unique = {run.info.run_id: run for run in own + taken_over}
        return sorted(unique.values(), key=lambda run: -run.info.start_time)

    def tagged(self, tags: Mapping[str, str | None]) -> list[Run]:
        """Runs of the experiment with these tags, newest first; None stands for any value."""
        clauses = [
            f"tags.`{key}` LIKE '%'" if value is None else f"tags.`{key}` = '{value}'"
            for key, value in tags.items()
        ]
        return self._search(" and ".join(clauses))

    def _search(self, clauses: str) -> list[Run]:
        found: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id],
                clauses,
                max_results=1000,
                order_by=["attributes.start_time DESC"],
                page_token=token,
            )
            found += page
            token = page.token
            if not token:
                return found

    def artifact(self, run_id: str, name: str, folder: str | os.PathLike[str]) -> Path:
        """Fetch an artifact of a run into `folder`; UserError if the run has none."""
        from mlflow.exceptions import MlflowException

        try:
            return Path(self.client.download_artifacts(run_id, name, str(folder)))
        except (MlflowException, OSError) as error:
            raise UserError(f"run {run_id[:8]} has no '{name}'; did it finish?") from error

    def config_of(self, run: Run) -> dict[str, Any]:
        """The settings that a run was started with, files looked for where the folder is now.

        Raises
        ------
        UserError
            If they were not recorded, or are damaged beside the checkpoints as well.
        """
        expected = run.data.tags.get(SAVED_CONFIG_TAG)
        run_id, what = run.info.run_id, f"run {run.info.run_id[:8]}"
        copy = self.checkpoints(run_id) / "config.yaml"
        with tempfile.TemporaryDirectory() as folder:
            try:
                text = self.artifact(run_id, "config.yaml", folder).read_bytes()
                saved = parse_config(text, expected, what)
            except TrackingError:
                raise
            except UserError:
                if not (expected and copy.is_file()):
                    raise
                saved = parse_config(copy.read_bytes(), expected, what)
        return relocated(saved, self.folder)

    def checkpoints(self, run_id: str) -> Path:
        """Folder for the checkpoints of a run."""
        return self.folder / "checkpoints" / run_id

    def is_locked(self, run_id: str) -> bool:
        """Whether a process that shares these folders trains this run."""
        lock = database.try_lock(self._lock_file(run_id))
        if lock is None:
            return True
        lock.release()
        return False

    def _lock_file(self, run_id: str) -> Path:
        return self.checkpoints(run_id) / ".lock"

    @contextmanager
    def run(
        self,
        name: str,
        kind: str,
        tags: Mapping[str, str] | None = None,
        run_id: str | None = None,
        parent: str | None = None,
    ) -> Iterator[TrackedRun]:
        """Start or resume a run, and end it as what it was: the one place that does.

        Finished if the block is left normally, FAILED with the reason on an error, KILLED on
        an interruption. A training is locked meanwhile: a second process that resumes it is told.
        """
        if self.read_only:
            if kind != "evaluation":
                raise UserError(f"paths.runs: {self.folder} can only be read")
            print(f"{self.folder} can only be read: nothing is recorded there", file=sys.stderr)
            yield TrackedRun(self, "")
            return
        process = {STATE_TAG: "running", PROCESS_TAG: Process.this().tag}
        if run_id is None:
            all_tags = dict(tags or {}) | {KIND_TAG: kind} | process | origin_tags()
            parent = parent or os.environ.get(PARENT_VARIABLE)
            if parent:
                all_tags[PARENT_TAG] = parent
            created = self.client.create_run(self.experiment_id, run_name=name, tags=all_tags)
            run_id = created.info.run_id
            lock = self._lock(run_id) if kind == "training" else None
        else:
            lock = self._lock(run_id) if kind == "training" else None
            if ERROR_TAG in self.client.get_run(run_id).data.tags:
                self.client.delete_tag(run_id, ERROR_TAG)  # of the attempt before
        tracked = TrackedRun(self, run_id)
        try:
            with self._ending(tracked, kind):
                tracked.tag(process)
                self.client.update_run(run_id, status="RUNNING")
                yield tracked
        finally:
            if lock is not None:
                lock.release()

    def _lock(self, run_id: str) -> Any:
        lock = database.try_lock(self._lock_file(run_id))
        if lock is None:
            raise UserError(f"run {run_id[:8]} is being trained by another process; stop it first")
        return lock

    @contextmanager
    def _ending(self, run: TrackedRun, kind: str) -> Iterator[None]:
        go_on = f"python train.py run={run.run_id[:8]}"
        try:
            yield
            self.close(run.run_id, "finished")
        except (Interrupted, KeyboardInterrupt, SystemExit):
            with suppress(TrackingError):
                self.close(run.run_id, "interrupted")
            if kind == "training" and PARENT_VARIABLE not in os.environ:
                print(f"go on with: {go_on}", file=sys.stderr)
            raise
        except TrackingError as error:
            with suppress(TrackingError):
                self.close(run.run_id, "interrupted")
            if kind != "training":
                raise
            raise TrackingError(
                f"{error}; what was trained is in {self.checkpoints(run.run_id)}, and is recorded "
                f"when the store is back with: {go_on}"
            ) from error
        except BaseException as error:
            with suppress(TrackingError):
                run.tag({ERROR_TAG: str(error)[:LONGEST] or type(error).__name__})
                self.close(run.run_id, "failed")
            raise

    def close(self, run_id: str, state: str) -> None:
        """End a run as ``finished``, ``failed`` or ``interrupted``."""
        self.client.set_tag(run_id, STATE_TAG, state)
        self.client.set_terminated(run_id, _STATUS[state])


def open_tracking(config: Mapping[str, Any]) -> Tracking:
    """The tracking store that a configuration names."""
    settings = config["tracking"]
    return Tracking(
        settings["uri"],
        config["paths"]["runs"],
        settings["experiment"],
        settings.get("timeout_s", TIMEOUT_S),
    )
