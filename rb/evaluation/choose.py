"""Which runs are meant: the latest, the best of a sweep, IDs, names, files."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from rb.config import project_root
from rb.errors import UserError
from rb.models.contract import Scorer
from rb.models.files import load_file, model_file
from rb.tracking import PARENT_TAG, STATE_TAG, SWEEP_TAG, Tracking

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass(frozen=True)
class ChosenModel:
    """A model to evaluate and what is known of its training; files have no run."""

    name: str
    run_id: str
    model: Scorer
    config: dict[str, Any] | None = None
    history: pd.DataFrame | None = None
    metrics: dict[str, float] | None = None
    command: str | None = None


def load(what: str | os.PathLike[str], runs: str | os.PathLike[str] | None = None) -> Scorer:
    """The one model that `what` names, see `rb.load`."""
    file = model_file(what)
    if file is not None:
        return load_file(file)
    folder = project_root() / "mlruns" if runs is None else Path(runs)
    if "MLFLOW_TRACKING_URI" not in os.environ and not (folder / "mlflow.db").is_file():
        raise UserError(f"{what} is no file of a model, and there are no runs in {folder}")
    chosen = select(Tracking(None, folder, "rb"), os.fspath(what))
    if len(chosen) > 1:
        names = ", ".join(f"{c.run_id[:8]} ({c.name})" for c in chosen[:5])
        raise UserError(f"{what} names {len(chosen)} models; give one of them: {names}")
    return chosen[0].model


def select(tracking: Tracking, runs: Any, cache: Path | None = None) -> list[ChosenModel]:
    """The models that `runs` names, in the order given.

    Parameters
    ----------
    tracking : Tracking
        Where the runs are.
    runs : str or sequence of str
        `latest`, `best`, IDs, names, files.
    cache : path, optional
        Folder where models may keep what is slow to compute.

    Raises
    ------
    UserError
        If one does not exist, has not finished, or is not a training run.
    """
    chosen: list[ChosenModel] = []
    for entry in [runs] if isinstance(runs, str) else list(runs):
        file = model_file(str(entry))
        if file is not None:
            chosen.append(ChosenModel(file.stem, "", load_file(file, cache)))
        else:
            chosen += [_from_run(tracking, run, cache) for run in _find(tracking, str(entry))]
    unique = {c.run_id or c.name: c for c in chosen}
    return list(unique.values())


def _find(tracking: Tracking, entry: str) -> list[Run]:
    if entry == "latest":
        finished = _finished(tracking.runs("training"))
        if not finished:
            raise UserError("runs=latest: nothing was trained yet; run python train.py first")
        # A sweep that found all of its jobs trained already is newer than any of them.
        for sweep in tracking.runs("sweep"):
            if sweep.info.start_time > finished[0].info.start_time:
                jobs = _jobs(tracking, sweep.info.run_id)
                if jobs:
                    return jobs
        parent = finished[0].data.tags.get(PARENT_TAG)
        return _jobs(tracking, parent) if parent else finished[:1]
    if entry == "best" or entry.startswith("best:"):
        name = entry.partition(":")[2]
        sweeps = [tracking.find(name)] if name else tracking.runs("sweep")[:1]
        if not sweeps:
            raise UserError("runs=best: there is no sweep yet; run python train.py -m … first")
        jobs = _jobs(tracking, sweeps[0].info.run_id)
        if not jobs:
            raise UserError(f"runs={entry}: that sweep has no finished job")
        best: dict[str, Run] = {}
        for run in sorted(jobs, key=lambda r: r.data.metrics.get("best/val_acc", 0.0)):
            best[run.data.tags.get("inputs", "")] = run
        return [best[kind] for kind in sorted(best)]
    found = tracking.find(entry)
    kind = found.data.tags.get("rb.kind")
    if kind == "sweep":
        return _jobs(tracking, found.info.run_id)
    if kind != "training":
        raise UserError(f"runs={entry}: that is a run of kind '{kind}', not a training run")
    if not _finished([found]):
        raise UserError(
            f"runs={entry}: that run is {found.data.tags.get(STATE_TAG, found.info.status)}; "
            f"take it up with python train.py run={found.info.run_id[:8]}"
        )
    return [found]


def _jobs(tracking: Tracking, sweep: str) -> list[Run]:
    """Finished jobs of a sweep in its order, those that an earlier sweep had trained included."""

    def order(run: Run) -> tuple[int, int]:
        job = json.loads(run.data.tags.get(SWEEP_TAG + sweep, "{}")).get("job", -1)
        return job, run.info.start_time

    return sorted(_finished(tracking.runs(parent=sweep)), key=order)


def _finished(runs: list[Run]) -> list[Run]:
    return [
        r for r in runs if r.info.status == "FINISHED" and r.data.tags.get("rb.kind") == "training"
    ]


def _from_run(tracking: Tracking, run: Run, cache: Path | None) -> ChosenModel:
    with tempfile.TemporaryDirectory() as folder:
        model = tracking.artifact(run.info.run_id, "checkpoint", folder)
        history = tracking.artifact(run.info.run_id, "history.csv", folder)
        return ChosenModel(
            run.info.run_name,
            run.info.run_id,
            load_file(model, cache),
            tracking.config_of(run),
            pd.read_csv(history),
            dict(run.data.metrics),
            run.data.tags.get("rb.command"),
        )
