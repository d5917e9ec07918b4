"""Run a study: what it finds becomes a page, files, and a run in MLflow."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console

from rb.console import make_console
from rb.errors import UserError
from rb.evaluation.results import unique_names
from rb.report.comparison import difference_image_sentence, display_rows
from rb.report.output import new_folder, write_output
from rb.report.sections import Report
from rb.tracking import PARENT_TAG, TrackedRun, Tracking, open_tracking
from rb.tracking.view import description, run_address, where_to_look


def run_study(config: dict[str, Any], console: Console | None = None) -> float:
    """Run the study that ``config["study"]`` names; write, track and report it.

    Parameters
    ----------
    config : dict
        Resolved configuration, as composed from ``conf/evaluate.yaml``.
    console : Console, optional
        Where progress goes.

    Returns
    -------
    float
        What a sweeper may maximise; NaN for studies without such a number.

    Raises
    ------
    UserError
        If there is no such study, or what it needs is missing.
    """
    console = console or make_console()
    name = str(config["study"]["name"])
    study = find_study(name)
    if study is None:
        raise UserError(f"study.name: there is no study '{name}'")
    tracking = open_tracking(config)
    folder = Path(config["report"] or new_folder(Path(config["paths"]["runs"]) / "reports"))
    tags = {"study": name, "runs": str(config["runs"])}
    with tracking.run(f"{name} {folder.name}", "evaluation", tags) as run:
        run.log_config(config)
        found = study.sections(config | {"report": str(folder)}, tracking, console)
        report = found if isinstance(found, Report) else Report(found)
        title = config["title"] or report.title or config["study"].get("title")
        write_output(report, folder, title or name.replace("_", " "), config["confidence"], run)
        if report.results:
            _describe(tracking, run, report, config["confidence"])
    console.print(f"report: {folder / 'report.html'}")
    if report.results:
        where = where_to_look(tracking.uri, tracking.experiment_id)
        console.print(f"the trainings side by side, in a browser: {where}", highlight=False)
    return report.value


def _describe(tracking: Tracking, run: TrackedRun, report: Report, confidence: float) -> None:
    """Say what came of it on MLflow's page, at the evaluation and at the sweep it is of."""
    if not run.run_id:
        return
    runs = {
        name: result.run_id
        for name, result in zip(unique_names(report.results), report.results, strict=True)
    }
    links = {
        f"{name} ({run_id[:8]})": run_address(tracking.experiment_id, run_id)
        for name, run_id in runs.items()
        if run_id
    }
    links["report"] = run_address(tracking.experiment_id, run.run_id, "report.html")
    rows = [[title, *texts] for title, _, texts in display_rows(report.results, confidence)]
    sentence = difference_image_sentence(report.results, confidence)
    about = description(sentence, ["", *runs], rows, links)
    run.tag(about)
    parents = {
        tracking.client.get_run(run_id).data.tags.get(PARENT_TAG) if run_id else None
        for run_id in runs.values()
    }
    if len(parents) == 1 and (parent := parents.pop()):
        TrackedRun(tracking, parent).tag(about)


def find_study(name: str) -> ModuleType | None:
    """The module of a study; None where there is none of this name."""
    module = f"rb.studies.{name}"
    if not name.isidentifier() or importlib.util.find_spec(module) is None:
        return None
    found = importlib.import_module(module)
    return found if hasattr(found, "sections") else None
