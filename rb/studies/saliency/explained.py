"""A run in the saliency study: its network, its candidates and their panel shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from rb.evaluation.scored_run import ScoredRun
from rb.explain.attribution import Explainer
from rb.explain.shares import QUADRANT_NAMES, share_columns
from rb.io.progress import counter
from rb.report.examples import QUADRANTS
from rb.report.sections import SMALL


@dataclass(frozen=True)
class ExplainedRun:
    """A run with the shares of its candidates; rows of `table` are `rows` of the stamp set."""

    name: str
    key: str
    inputs: str
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
        quadrant = row["quadrant"]
        call = QUADRANTS[quadrant][2] if quadrant in QUADRANTS else quadrant
        found.append(f"{row['id']}   {call}   p_real {row['p_real']:.3f}   {shares}")
    return found


def colors(run: ExplainedRun, index: np.ndarray) -> list[str]:
    """Colours of these texts: right in blue, wrong in orange."""
    from rb.figures.style import INK, RIGHT_COLOR, WRONG_COLOR

    by_quadrant = {"TP": RIGHT_COLOR, "TN": RIGHT_COLOR, "FP": WRONG_COLOR, "FN": WRONG_COLOR}
    return [by_quadrant.get(quadrant, INK) for quadrant in run.table["quadrant"].iloc[index]]


def progress(console: Console, what: str, total: int | None) -> Any:
    """A progress bar that counts maps; nothing where the output is a file."""
    return counter(console.is_terminal, what, total, "maps")


def distribution(run: ExplainedRun) -> bool:
    """Whether there are enough labelled candidates to show how something is distributed."""
    return len(run.table) > SMALL and run.table["quadrant"].isin(QUADRANT_NAMES).any()
