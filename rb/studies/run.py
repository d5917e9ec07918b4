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
from rb.report.output import new_folder, write_output
from rb.report.sections import Report
from rb.tracking import open_tracking


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
    console.print(f"report: {folder / 'report.html'}")
    return report.value


def find_study(name: str) -> ModuleType | None:
    """The module of a study; None where there is none of this name."""
    module = f"rb.studies.{name}"
    if not name.isidentifier() or importlib.util.find_spec(module) is None:
        return None
    found = importlib.import_module(module)
    return found if hasattr(found, "sections") else None
