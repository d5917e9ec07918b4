"""Evaluate models on candidates, compare them, and write it all down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from rb.console import make_console
from rb.errors import UserError
from rb.evaluation.paired import same_set
from rb.evaluation.results import RunResult, unique_names
from rb.evaluation.scored_run import ScoredRun, score_runs
from rb.evaluation.survey_scores import SURVEY_SCORES, agreement, survey_scores
from rb.evaluation.tracked import log_to_run
from rb.report.comparison import print_comparison
from rb.report.output import new_folder, write_results
from rb.tracking import TrackedRun, open_tracking

_SMALL = 30  # up to so many candidates are listed one by one


def evaluate(config: dict[str, Any], console: Console | None = None) -> float:
    """Evaluate the runs that `config` names; print, draw, track and report.

    Parameters
    ----------
    config : dict
        Resolved configuration, as composed from ``conf/evaluate.yaml``.
    console : Console, optional
        Where the tables go.

    Returns
    -------
    float
        The best accuracy, NaN where no label is known.
    """
    console = console or make_console()
    tracking = open_tracking(config)
    evaluated = score_runs(config, tracking, console)
    results = [e.result for e in evaluated]
    for name, scores in _foreign_scores(config["scores"], evaluated[0]):
        results.append(scores)
        console.print(f"{name}: scores from {config['scores']}")
    folder = Path(config["report"] or new_folder(Path(config["paths"]["runs"]) / "reports"))
    with tracking.run(
        f"evaluation {folder.name}", "evaluation", {"runs": str(config["runs"])}
    ) as run:
        run.log_config(config)
        _print(results, console, config["confidence"])
        first = evaluated[0]
        catalogue = first.stamp_set.columns(SURVEY_SCORES, required=False)
        for name, survey in survey_scores(catalogue, first.rows).items():
            ours = [e.result for e in evaluated]
            console.print(_frame_table(agreement(ours, survey, name)))
        for one in evaluated:
            if one.own_test and one.chosen.run_id:
                log_to_run(TrackedRun(tracking, one.chosen.run_id), one, config["confidence"])
        write_results(folder, evaluated, results, run, config)
    console.print(f"report: {folder / 'report.html'}")
    accuracies = [
        r.metrics(config["confidence"])["accuracy"].value for r in results if r.n_labelled
    ]
    return max(accuracies, default=float("nan"))


def _foreign_scores(file: str | None, first: ScoredRun) -> list[tuple[str, RunResult]]:
    """Scores of others from a table, as results on the candidates that it holds."""
    if file is None:
        return []
    path = Path(file)
    try:
        table = (
            pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, comment="#")
        )
    except (OSError, ValueError) as error:
        raise UserError(f"scores: {path} cannot be read ({error})") from error
    if "id" not in table or len(table.columns) < 2:
        raise UserError(f"scores: {path} needs a column id and at least one column of p_real")
    ours = first.result
    table = table.set_index(table["id"].astype(str)).drop(columns="id")
    found = []
    for column in table.select_dtypes("number"):
        p_real = table[column].reindex(ours.ids.astype(str)).to_numpy(dtype=float)
        there = np.isfinite(p_real)
        if there.any():
            scores = RunResult(
                name=str(column),
                run_id="",
                inputs="nodia" if "nodia" in str(column).lower() else "dia",
                model="scores",
                data_name=ours.data_name,
                data_digest=ours.data_digest,
                subset=ours.subset,
                ids=ours.ids[there],
                labels=ours.labels[there],
                p_real=p_real[there],
            )
            found.append((str(column), scores))
    if not found:
        raise UserError(f"scores: no id in {path} is among the evaluated candidates")
    return found


def _print(results: list[RunResult], console: Console, confidence: float) -> None:
    if any(r.n_labelled for r in results):
        print_comparison(results, console, confidence)
    else:
        console.print("no candidate has a label: scores only")
    if max(r.n for r in results) <= _SMALL:
        console.print(_score_table(results))


def _score_table(results: list[RunResult]) -> Table:
    """p_real of each candidate by each run, for small sets."""
    absent = {i for r in results if r.lacking is not None for i in r.ids[r.lacking].tolist()}
    caption = "* an image is missing: a model that looks at it took it for an empty one"
    table = Table(title="p_real of each candidate", caption=caption if absent else None)
    table.add_column("id")
    table.add_column("label")
    for name in unique_names(results):
        table.add_column(name, justify="right")
    words = {0: "real", 1: "bogus", -1: "–"}
    first = results[0]
    columns = [
        dict(zip(r.ids.tolist(), r.p_real.tolist(), strict=True)) if same_set(r, first) else {}
        for r in results
    ]
    for one, label in zip(first.ids.tolist(), first.labels.tolist(), strict=True):
        scores = [f"{c[one]:.4f}" if one in c else "–" for c in columns]
        table.add_row(f"{one}*" if one in absent else str(one), words[label], *scores)
    return table


def _frame_table(frame: pd.DataFrame) -> Table:
    table = Table(title="agreement with the survey's own score")
    for column in frame:
        table.add_column(str(column), justify="left" if column == "run" else "right")
    for row in frame.itertuples(index=False):
        table.add_row(*(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row))
    return table
