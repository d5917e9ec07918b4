"""What every study leaves behind, in a folder and with its run in MLflow."""

from __future__ import annotations

import platform
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import lightning
import torch

from rb.evaluation.results import unique_names
from rb.figures.style import save_figure
from rb.io.files import safe_name
from rb.report.comparison import comparison_table
from rb.report.page import write_report
from rb.report.sections import Report
from rb.tracking import TrackedRun, git_commit
from rb.version import __version__


def new_folder(reports: Path) -> Path:
    """A folder for one report, named after the time, that does not exist yet."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder, number = reports / stamp, 1
    while folder.exists():
        number += 1
        folder = reports / f"{stamp}-{number}"
    return folder


def write_output(
    report: Report, folder: Path, title: str, confidence: float, run: TrackedRun
) -> None:
    """Write the page, its pictures and tables, and the scores of its runs; keep them with `run`.

    Parameters
    ----------
    report : Report
        What the study found.
    folder : Path
        Gets ``report.html``, ``figures/``, ``tables/``; with results ``comparison.csv`` and
        ``scores/``. What the study itself left in ``data/`` is kept with the run, too.
    title : str
        Heading of the page.
    confidence : float
        Level of the intervals.
    run : TrackedRun
        Run of the evaluation.
    """
    page = folder / "report.html"
    provenance: dict[str, Any] = {
        "commands": [*report.commands, this_command()],
        "commit": git_commit() or "unknown",
        "versions": (
            f"rb {__version__}, Python {platform.python_version()}, torch {torch.__version__}, "
            f"lightning {lightning.__version__}"
        ),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }
    if report.runs:
        provenance["runs"] = dict(report.runs)
    for section in report.sections:
        for picture in section.pictures:
            save_figure(picture.figure, folder / "figures" / picture.key)
        for number, (name, table) in enumerate(section.tables.items(), 1):
            safe = "".join(c if c.isalnum() else "_" for c in name.lower())[:60].strip("_")
            (folder / "tables").mkdir(parents=True, exist_ok=True)
            table.to_csv(
                folder / "tables" / f"{safe_name(section.key)}_{safe or number}.csv",
                index=table.index.name is not None,
            )
    write_report(
        page, title, report.results, report.sections, provenance=provenance, confidence=confidence
    )
    run.log_file(page)
    if report.results:
        comparison_table(report.results, confidence).to_csv(folder / "comparison.csv")
        run.log_file(folder / "comparison.csv")
        for number, name in enumerate(unique_names(report.results), 1):
            report.results[number - 1].save(folder / "scores" / f"{number:02d}_{safe_name(name)}")
    for kept in ("figures", "tables", "data"):
        for file in sorted((folder / kept).glob("*")):
            run.log_file(file, kept)


def this_command() -> str:
    """The command line that runs now, to be copied."""
    return "python " + shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
