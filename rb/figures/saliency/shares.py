"""How the importance of the images is distributed: the paper's Figure 11, and by method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rb.figures.style import (
    COLUMN_WIDTH,
    INK,
    MARKERS,
    MUTED,
    PAGE_WIDTH,
    empty_note,
    house_style,
    new_figure,
    run_color,
    short,
)

_BINS = np.linspace(0, 1, 41).tolist()
# As in the paper's Figures 5, 10 and 11: right in blue, wrong in orange, darker for truly real.
_COLORS = {"TP": "#2B6CA8", "TN": "#A9CBE8", "FN": "#C2570C", "FP": "#F7BE7C"}
_PAIRS = (("TN", "TP"), ("FP", "FN"))


@dataclass(frozen=True)
class RunShares:
    """Panel shares of the stamps of one run.

    Parameters
    ----------
    channels
        C names of panels.
    quadrants
        (n,) TP, TN, FP, FN; others are left out.
    shares
        (n, C); rows with NaN are left out.
    """

    channels: Sequence[str]
    quadrants: np.ndarray
    shares: np.ndarray


@house_style
def share_distribution_figure(runs: Mapping[str, RunShares]) -> Figure:
    """Histograms of each panel's share: a row a panel, right and wrong calls apart.

    Counts have a scale of their own in each panel; the dotted line is the share that all
    panels would have if none stood out.

    Parameters
    ----------
    runs
        By name; two fill a page.
    """
    everything = list(dict.fromkeys(c for run in runs.values() for c in run.channels))
    rows, columns = max(1, len(everything)), 2 * max(1, len(runs))
    width = COLUMN_WIDTH if columns == 2 else PAGE_WIDTH * columns / 4
    figure = new_figure(width, 0.55 + 1.15 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for number, (name, run) in enumerate(runs.items()):
        for row, channel in enumerate(everything):
            for side, pair in enumerate(_PAIRS):
                axes = grid[row, 2 * number + side]
                if channel not in run.channels:
                    axes.set_axis_off()
                    continue
                column = list(run.channels).index(channel)
                _histograms(axes, run, column, pair, head=column == 0)
                if side == 0:
                    axes.set_ylabel(f"$I_\\mathrm{{{channel}}}$: stamps", labelpad=2)
                if row == rows - 1:
                    axes.set_xlabel("share of the map", labelpad=1)
        top = grid[rows - len(run.channels), 2 * number]
        top.set_title(short(name, 20), loc="left", fontsize=8, weight="bold")
        for side in (0, 1):
            grid[rows - len(run.channels), 2 * number + side].legend(
                loc="upper right", fontsize=6.5, handlelength=1, borderpad=0.2
            )
    if not runs:
        empty_note(grid[0, 0], "no runs")
    return figure


def _histograms(axes: Axes, run: RunShares, column: int, pair: Sequence[str], head: bool) -> None:
    """One panel; `head` leaves room for a legend."""
    for quadrant in pair:
        values = run.shares[run.quadrants == quadrant, column]
        values = values[np.isfinite(values)]
        axes.hist(
            values,
            _BINS,
            histtype="stepfilled",
            facecolor=_COLORS[quadrant],
            edgecolor=INK if quadrant in ("TP", "FN") else "#777777",
            linewidth=0.4,
            alpha=0.75,
            label=f"{quadrant} {values.size:,}",
        )
    axes.axvline(1 / len(run.channels), color=INK, lw=0.7, ls=":")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.45 * axes.get_ylim()[1] if head else None)
    axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    axes.tick_params(labelsize=6.5)
    axes.locator_params(axis="y", nbins=4, integer=True)
    axes.grid(axis="x", visible=False)


@house_style
def method_share_figure(
    shares: Mapping[str, Mapping[str, tuple[float, float, float]]], channels: Sequence[str]
) -> Figure:
    """Mean share of each panel by method, with intervals.

    Parameters
    ----------
    shares
        By method and panel: mean, lower and upper limit.
    channels
        The panels.
    """
    figure = new_figure(COLUMN_WIDTH, 2.5)
    axes = figure.add_subplot()
    for index, channel in enumerate(channels):
        for place, by_panel in enumerate(shares.values()):
            mean, low, high = by_panel[channel]
            axes.errorbar(
                place + 0.16 * (index - (len(channels) - 1) / 2),
                mean,
                [[max(0.0, mean - low)], [max(0.0, high - mean)]],
                fmt=MARKERS[index],
                color=run_color(index),
                ms=4.5,
                capsize=2,
                lw=1,
                label=channel if place == 0 else None,
            )
    axes.axhline(1 / max(1, len(channels)), color=MUTED, lw=0.7, ls=":")
    names = [name.replace("_", "\n") for name in shares]
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.5, max(1, len(names)) - 0.5)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("mean share of the map")
    axes.grid(axis="x", visible=False)
    if shares:
        figure.legend(ncols=len(channels), loc="outside upper center", fontsize=7)
    else:
        empty_note(axes, "no methods")
    return figure
