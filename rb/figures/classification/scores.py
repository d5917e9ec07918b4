"""What the scores look like: histograms by class, and whether they are probabilities."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from rb.figures.style import (
    BOGUS_COLOR,
    COLUMN_WIDTH,
    MUTED,
    P_REAL,
    PAGE_WIDTH,
    REAL_COLOR,
    empty_note,
    house_style,
    new_figure,
    run_color,
    short,
)
from rb.metrics.binned import calibration_bins
from rb.metrics.classification import BOGUS, REAL, UNKNOWN, known

Scores = tuple[np.ndarray, np.ndarray]
"""Labels (n,) 0 real, 1 bogus, -1 unknown, and p_real (n,)."""


def score_figure(
    scores: Mapping[str, Scores],
    thresholds: float | Mapping[str, float] = 0.5,
    bins: int = 40,
) -> Figure:
    """Histograms of p_real by class, a panel a run, counts on a logarithmic axis.

    Parameters
    ----------
    scores
        By run name: labels (n,) and p_real (n,); stamps without a label are drawn in grey.
    thresholds
        Drawn as a line: one for all runs, or by run name.
    bins
        Number of bins between 0 and 1.
    """
    columns = max(1, len(scores))
    with house_style():
        figure = new_figure(min(PAGE_WIDTH, COLUMN_WIDTH * columns), 2.5)
        axes = figure.subplots(1, columns, squeeze=False, sharey=True)[0]
        edges = np.linspace(0, 1, bins + 1)
        for panel, (name, (labels, p_real)) in zip(axes, scores.items(), strict=False):
            labels, p_real = np.asarray(labels), np.asarray(p_real)
            known(labels, p_real)  # refuses what is no label or no probability
            for label, color, text in (
                (UNKNOWN, MUTED, "no label"),
                (BOGUS, BOGUS_COLOR, "bogus"),
                (REAL, REAL_COLOR, "real"),
            ):
                values = p_real[labels == label]
                if values.size == 0:
                    continue
                # The outline tells the classes apart where the fills overlap.
                style = {"bins": edges, "color": color, "histtype": "stepfilled"}
                panel.hist(values, alpha=0.28, lw=0, **style)
                panel.hist(
                    values,
                    bins=edges,
                    color=color,
                    histtype="step",
                    lw=1.4,
                    label=f"{text} ({values.size:,})",
                )
            threshold = thresholds if isinstance(thresholds, float | int) else thresholds[name]
            panel.axvline(threshold, color=MUTED, lw=0.9, ls="--")
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


def calibration_figure(scores: Mapping[str, Scores], bins: int = 10) -> Figure:
    """Reliability diagram: share of real stamps against p_real, with Wilson intervals.

    On the diagonal a p_real of .8 means that eight of ten such stamps are real. Below, how
    many stamps stand behind each point.

    Parameters
    ----------
    scores
        By run name: labels (n,) and p_real (n,).
    bins
        Number of bins between 0 and 1.
    """
    with house_style():
        figure = new_figure(COLUMN_WIDTH, 3.7)
        top, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        top.plot([0, 1], [0, 1], color=MUTED, lw=0.8, ls=(0, (2, 3)), zorder=1)
        # Points of several runs stand beside each other instead of on top of each other.
        offsets = 0.008 * (np.arange(len(scores)) - (len(scores) - 1) / 2)
        for index, (name, (labels, p_real)) in enumerate(scores.items()):
            frame = calibration_bins(labels, p_real, bins)
            some = frame[frame.n > 0]
            top.errorbar(
                some.mean_p + offsets[index],
                some.real,
                yerr=[
                    np.maximum(some.real - some.real_low, 0),
                    np.maximum(some.real_high - some.real, 0),
                ],
                color=run_color(index),
                marker="os^Dv"[index % 5],
                ms=4,
                lw=1,
                ls="-",
                elinewidth=1,
                capsize=2,
                label=short(name),
            )
            below.stairs(
                frame.n,
                np.append(frame.low, frame.high.iloc[-1]),
                color=run_color(index),
                lw=1.3,
                baseline=None,
            )
        top.set_ylim(-0.03, 1.03)
        top.set_ylabel("share of real stamps")
        below.set_xlim(0, 1)
        below.set_xlabel(P_REAL)
        below.set_ylabel("stamps")
        if _any_labelled(scores):
            below.set_yscale("log")
            top.legend(loc="upper left")
        else:
            empty_note(top, "no labelled stamps")
        figure.align_ylabels([top, below])
    return figure


def _any_labelled(scores: Mapping[str, Scores]) -> bool:
    return any((np.asarray(labels) >= 0).any() for labels, _ in scores.values())
