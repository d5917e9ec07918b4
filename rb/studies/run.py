"""Run a study: its sections become a page, files, and a run in MLflow."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from rich.console import Console

from rb.console import make_console
from rb.errors import UserError
from rb.report.output import code_and_machine, new_folder, this_command
from rb.report.page import write_report
from rb.report.sections import Section, save_pictures
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
        NaN: a study has nothing that a sweeper could maximise.

    Raises
    ------
    UserError
        If there is no such study, or what it needs is missing.
    """
    console = console or make_console()
    name = str(config["study"]["name"])
    module = f"rb.studies.{name}"
    if not name.isidentifier() or importlib.util.find_spec(module) is None:
        raise UserError(f"study.name: there is no study '{name}'")
    tracking = open_tracking(config)
    folder = Path(config["report"] or new_folder(Path(config["paths"]["runs"]) / "reports"))
    with tracking.run(f"{name} {folder.name}", "evaluation", {"study": name}) as run:
        run.log_config(config)
        sections: list[Section] = importlib.import_module(module).sections(
            config | {"report": str(folder)}, tracking, console
        )
        title = config["title"] or config["study"].get("title") or name.replace("_", " ")
        provenance = {"commands": [this_command()], **code_and_machine()}
        write_report(folder / "report.html", title, [], sections, provenance=provenance)
        save_pictures(sections, folder / "figures")
        _save_tables(sections, folder / "tables")
        run.log_file(folder / "report.html")
        for kind in ("figures", "tables", "data"):
            for file in sorted((folder / kind).glob("*")):
                run.log_file(file, kind)
    console.print(f"report: {folder / 'report.html'}")
    return float("nan")


def _save_tables(sections: list[Section], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for section in sections:
        for number, (title, table) in enumerate(section.tables.items(), 1):
            safe = "".join(c if c.isalnum() else "_" for c in title.lower())[:60].strip("_")
            named = f"{section.key}_{safe or number}.csv"
            table.to_csv(folder / named, index=table.index.name is not None)
