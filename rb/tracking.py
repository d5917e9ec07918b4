"""Everything that talks to MLflow."""

from __future__ import annotations

import json
import logging
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rb.config import flat, project_root
from rb.errors import UserError
from rb.interrupts import Interrupted, uninterrupted

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.entities import Run

PARENT_VARIABLE = "RB_PARENT_RUN"
PARENT_TAG = "mlflow.parentRunId"
KIND_TAG = "rb.kind"  # training, sweep or evaluation
STATE_TAG = "rb.state"  # running, interrupted, failed, finished
PROCESS_TAG = "rb.process"  # host:pid, to tell a run that goes on from one that was killed
SWEEP_TAG = "rb.sweep."  # and the ID of a sweep: what its job was, as JSON
CONFIG_TAG = "rb.config"  # digest of all settings that change the result
EXPERIMENT_TAG = "rb.experiment"  # file of conf/experiment that put the settings together
SIZE_TAG = "rb.size"  # full, small or toy
# MLflow writes what it is told into the environment of its own process, where it would look
# like a user's wish to whoever opens another store later.
_SET_BY_MLFLOW: set[str] = set()
_LONGEST_PARAM = 500  # MLflow cuts or refuses longer values, depending on the store


class Tracking:
    """The tracking server or database, opened once per process.

    Parameters
    ----------
    uri : str or None
        ``None``: SQLite below `folder`. ``MLFLOW_TRACKING_URI`` in the environment wins.
    folder : path
        Where the database, artifacts and checkpoints lie (``mlruns/``).
    experiment : str
        Name of the MLflow experiment; created if it is not there.

    Raises
    ------
    UserError
        If the store cannot be reached.
    """

    def __init__(self, uri: str | None, folder: str | os.PathLike[str], experiment: str) -> None:
        # MLflow greets users and asks for telemetry; a command line tool should do neither.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        import mlflow
        from mlflow.exceptions import MlflowException

        # "Creating initial database tables" and the like are no news to a user.
        for name in ("mlflow.store.db.utils", "mlflow.tracking", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", message=".*An input example was not provided.*")
        self.folder = Path(folder).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        local = f"sqlite:///{self.folder / 'mlflow.db'}"
        given = os.environ.get("MLFLOW_TRACKING_URI")
        if given in _SET_BY_MLFLOW:
            given = None
        self.uri = given or uri or local
        if not given:
            _SET_BY_MLFLOW.add(self.uri)
        try:
            mlflow.set_tracking_uri(self.uri)
            client = mlflow.MlflowClient(self.uri)
            self.client: Any = (
                _UninterruptibleClient(client) if self.uri.startswith("sqlite") else client
            )
            with self._alone():
                found = self.client.get_experiment_by_name(experiment)
                if found is None:
                    place = (self.folder / "artifacts").as_uri() if self.uri == local else None
                    # Makes the page show columns for training runs, not for chat traces.
                    kind = {"mlflow.experimentKind": "custom_model_development"}
                    self.experiment_id = self.client.create_experiment(experiment, place, kind)
                else:
                    self.experiment_id = found.experiment_id
                    if found.lifecycle_stage == "deleted":
                        self.client.restore_experiment(self.experiment_id)
        except (MlflowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"tracking.uri: no tracking at {self.uri} ({reason})") from error
        mlflow.set_experiment(experiment_id=self.experiment_id)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes out: two that create a database at once spoil each other."""
        if not self.uri.startswith("sqlite"):
            yield
            return
        from filelock import FileLock

        with FileLock(self.folder / ".mlflow.lock", timeout=120):
            yield

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
        recent = ", ".join(f"{r.info.run_id[:8]} ({r.info.run_name})" for r in runs[:5]) or "none"
        raise UserError(f"there is no run '{run}' in {self.uri}; the newest are: {recent}")

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
        found: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id],
                " and ".join(clauses),
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

    def checkpoints(self, run_id: str) -> Path:
        """Folder for the checkpoints of a run."""
        return self.folder / "checkpoints" / run_id

    @contextmanager
    def run(
        self,
        name: str,
        kind: str,
        tags: Mapping[str, str] | None = None,
        run_id: str | None = None,
        parent: str | None = None,
    ) -> Iterator[TrackedRun]:
        """Start or take up a run, and end it as what it was: the one place that does.

        Finished if the block is left normally, FAILED with the reason on an error, KILLED on
        an interruption.
        """
        if run_id is None:
            all_tags = dict(tags or {}) | {KIND_TAG: kind} | _origin_tags()
            parent = parent or os.environ.get(PARENT_VARIABLE)
            if parent:
                all_tags[PARENT_TAG] = parent
            created = self.client.create_run(self.experiment_id, run_name=name, tags=all_tags)
            run_id = created.info.run_id
        elif "rb.error" in self.client.get_run(run_id).data.tags:
            self.client.delete_tag(run_id, "rb.error")  # of the attempt before
        tracked = TrackedRun(self, run_id)
        tracked.tag({STATE_TAG: "running", PROCESS_TAG: f"{socket.gethostname()}:{os.getpid()}"})
        self.client.update_run(run_id, status="RUNNING")
        try:
            yield tracked
        except (Interrupted, KeyboardInterrupt, SystemExit):
            self._end(tracked, "interrupted", "KILLED")
            if kind == "training" and PARENT_VARIABLE not in os.environ:
                print(f"go on with: python train.py run={run_id[:8]}", file=sys.stderr)
            raise
        except BaseException as error:
            tracked.tag({"rb.error": str(error)[:_LONGEST_PARAM] or type(error).__name__})
            self._end(tracked, "failed", "FAILED")
            raise
        self._end(tracked, "finished", "FINISHED")

    def _end(self, run: TrackedRun, state: str, status: str) -> None:
        run.tag({STATE_TAG: state})
        self.client.set_terminated(run.run_id, status)


class _UninterruptibleClient:
    """A client whose calls are not cut short by an interruption.

    A transaction that is cut leaves SQLite locked, and then not even the interruption can
    be recorded. Servers look after themselves, and waiting for one would hold up Ctrl-C.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            with uninterrupted():
                return found(*arguments, **named)

        return call


def open_tracking(config: Mapping[str, Any]) -> Tracking:
    """The tracking store that a configuration names."""
    settings = config["tracking"]
    return Tracking(settings["uri"], config["paths"]["runs"], settings["experiment"])


@dataclass(frozen=True)
class TrackedRun:
    """Handle on one MLflow run."""

    tracking: Tracking
    run_id: str

    @property
    def data(self) -> Any:
        """Parameters, metrics and tags as they are in the store now."""
        return self.tracking.client.get_run(self.run_id).data

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        for key, value in tags.items():
            self.tracking.client.set_tag(self.run_id, key, value)

    def log_config(self, config: Mapping[str, Any], unused: str | None = None) -> None:
        """Flat leaves as parameters, the whole as ``config.yaml``.

        Parameters
        ----------
        config : mapping
            The configuration.
        unused : str, optional
            Part of it that has no effect on this run, so that no parameter claims one.
        """
        import yaml
        from mlflow.entities import Param

        params = [
            Param(k, str(v)[:_LONGEST_PARAM])
            for k, v in flat(config)
            if k.partition(".")[0] != unused
        ]
        for start in range(0, len(params), 100):  # the server's limit for one call
            self.tracking.client.log_batch(self.run_id, params=params[start : start + 100])
        self.log_text(yaml.safe_dump(dict(config), sort_keys=False), "config.yaml")

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Add parameters that are known only later; those already there are left alone."""
        from mlflow.entities import Param

        have = self.data.params
        new = [Param(k, str(v)[:_LONGEST_PARAM]) for k, v in params.items() if k not in have]
        self.tracking.client.log_batch(self.run_id, params=new)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log numbers; those that are not finite are left out, SQL stores refuse some."""
        self.log_rows([(step, metrics)])

    def log_rows(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Log several steps at once; one transaction instead of one per epoch."""
        import math
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(key, float(value), now, step)
            for step, row in rows
            for key, value in row.items()
            if value is not None and math.isfinite(value)
        ]
        for start in range(0, len(metrics), 900):
            self.tracking.client.log_batch(self.run_id, metrics=metrics[start : start + 900])

    def steps(self, metric: str) -> set[int]:
        """Steps at which a metric has been logged already."""
        history = self.tracking.client.get_metric_history(self.run_id, metric)
        return {m.step for m in history}

    def log_text(self, text: str, name: str) -> None:
        """Keep a text as an artifact."""
        self.tracking.client.log_text(self.run_id, text, name)

    def log_json(self, value: Any, name: str) -> None:
        """Keep data as JSON."""
        self.log_text(json.dumps(value, indent=1), name)

    def log_file(self, file: str | os.PathLike[str], folder: str | None = None) -> None:
        """Keep a file as an artifact."""
        self.tracking.client.log_artifact(self.run_id, str(file), folder)

    def log_figure(self, figure: Figure, name: str) -> None:
        """Keep a figure as ``<name>.png`` and ``<name>.pdf``."""
        from rb.figures.style import save_figure

        with tempfile.TemporaryDirectory() as folder:
            for file in save_figure(figure, Path(folder) / Path(name).name):
                self.log_file(file, str(Path(name).parent) if "/" in name else None)

    def log_dataset(self, name: str, digest: str, source: str, context: str) -> None:
        """Record which stamp set was used, for MLflow's Dataset column."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=name,
            digest=digest[:32],
            source_type="local",
            source=json.dumps({"uri": source}),
        )
        inputs = [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])]
        # MLflow looks whether it knows the data set and then adds it, in two steps.
        with self.tracking._alone():
            self.tracking.client.log_inputs(self.run_id, inputs)

    def log_model(
        self, checkpoint: str | os.PathLike[str], columns: Sequence[str] | None = None
    ) -> None:
        """Log a checkpoint as an MLflow model with a signature: raw stamps in, p_real out.

        The model is loaded by `rb.models.pyfunc` from plain weights; nothing is pickled. A forest
        that needs more than stamps takes a table with the features `columns` instead.
        """
        import mlflow
        import numpy as np
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, Schema, TensorSpec

        from rb import __version__

        signature = ModelSignature(
            inputs=Schema(
                [ColSpec("double", name) for name in columns]
                if columns
                else [TensorSpec(np.dtype("float32"), (-1, 3, -1, -1), "stamps")]
            ),
            outputs=Schema([TensorSpec(np.dtype("float32"), (-1,), "p_real")]),
        )
        with uninterrupted(), mlflow.start_run(run_id=self.run_id):
            mlflow.pyfunc.log_model(
                name="model",
                loader_module="rb.models.pyfunc",
                data_path=str(checkpoint),
                signature=signature,
                # Given, because MLflow would otherwise load the model in a new process to see
                # what it imports.
                pip_requirements=[f"rb=={__version__}"],
            )


def is_alive(process: str | None) -> bool:
    """Whether the process ``host:pid`` of a run still exists, as far as this host can tell."""
    host, _, pid = (process or "").rpartition(":")
    if host != socket.gethostname() or not pid.isdigit() or int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def git_commit() -> str | None:
    """Commit of the code that runs, with a ``+`` if files were changed since; None outside git."""

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


def _origin_tags() -> dict[str, str]:
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
