"""What a page is made of: headings with pictures and tables, and the whole of a report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from rb.evaluation.results import RunResult

SMALL = 30
"""Sets of up to so many stamps are shown whole."""


@dataclass(frozen=True)
class Picture:
    """A figure with the name of its files and its caption.

    Parameters
    ----------
    key : str
        File name without suffix.
    figure : Figure
        What is shown.
    caption : str
        What it says below.
    pixels : bool
        Whether it shows images, which are embedded as PNG; line drawings are as SVG.
    """

    key: str
    figure: Figure
    caption: str
    pixels: bool = False


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, pictures and tables under it."""

    key: str
    title: str
    paragraphs: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """A page whose runs stand side by side above the sections.

    Parameters
    ----------
    sections : sequence of Section
        Below the comparison.
    results : sequence of RunResult
        The runs; their scores are kept beside the page.
    title : str
        Heading, where neither the user nor the study's configuration gives one.
    commands : sequence of str
        What the runs were trained with.
    runs : mapping
        How each run came about, by name.
    value : float
        For a sweeper to maximise.
    """

    sections: Sequence[Section]
    results: Sequence[RunResult] = ()
    title: str = ""
    commands: Sequence[str] = ()
    runs: Mapping[str, Any] = field(default_factory=dict)
    value: float = math.nan
