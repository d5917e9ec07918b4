"""What all parts of the report of the paper have in common."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rb.paper.runs import Experiment, PaperRuns
from rb.report.page import COMMAND
from rb.report.sections import Picture, Section

if TYPE_CHECKING:
    import pandas as pd


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


@dataclass(frozen=True)
class Topic:
    """What the paper shows in one place.

    Parameters
    ----------
    key, title : str
        Of the section.
    says : str
        What the paper shows.
    experiment : str
        File of ``conf/experiment`` whose runs show it again.
    what, paper : str
        For the overview: the quantity, and the paper's number.
    """

    key: str
    title: str
    says: str
    experiment: str
    what: str
    paper: str

    def section(
        self,
        found: Experiment,
        paragraphs: Sequence[str] = (),
        pictures: Sequence[Picture] = (),
        tables: Mapping[str, pd.DataFrame] | None = None,
    ) -> Section:
        """The section: what the paper says, then `paragraphs` and where ours come from."""
        return section(self.key, self.title, found, [self.says, *paragraphs], pictures, tables)

    def missing(self, reason: str = "") -> Part:
        """The part where the runs do not exist, or `reason` why those that there are do not do."""
        texts = [
            self.says,
            reason
            or "Not made yet. At the paper's size on DES, and at one that fits two cores on the "
            "simulated survey:",
            f"{COMMAND}python train.py experiment={self.experiment} data.root=FOLDER",
            f"{COMMAND}python train.py experiment={self.experiment} size=small",
        ]
        line = Line(self.what, self.paper, "not made yet")
        return Part([Section(self.key, self.title, texts)], [line])


def part(
    topic: Topic,
) -> Callable[[Callable[[PaperRuns, Experiment, Topic], Part]], Callable[[PaperRuns], Part]]:
    """Turn what makes a part of an experiment's runs into what says so where there are none."""

    def decorate(
        make: Callable[[PaperRuns, Experiment, Topic], Part],
    ) -> Callable[[PaperRuns], Part]:
        @functools.wraps(make)
        def part_of(runs: PaperRuns) -> Part:
            found = runs.experiment(topic.experiment)
            return topic.missing() if found is None else make(runs, found, topic)

        return part_of

    return decorate


def section(
    key: str,
    title: str,
    found: Experiment,
    paragraphs: Sequence[str],
    pictures: Sequence[Picture] = (),
    tables: Mapping[str, pd.DataFrame] | None = None,
) -> Section:
    """A section that ends with where its numbers come from and the command that made them."""
    texts = [*paragraphs, found.about]
    if found.command:
        texts.append(COMMAND + found.command)
    return Section(key, title, texts, pictures, tables or {})


def share(value: float, error: float | None = None) -> str:
    """A share of the paper as percent, such as "96.1 ± 0.4 %"."""
    digits = 2 if error is None and round(1e4 * value) % 10 else 1
    text = f"{100 * value:.{digits}f}"
    return f"{text} ± {100 * error:.{digits}f} %" if error is not None else f"{text} %"
