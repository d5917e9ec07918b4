"""What the scores look like: histograms by class, and whether they are probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from rb.figures.style import (
    BOGUS_COLOR,
    COLUMN_WIDTH,
    MARKERS,
    MUTED,
    P_REAL,
    PAGE_WIDTH,
    REAL_COLOR,
    bars_of,
    empty_note,
    house_style,
    new_figure,
    run_color,
    short,
)
from rb.metrics.classification import BOGUS, REAL, UNKNOWN

if TYPE_CHECKING:
    import pandas as pd

Scores = tuple[np.ndarray, np.ndarray]
"""Labels (n,) 0 real, 1 bogus, -1 unknown, and p_real (n,)."""


@house_style
def score_figure(
    scores: Mapping[str, Scores], thresholds: Mapping[str, float], bins: int = 40
) -> Figure:
    """Histograms of p_real by class, a panel a run, counts on a logarithmic axis.

    Parameters
    ----------
    scores
        By run name: labels (n,) and p_real (n,); stamps without a label are drawn in grey.
    thresholds
        By run name; drawn as a line.
    bins
        Number of bins between 0 and 1.
    """
    columns = max(1, len(scores))
    figure = new_figure(min(PAGE_WIDTH, COLUMN_WIDTH * columns), 2.5)
    axes = figure.subplots(1, columns, squeeze=False, sharey=True)[0]
    edges = np.linspace(0, 1, bins + 1)
    for panel, (name, (labels, p_real)) in zip(axes, scores.items(), strict=False):
        for label, color, text in (
            (UNKNOWN, MUTED, "no label"),
            (BOGUS, BOGUS_COLOR, "bogus"),
            (REAL, REAL_COLOR, "real"),
        ):
            values = p_real[labels == label]
            if values.size == 0:
                continue
            words = f"{text} ({values.size:,})"
            # The outline tells the classes apart where the fills overlap.
            panel.hist(values, edges, color=color, histtype="stepfilled", alpha=0.28, lw=0)
            panel.hist(values, edges, color=color, histtype="step", lw=1.4, label=words)
        panel.axvline(thresholds[name], color=MUTED, lw=0.9, ls="--")
        panel.set_xlim(0, 1)
        panel.set_xlabel(P_REAL)
        panel.set_title(short(name))
        if labels.size:
            panel.legend(loc="upper center")
    if any(len(values) for _, values in scores.values()):
        axes[0].set_yscale("log")
        bottom, top = axes[0].get_ylim()
        axes[0].set_ylim(max(0.5, bottom), top * 6)
    axes[0].set_ylabel("stamps per bin")
    if not scores:
        empty_note(axes[0], "no runs")
    return figure


@house_style
def calibration_figure(bins: Mapping[str, pd.DataFrame]) -> Figure:
    """Reliability diagram: share of real stamps against p_real, with Wilson intervals.

    On the diagonal a p_real of .8 means that eight of ten such stamps are real. Below, how
    many stamps stand behind each point.

    Parameters
    ----------
    bins : mapping of str to DataFrame
        By run name, from `rb.metrics.binned.calibration_bins`.
    """
    figure = new_figure(COLUMN_WIDTH, 3.7)
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    top.plot([0, 1], [0, 1], color=MUTED, lw=0.8, ls=(0, (2, 3)), zorder=1)
    # Points of several runs stand beside each other instead of on top of each other.
    offsets = 0.008 * (np.arange(len(bins)) - (len(bins) - 1) / 2)
    for index, (name, table) in enumerate(bins.items()):
        some = table[table.n > 0]
        top.errorbar(
            some.mean_p + offsets[index],
            some.real,
            yerr=bars_of(some, "real"),
            color=run_color(index),
            marker=MARKERS[index % len(MARKERS)],
            ms=4,
            lw=1,
            ls="-",
            elinewidth=1,
            capsize=2,
            label=short(name),
        )
        edges = np.append(table.low, table.high.iloc[-1])
        below.stairs(table.n, edges, color=run_color(index), lw=1.3, baseline=None)
    top.set_ylim(-0.03, 1.03)
    top.set_ylabel("share of real stamps")
    below.set_xlim(0, 1)
    below.set_xlabel(P_REAL)
    below.set_ylabel("stamps")
    if any(table.n.any() for table in bins.values()):
        below.set_yscale("log")
        top.legend(loc="upper left")
    else:
        empty_note(top, "no labelled stamps")
    figure.align_ylabels([top, below])
    return figure
