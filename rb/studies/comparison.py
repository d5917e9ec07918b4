"""Runs side by side on the same candidates: the report of ``python evaluate.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from rb.errors import UserError
from rb.evaluation.cost import imaging_of
from rb.evaluation.results import RunResult, unique_names
from rb.evaluation.scored_run import ScoredRun, score_runs
from rb.evaluation.survey_scores import SURVEY_SCORES, agreement, survey_scores
from rb.evaluation.tracked import log_to_run
from rb.report.classification import standard_sections
from rb.report.forest_sections import forest_sections
from rb.report.sections import SMALL, Report, Section
from rb.report.survey_scores import survey_score_sections
from rb.report.terminal import frame_table, print_comparison, score_table
from rb.tracking import TrackedRun, Tracking


def sections(config: dict[str, Any], tracking: Tracking, console: Console) -> Report:
    """Score the runs that ``config["runs"]`` names, print and compare them.

    Metrics of a run's own test set are kept with that run.

    Raises
    ------
    UserError
        If a run or its stamps are not there, or the table ``scores`` cannot be used.
    """
    confidence = config["confidence"]
    scored = score_runs(config, tracking, console)
    ours = [one.result for one in scored]
    results = [*ours, *_foreign_scores(config["scores"], scored[0])]
    for result in results[len(ours) :]:
        console.print(f"{result.name}: scores from {config['scores']}")
    _print(results, console, confidence)
    first = scored[0]
    survey = survey_scores(first.stamp_set.columns(SURVEY_SCORES, required=False), first.rows)
    for name, scores in survey.items():
        table = agreement(ours, scores, name)
        console.print(frame_table(table, "agreement with the survey's own score"))
    for one in scored:
        if one.own_test and one.chosen.run_id:
            log_to_run(TrackedRun(tracking, one.chosen.run_id), one, confidence)
    accuracies = [r.metrics(confidence)["accuracy"].value for r in results if r.n_labelled]
    return Report(
        [
            *_standard(results, first, config["examples"]),
            *survey_score_sections(ours, survey),
            *forest_sections(scored, tracking),
            *_cost_tables(scored),
        ],
        results,
        _title(results),
        commands=list(dict.fromkeys(c for c in (s.chosen.command for s in scored) if c)),
        runs={one.result.name: _origin(one) for one in scored},
        value=max(accuracies, default=float("nan")),
    )


def _foreign_scores(file: str | None, first: ScoredRun) -> list[RunResult]:
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
            found.append(
                RunResult(
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
            )
    if not found:
        raise UserError(f"scores: no id in {path} is among the evaluated candidates")
    return found


def _print(results: list[RunResult], console: Console, confidence: float) -> None:
    if any(r.n_labelled for r in results):
        print_comparison(results, console, confidence)
    else:
        console.print("no candidate has a label: scores only")
    if max(r.n for r in results) <= SMALL:
        console.print(score_table(results))


def _standard(results: list[RunResult], first: ScoredRun, examples: int) -> list[Section]:
    """The standard sections, with the stamps of the first run and what is known of them."""

    def read(rows: np.ndarray) -> np.ndarray:
        return np.asarray(first.stamp_set.stamps[first.rows[rows]])

    known = {"magnitude": "mag", "SNR": "snr"}
    catalogue = first.stamp_set.columns(list(known.values()), required=False)
    properties = {
        label: catalogue[column].to_numpy(dtype=float)[first.rows]
        for label, column in known.items()
        if column in catalogue and catalogue[column].notna().any()
    }
    # A feature table has candidates, but no stamps to show.
    has_stamps = bool(first.stamp_set.channels)
    return standard_sections(
        results, read=read if has_stamps else None, properties=properties, examples=examples
    )


def _cost_tables(scored: list[ScoredRun]) -> list[Section]:
    """Times of predictions, and of the difference images where the source measured them.

    The latter is the other side of the paper's section 5.2: what a network without the
    difference image would spare.
    """
    tables = {
        f"Time of a prediction by {one.result.name}, ms per stamp": one.timing
        for one in scored
        if one.timing is not None
    }
    imaging = imaging_of(scored[0].stamp_set)
    if imaging is not None:
        tables["CPU time of the difference images of this survey"] = imaging.table()
    return [Section("tables", "More tables", tables=tables)] if tables else []


def _title(results: list[RunResult]) -> str:
    subset = results[0].subset
    what = "all candidates" if subset == "all" else f"{subset} set"
    return f"{' and '.join(unique_names(results)[:4])} on {results[0].data_name}, {what}"


def _origin(one: ScoredRun) -> dict[str, Any]:
    """How a run came about, and what it was evaluated on."""
    trained = one.chosen.model.provenance.training_set
    return {
        "run": one.chosen.run_id or "a file",
        "seed": (one.chosen.config or {}).get("seed", "unknown"),
        "training set": _named(trained.name, trained.digest) if trained else "",
        "evaluated on": _named(one.stamp_set.name, one.stamp_set.digest, one.result.subset),
    }


def _named(*facts: str | None) -> str:
    """Name, shortened digest and subset in a line."""
    return ", ".join(str(f)[:16] if i == 1 else str(f) for i, f in enumerate(facts) if f)
