"""What all parts of the report of the paper have in common."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rb.metrics.intervals import Estimate
from rb.paper.runs import Experiment
from rb.report.comparison import percent
from rb.report.page import COMMAND
from rb.report.sections import Picture, Section

if TYPE_CHECKING:
    import pandas as pd

KINDS = {"dia": "DIA", "nodia": "noDIA"}


@dataclass(frozen=True)
class Line:
    """A row of the overview: a number of the paper and ours."""

    what: str
    paper: str
    ours: str
    data: str = ""


@dataclass(frozen=True)
class Part:
    """One part of the paper: its sections, and its rows in the overview."""

    sections: Sequence[Section]
    lines: Sequence[Line] = ()


def section(
    key: str,
    title: str,
    experiment: Experiment | None,
    paragraphs: Sequence[str],
    pictures: Sequence[Picture] = (),
    tables: Mapping[str, pd.DataFrame] | None = None,
) -> Section:
    """A section that ends with where its numbers come from and the command that made them."""
    texts = [*paragraphs]
    if experiment is not None:
        texts.append(experiment.about)
        if experiment.command:
            texts.append(COMMAND + experiment.command)
    return Section(key, title, texts, pictures, tables or {})


def missing(
    key: str, title: str, says: str, experiment: str, what: str, paper: str, reason: str = ""
) -> Part:
    """A part whose runs do not exist: what the paper shows, and how to make it.

    Parameters
    ----------
    key, title
        Of the section.
    says
        What the paper shows.
    experiment
        File of ``conf/experiment``.
    what, paper
        For the overview.
    reason
        Why the runs that there are do not do.
    """
    texts = [
        says,
        reason
        or "Not made yet. At the paper's size on DES, and at one that fits two cores on the "
        "simulated survey:",
        f"{COMMAND}python train.py experiment={experiment} data.root=FOLDER",
        f"{COMMAND}python train.py experiment={experiment} size=small",
    ]
    return Part([Section(key, title, texts)], [Line(what, paper, "not made yet")])


def share(value: float, error: float | None = None) -> str:
    """A share of the paper as percent, such as "96.1 ± 0.4 %"."""
    digits = 2 if error is None and round(1e4 * value) % 10 else 1
    text = f"{100 * value:.{digits}f}"
    return f"{text} ± {100 * error:.{digits}f} %" if error is not None else f"{text} %"


def own(estimate: Estimate) -> str:
    """A share of ours with its interval; a dash where it is not known."""
    return percent(estimate)


def number(value: float, digits: int = 3) -> str:
    """A number to so many significant digits, a dash where it is not known."""
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"
