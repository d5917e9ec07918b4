"""A run in the saliency study: its network, its candidates and their panel shares."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
from rich.console import Console

from rb.evaluation.scored_run import ScoredRun
from rb.explain.attribution import Explainer
from rb.explain.shares import share_columns

WORDS = {
    "TN": "bogus, called bogus",
    "TP": "real, called real",
    "FN": "real, called bogus",
    "FP": "bogus, called real",
}


@dataclass(frozen=True)
class ExplainedRun:
    """A run with the shares of its candidates; rows of `table` are `rows` of the stamp set."""

    name: str
    key: str
    kind: str
    threshold: float
    explainer: Explainer
    evaluated: ScoredRun
    rows: np.ndarray
    table: pd.DataFrame

    def stamps(self, index: np.ndarray) -> np.ndarray:
        """Raw stamps of rows `index` of the table."""
        return np.asarray(self.evaluated.stamp_set.stamps[self.rows[index]])


def titles(run: ExplainedRun, index: np.ndarray) -> list[str]:
    """Texts over the candidates of rows `index` of the table."""
    columns = share_columns(run.explainer.channels)
    found = []
    for _, row in run.table.iloc[index].iterrows():
        shares = "   ".join(f"{c} {row[c]:.2f}" for c in columns if np.isfinite(row[c]))
        call = WORDS.get(row["quadrant"], row["quadrant"])
        found.append(f"{row['id']}   {call}   p_real {row['p_real']:.3f}   {shares}")
    return found


def colors(run: ExplainedRun, index: np.ndarray) -> list[str]:
    """Colours of these texts: right in blue, wrong in orange."""
    from rb.figures.style import INK, RIGHT_COLOR, WRONG_COLOR

    by_quadrant = {"TP": RIGHT_COLOR, "TN": RIGHT_COLOR, "FP": WRONG_COLOR, "FN": WRONG_COLOR}
    return [by_quadrant.get(quadrant, INK) for quadrant in run.table["quadrant"].iloc[index]]


@contextmanager
def bar(console: Console, what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar that counts maps; nothing where the output is a file."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(what, total=total)
        yield lambda n: progress.advance(task, n)
