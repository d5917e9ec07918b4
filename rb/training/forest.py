"""Train the autoscan classifier: the same data, split, run and metrics as for a network."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from rb.errors import UserError
from rb.evaluation.cross_validation import CrossValidation, crossvalidate, operating_points
from rb.evaluation.tracked import log_classification
from rb.features.columns import FEATURES_FROM_STAMP
from rb.features.source import choose, features_of
from rb.features.table import FeatureTable
from rb.metrics.classification import roc
from rb.models.forest.files import save_forest
from rb.models.forest.learners import LEARNERS, AutoscanForest
from rb.models.forest.scorer import ForestScorer
from rb.tracking import TrackedRun
from rb.training.context import TrainingJob
from rb.training.cpu_time import cpu_seconds

_THRESHOLD = 0.5


def fit_forest(job: TrainingJob) -> float:
    """Train the forest that `config["model"]` describes, cross-validate it, and log all of it.

    The forest of the run learns from the training rows, as a network does. The cross-validation
    is on training and validation rows together; the test rows are not touched.

    Parameters
    ----------
    job : TrainingJob
        What to train; `trainer` does not concern it.

    Returns
    -------
    float
        Accuracy on the validation rows; on the folds where the split leaves none.

    Raises
    ------
    UserError
        If a package is missing or the set does not give the features.
    """
    if importlib.util.find_spec("skops") is None:
        raise UserError("model=autoscan keeps forests with skops; pip install 'rb[forest]'")
    config, stamp_set, split, run = job.config, job.stamp_set, job.split, job.run
    console, name = job.console, job.name
    model = config["model"]
    source, columns = choose(stamp_set, model["features"], model["columns"])
    console.print(
        f"{name}: {LEARNERS[model['learner']].help}; {len(columns)} features from the {source}, "
        f"{len(split.train):,} training and {len(split.val):,} validation candidates"
    )
    folder = run.tracking.checkpoints(run.run_id)
    folder.mkdir(parents=True, exist_ok=True)
    cache = Path(config["paths"]["cache"])
    rows = np.concatenate([split.train, split.val])
    table = features_of(stamp_set, rows, columns, source, cache, console)
    n_train = len(split.train)
    train, val = table.take(np.arange(n_train)), table.take(np.arange(n_train, len(rows)))
    run.log_params({"n_features": len(columns), "features_from": source})

    started, cpu = time.perf_counter(), cpu_seconds()
    with console.status(f"{name}: training"):
        forest = AutoscanForest(model["learner"], columns, config["seed"], model["jobs"]).fit(train)
    cost = {
        "cost/train_cpu_hours": (cpu_seconds() - cpu) / 3600,
        "cost/train_wall_s": time.perf_counter() - started,
    }
    run.log_params({"n_parameters": forest.n_nodes, "learner": LEARNERS[model["learner"]].help})
    history = _history(forest, train, val)
    run.log_metrics(history.iloc[0].drop("epoch").dropna().to_dict() | cost)
    _log_frame(run, history, "history.csv", index=False)
    if len(val):
        log_classification(run, "val", name, val.labels, forest.predict(val), _THRESHOLD)

    found = None
    if model["folds"]:
        found = _crossvalidate(table, columns, config, console, name)
        _log_crossvalidation(run, found, name)
    best = float(history["val/acc"].iloc[0])
    if np.isnan(best) and found is not None:
        best = found.metrics()["accuracy"].value
    run.log_metrics({"best/val_acc": best})
    # The file is logged last: a run that has it has everything.
    scorer = ForestScorer(forest, source, _THRESHOLD, job.provenance)
    checkpoint = save_forest(scorer, folder / "best.skops")
    run.log_file(checkpoint, "checkpoint")
    run.log_model(checkpoint, None if set(columns) <= set(FEATURES_FROM_STAMP) else columns)
    what = "val/acc" if len(val) else "accuracy on the folds"
    console.print(
        f"{name}: {what} {best:.4f}, {forest.n_nodes:,} nodes, {cost['cost/train_wall_s']:.1f} s"
    )
    return best


def _history(forest: AutoscanForest, train: FeatureTable, val: FeatureTable) -> pd.DataFrame:
    """One row, in the columns of a network's epochs, so that runs can be set side by side."""
    row: dict[str, float] = {"epoch": 0}
    for key, table in (("train", train), ("val", val)):
        row[f"{key}/loss"] = row[f"{key}/acc"] = float("nan")
        if not len(table):
            continue
        p_real = forest.predict(table)
        right = np.where(table.labels == 0, p_real, 1 - p_real)
        # A forest may be certain and wrong, which would cost infinitely much.
        row[f"{key}/loss"] = float(-np.log(right.clip(1e-3)).mean())
        row[f"{key}/acc"] = float(((p_real >= _THRESHOLD) == (table.labels == 0)).mean())
    return pd.DataFrame([row])


def _crossvalidate(
    table: FeatureTable,
    columns: tuple[str, ...],
    config: Mapping[str, Any],
    console: Console,
    name: str,
) -> CrossValidation:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    model = config["model"]
    bar = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TextColumn("folds"))
    with Progress(
        *bar,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("", total=model["folds"])
        found = crossvalidate(
            table,
            model["learner"],
            model["folds"],
            config["seed"],
            columns,
            model["jobs"],
            lambda done, _: progress.update(task, completed=done),
            model["repeats"],
        )
    metrics = found.metrics()
    console.print(
        f"{name}: {found.folds}-fold on {len(found.table):,} candidates outside the test set: "
        f"accuracy {metrics['accuracy'].value:.4f} "
        f"[{metrics['accuracy'].low:.4f}, {metrics['accuracy'].high:.4f}], "
        f"AUC {metrics['auc'].value:.4f} [{metrics['auc'].low:.4f}, {metrics['auc'].high:.4f}]"
    )
    return found


def _log_crossvalidation(run: TrackedRun, found: CrossValidation, name: str) -> None:
    from rb.figures.classification.importance import importance_figure
    from rb.figures.classification.roc import roc_figure, tradeoff_figure

    metrics: dict[str, float] = {}
    for key, estimate in found.metrics(_THRESHOLD).items():
        metrics |= {
            f"cv/{key}": estimate.value,
            f"cv_low/{key}": estimate.low,
            f"cv_high/{key}": estimate.high,
        }
    run.log_metrics(metrics)
    labels, p_real = found.table.labels, found.p_real
    _log_frame(run, found.per_fold(_THRESHOLD), "tables/folds.csv", index=False)
    _log_frame(run, operating_points(labels, p_real), "tables/operating_points.csv", index=False)
    curves = {f"{name}, {found.folds}-fold": roc(labels, p_real, _THRESHOLD)}
    run.log_figure(roc_figure(curves), "figures/cv_roc")
    run.log_figure(tradeoff_figure(curves), "figures/cv_operating_points")
    scores = pd.DataFrame(
        {"id": found.table.ids, "label": labels, "p_real": p_real, "fold": found.fold}
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cv_scores.parquet"
        scores.to_parquet(file, index=False)
        run.log_file(file, "tables")
    if found.importance is not None:
        _log_frame(run, found.importance, "tables/importance.csv", index=False)
        run.log_figure(importance_figure(found.importance), "figures/importance")


def _log_frame(run: TrackedRun, frame: pd.DataFrame, name: str, index: bool = True) -> None:
    run.log_text(frame.to_csv(index=index), name)
