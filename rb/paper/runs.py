"""The runs that the report of the paper is made from, and their scores.

An experiment of ``conf/experiment`` marks its sweep, or a single run, with the tag
``rb.experiment`` and its size with ``rb.size``.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Console

from rb.errors import UserError
from rb.evaluation.choose import select
from rb.evaluation.results import RunResult
from rb.evaluation.scored_run import ScoredRun, score_run
from rb.evaluation.tracked import log_to_run
from rb.metrics.intervals import UNDEFINED, Estimate, proportion
from rb.paper.values import NETWORKS
from rb.stamps import StampSet
from rb.tracking import EXPERIMENT_TAG, PARENT_TAG, SIZE_TAG, TrackedRun, Tracking

if TYPE_CHECKING:
    from mlflow.entities import Run

SIZES = ("full", "small", "toy")
"""Largest first; runs of no size come last."""

_PAIR = set(NETWORKS)
_TRAIN_METRIC = "trained_on/accuracy"  # of the training subset, without dropout


@dataclass(frozen=True)
class Job:
    """A finished training run, as the tables need it."""

    run: Run

    @property
    def id(self) -> str:
        """Identifier in the tracking database."""
        return self.run.info.run_id

    @property
    def name(self) -> str:
        """Name of the model's configuration."""
        return self.run.data.params.get("model.name") or self.run.info.run_name

    @property
    def inputs(self) -> str:
        """``dia`` or ``nodia``."""
        return self.run.data.tags.get("inputs", "")

    def param(self, key: str, default: str = "") -> str:
        """A setting, as MLflow keeps it: a text."""
        return self.run.data.params.get(key, default)

    def number(self, key: str) -> int:
        """A whole-numbered setting; -1 where it is not known."""
        text = self.param(key)
        return int(text) if text.lstrip("-").isdigit() else -1

    def metric(self, key: str) -> float:
        """A metric; NaN where there is none."""
        return self.run.data.metrics.get(key, float("nan"))

    @property
    def kernels(self) -> list[int]:
        """Kernel sizes of the convolutions, px."""
        found: list[int] = []
        while (k := self.number(f"model.network.convolutions.{len(found)}.kernel")) > 0:
            found.append(k)
        return found

    @property
    def dense(self) -> list[int]:
        """Widths of the hidden dense layers."""
        try:
            return [int(n) for n in json.loads(self.param("model.network.dense", "[]"))]
        except (ValueError, TypeError):
            return []


@dataclass(frozen=True)
class Experiment:
    """The newest runs of an experiment at one size."""

    name: str
    size: str | None
    command: str | None
    jobs: list[Job]
    unfinished: int = 0

    @property
    def about(self) -> str:
        """Where the numbers come from, in a sentence."""
        first = self.jobs[0]
        data = _data_name(first.run)
        counts = [f"{first.number(f'n_{s}'):,} {word}" for s, word in _SUBSETS]
        text = f"Here: {data}, candidates: {', '.join(counts)}"
        text += f"; size {self.size}." if self.size else "."
        if self.size == "toy":
            text += " At toy size the numbers mean nothing."
        if self.unfinished:
            text += f" Jobs that have not finished: {self.unfinished}."
        return text

    @property
    def data(self) -> str:
        """Name of the stamp set and number of test candidates."""
        return f"{_data_name(self.jobs[0].run)}, {self.jobs[0].number('n_test'):,}"


_SUBSETS = (("train", "to train"), ("val", "to validate"), ("test", "to test"))


def _data_name(run: Run) -> str:
    inputs = getattr(run, "inputs", None)
    for found in getattr(inputs, "dataset_inputs", None) or []:
        return str(found.dataset.name)
    return run.data.tags.get("data", "unknown data")


class PaperRuns:
    """Runs by experiment, and their test results, scored where nobody has done it yet.

    Parameters
    ----------
    config : mapping
        As composed from ``conf/evaluate.yaml`` with ``conf/study/paper.yaml``.
    tracking : Tracking
        Where the runs are.
    console : Console
        Where progress goes.
    """

    def __init__(self, config: Mapping[str, Any], tracking: Tracking, console: Console) -> None:
        self.config = config
        self.confidence = float(config["confidence"])
        self._tracking = tracking
        self._console = console
        self._opened: dict[str, StampSet] = {}
        self._scored: dict[tuple[str, str], ScoredRun] = {}

    @cached_property
    def _marked(self) -> list[Run]:
        """Sweeps and single runs of any experiment, newest first."""
        runs = self._tracking.runs("sweep") + self._tracking.runs("training")
        found = [
            run
            for run in runs
            if EXPERIMENT_TAG in run.data.tags and PARENT_TAG not in run.data.tags
        ]
        return sorted(found, key=lambda run: -run.info.start_time)

    def experiment(self, name: str) -> Experiment | None:
        """Newest runs of an experiment at the largest size that there is; None without any.

        ``study.size`` asks for one size, ``study.source`` for one source of candidates. Of
        equal size a sweep that has finished comes before one that has not.
        """
        wanted, source = self.config["study"]["size"], self.config["study"]["source"]
        best: tuple[tuple[int, int], Experiment] | None = None
        for run in self._marked:
            size = run.data.tags.get(SIZE_TAG)
            if run.data.tags[EXPERIMENT_TAG] != name or (wanted and size != wanted):
                continue
            rank = (_rank(size), run.info.status != "FINISHED")
            if best is not None and best[0] <= rank:
                continue
            every = self._members(run)
            jobs = [
                Job(job)
                for job in every
                if job.info.status == "FINISHED"
                and (not source or job.data.tags.get("data") == source)
            ]
            if jobs:
                command = run.data.tags.get("rb.command")
                left = sum(job.info.status != "FINISHED" for job in every)
                best = rank, Experiment(name, size, command, _distinct(jobs), left)
        return best[1] if best else None

    def pair(self) -> Experiment | None:
        """Both networks of Table 1, the one with the difference image first.

        Those that ``runs`` names; with ``runs=latest`` those of the experiment ``paper``, or
        else the newest two that were trained alike and for no other experiment.
        """
        if self.config["runs"] != "latest":
            candidates = select(self._tracking, self.config["runs"])
            ids = [candidate.run_id for candidate in candidates if candidate.run_id]
            jobs = [Job(self._tracking.client.get_run(one)) for one in ids]
            return _pair(jobs)
        found = self.experiment("paper")
        pair = _pair(found.jobs) if found else None
        if pair is not None and len(pair.jobs) > 1:
            return pair
        return _pair(self._plain()) or pair

    def _plain(self) -> list[Job]:
        """Newest finished runs of no experiment that share their candidates and split."""
        source, size = self.config["study"]["source"], self.config["study"]["size"]
        alike: dict[tuple[str, ...], list[Job]] = {}
        for run in self._tracking.runs("training"):
            tags = run.data.tags
            if run.info.status != "FINISHED" or tags.get(EXPERIMENT_TAG):
                continue
            if (source and tags.get("data") != source) or (size and tags.get(SIZE_TAG) != size):
                continue
            key = (tags.get("data.digest", ""), tags.get("split.digest", ""))
            alike.setdefault(key, []).append(Job(run))
        groups = [jobs[::-1] for jobs in alike.values()]  # oldest first, so that the newest wins
        both = [jobs for jobs in groups if {job.inputs for job in jobs} >= _PAIR]
        return next(iter([*both, *groups]), [])

    def _members(self, run: Run) -> list[Run]:
        if run.data.tags.get("rb.kind") == "sweep":
            return self._tracking.runs("training", parent=run.info.run_id)[::-1]
        return [run]

    def scored(self, job: Job, subset: str = "test", timing: bool = False) -> ScoredRun:
        """A run scored on a subset of its own split; test results are kept with the run.

        Raises
        ------
        UserError
            If its stamps are not there any more.
        """
        key = (job.id, subset)
        if key not in self._scored:
            candidate = select(self._tracking, job.id)[0]
            settings = dict(self.config) | {"subset": subset, "threshold": None, "timing": timing}
            found = score_run(candidate, None, self._opened, settings, self._console)
            kept = job.run.data.metrics.keys()
            news = "test/accuracy" not in kept or (timing and "cost/ms_per_stamp" not in kept)
            if subset == "test" and news:
                log_to_run(TrackedRun(self._tracking, job.id), found, self.confidence)
            self._scored[key] = found
        return self._scored[key]

    def result(self, job: Job, timing: bool = False) -> RunResult:
        """Scores of the test subset."""
        return self.scored(job, timing=timing).result

    def accuracy(self, job: Job) -> Estimate:
        """Test accuracy: as kept with the run, or measured now."""
        value = self.test_metric(job, "accuracy")
        return _share_of(value, job.number("n_test"), self.confidence)

    def test_metric(self, job: Job, key: str) -> float:
        """Another metric of the test subset; NaN where it cannot be had."""
        name = f"test/{key}"
        if name in job.run.data.metrics:
            return job.metric(name)
        try:
            return self.result(job).metrics(self.confidence)[key].value
        except UserError:
            return float("nan")

    def validation(self, job: Job) -> Estimate:
        """Best validation accuracy; that of the epoch whose weights are kept."""
        return _share_of(job.metric("best/val_acc"), job.number("n_val"), self.confidence)

    def train_accuracy(self, job: Job) -> Estimate:
        """Accuracy on the training subset with the kept weights, without dropout."""
        value = job.metric(_TRAIN_METRIC)
        if value != value:
            labels = self.scored(job, "train").result
            value = labels.metrics(self.confidence)["accuracy"].value
            TrackedRun(self._tracking, job.id).log_metrics({_TRAIN_METRIC: value})
        return _share_of(value, job.number("n_train"), self.confidence)

    def history(self, job: Job) -> pd.DataFrame | None:
        """Loss and accuracy by epoch; None where the run kept none."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                return pd.read_csv(self._tracking.artifact(job.id, "history.csv", folder))
            except (UserError, ValueError):
                return None


def _share_of(value: float, total: int, confidence: float) -> Estimate:
    if value != value or total < 1:
        return UNDEFINED
    return proportion(round(value * total), total, confidence)


def _pair(jobs: Sequence[Job]) -> Experiment | None:
    """The last job with each inputs, the paper's own networks before variants of them."""
    found: dict[str, Job] = {}
    for job in sorted(jobs, key=lambda job: job.name == job.inputs):
        if job.inputs in _PAIR:
            found[job.inputs] = job
    if not found:
        return None
    chosen = [found[inputs] for inputs in sorted(found)]
    tags = chosen[0].run.data.tags
    return Experiment("paper", tags.get(SIZE_TAG), tags.get("rb.command"), chosen)


def _rank(size: str | None) -> int:
    return SIZES.index(size) if size in SIZES else len(SIZES)


def _distinct(jobs: Sequence[Job]) -> list[Job]:
    """The newest of the jobs that had the same settings, in the order of the sweep."""
    newest = {job.run.data.tags.get("rb.config", job.id): job.id for job in jobs}
    return [job for job in jobs if job.id in newest.values()]
