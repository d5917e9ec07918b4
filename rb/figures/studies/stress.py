"""How scores move under perturbations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from rb.figures.style import (
    COLUMN_WIDTH,
    MUTED,
    PAGE_WIDTH,
    house_style,
    new_figure,
    plain,
    run_color,
    short,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@house_style
def stress_figure(
    scores: Mapping[str, Mapping[str, np.ndarray]], thresholds: Mapping[str, float]
) -> Figure:
    """A panel a run, a line a perturbation: median and 5 to 95 % of p_real.

    Parameters
    ----------
    scores
        By run, by perturbation: p_real (n,). The first is the undisturbed.
    thresholds
        By run: candidates at or above it are called real.
    """
    names = list(next(iter(scores.values())))
    figure = new_figure(
        min(PAGE_WIDTH, COLUMN_WIDTH * (0.4 + 0.7 * len(scores))), 0.8 + 0.19 * len(names)
    )
    panels = figure.subplots(1, len(scores), squeeze=False, sharey=True)[0]
    places = np.arange(len(names))
    for number, (panel, (run, by_name)) in enumerate(zip(panels, scores.items(), strict=True)):
        low, middle, high = np.array(
            [np.quantile(by_name[name], (0.05, 0.5, 0.95)) for name in names]
        ).T
        color = run_color(number)
        panel.axvline(thresholds[run], color=MUTED, lw=0.7, ls=(0, (2, 3)))
        panel.axhline(0.5, color=MUTED, lw=0.5)
        panel.hlines(places, low, high, color=color, lw=1.6, alpha=0.5)
        panel.plot(middle, places, "o", ms=3.5, color=color, clip_on=False)
        panel.set(xlim=(0, 1), xlabel=r"$p_\mathrm{real}$", ylim=(len(names) - 0.5, -0.5))
        panel.set_yticks(places, [plain(name) for name in names])
        panel.set_title(short(run, 24))
    return figure
