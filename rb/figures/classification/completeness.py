"""Completeness and purity against a property of the candidate."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from rb.figures.style import (
    MARKERS,
    MUTED,
    PAGE_WIDTH,
    bars_of,
    empty_note,
    house_style,
    new_figure,
    run_color,
    run_style,
    short,
)

if TYPE_CHECKING:
    import pandas as pd


@house_style
def completeness_figure(
    rates: Mapping[str, Mapping[str, pd.DataFrame]], logarithmic: Collection[str] = ()
) -> Figure:
    """Completeness (left) and purity (right) in bins, a row a property, Wilson intervals.

    Completeness is the share of real stamps called real (TPR), purity the share of real
    ones among those called real. Grey bars show how many stamps a bin holds.

    Parameters
    ----------
    rates : mapping of str to mapping of str to DataFrame
        By axis label, such as "magnitude" or "SNR", and run name: rates in equal bins, from
        `rb.metrics.binned.binned_rates`. Empty where no labelled stamp has the property.
    logarithmic : collection of str
        Properties whose axis is logarithmic.
    """
    rows = max(1, len(rates))
    figure = new_figure(PAGE_WIDTH, 2.45 * rows)
    axes = figure.subplots(rows, 2, squeeze=False, sharey=True, sharex="row")
    for row, (name, of_run) in zip(axes, rates.items(), strict=False):
        for panel, title in zip(row, ("completeness (TPR)", "purity"), strict=True):
            panel.set_ylabel(title)
            panel.set_xlabel(name)
            # Panels that share an axis show its numbers on the left one only.
            panel.tick_params(labelleft=True)
            if not of_run:
                empty_note(panel, f"no labelled stamp has a {name}")
        if not of_run:
            continue
        edges = _row(row, of_run)
        if name in logarithmic:
            row[0].set_xscale("log")
            for panel in row:
                panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                panel.xaxis.set_minor_formatter(NullFormatter())
                panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        row[0].set_xlim(edges[0], edges[-1])
    axes[0, 0].set_ylim(0, 1.02)
    if axes[0, 0].get_legend_handles_labels()[0]:
        axes[0, 0].legend(loc="lower left", bbox_to_anchor=(0, 0.25), fontsize=7)
    return figure


def _row(panels: Sequence[Axes], rates: Mapping[str, pd.DataFrame]) -> np.ndarray:
    """Draw the rates of each run; returns the edges of the bins."""
    first = next(iter(rates.values()))
    edges = np.append(first.low, first.high.iloc[-1])
    _counts(panels[0], edges, first.n_real.to_numpy(), "real")
    _counts(panels[1], edges, (first.n_real + first.n_bogus).to_numpy(), "stamps")
    for index, (name, table) in enumerate(rates.items()):
        for panel, column in zip(panels, ("tpr", "purity"), strict=True):
            some = table[table[column].notna()]
            panel.errorbar(
                some.centre,
                some[column],
                yerr=bars_of(some, column),
                color=run_color(index),
                ls=run_style(index),
                marker=MARKERS[index % len(MARKERS)],
                ms=3.5,
                lw=1.2,
                elinewidth=1,
                capsize=1.5,
                label=short(name),
                zorder=3,
            )
    return edges


def _counts(panel: Axes, edges: np.ndarray, counts: np.ndarray, what: str) -> None:
    """Bars in the lowest fifth of the panel; the largest bin says its number."""
    largest = int(counts.max(initial=0))
    if largest == 0:
        return
    panel.stairs(0.2 * counts / largest, edges, fill=True, color="#E4E4E4", zorder=1)
    at = int(counts.argmax())
    panel.text(
        (edges[at] * edges[at + 1]) ** 0.5 if edges[0] > 0 else (edges[at] + edges[at + 1]) / 2,
        0.21,
        f"{largest:,} {what}",
        ha="center",
        fontsize=6.5,
        color=MUTED,
    )
