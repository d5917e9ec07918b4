"""ROC curves (the paper's Figure 6) and the trade-off between the two kinds of error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rb.figures.style import (
    COLUMN_WIDTH,
    MUTED,
    P_REAL,
    empty_note,
    house_style,
    new_figure,
    run_color,
    run_style,
    short,
)
from rb.metrics.classification import RATES, Roc

_MAX_POINTS = 1500
_MAX_INSIDE = 4  # runs whose legend fits into the axes


@house_style
def roc_figure(curves: Mapping[str, Roc]) -> Figure:
    """ROC curves in one axes, with the area under each in the legend.

    Circles mark where each run stands at its threshold. The inset enlarges the upper left
    corner, where good classifiers differ.

    Parameters
    ----------
    curves : mapping of str to Roc
        Curve by run name, from `rb.metrics.classification.roc`. One whose set lacks a class is
        named in the legend without a line.
    """
    figure = _figure_for(curves)
    axes = figure.add_subplot()
    _draw(axes, curves, legend=True)
    axes.set_xlabel("false-positive rate (bogus called real)")
    axes.set_ylabel("true-positive rate (real called real)")
    axes.set_ylim(0, 1.02)
    axes.plot([0, 1], [0, 1], color=MUTED, lw=0.7, ls=(0, (2, 3)), zorder=1)
    axes.set_xlim(-0.02, 1)
    if curves:
        _legend(figure, axes, curves, "lower right")
    if any(_usable(curve) for curve in curves.values()):
        _add_inset(axes, curves)
    if not curves:
        empty_note(axes, "no runs")
    return figure


@house_style
def tradeoff_figure(curves: Mapping[str, Roc]) -> Figure:
    """Missed-detection rate against false-positive rate, both logarithmic.

    Thin lines mark the fixed rates at which the tables quote the other one.
    """
    figure = _figure_for(curves)
    axes = figure.add_subplot()
    smallest = _smallest_rate(curves)
    for index, (name, curve) in enumerate(curves.items()):
        if _usable(curve):
            fpr, tpr = _thin(curve)
            positive = (fpr > 0) & (tpr < 1)
            axes.plot(
                fpr[positive],
                1 - tpr[positive],
                color=run_color(index),
                ls=run_style(index),
                label=short(name),
            )
    for rate in RATES:
        axes.axvline(rate, color=MUTED, lw=0.5, ls=(0, (1, 3)), zorder=1)
        axes.axhline(rate, color=MUTED, lw=0.5, ls=(0, (1, 3)), zorder=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(smallest, 1)
    axes.set_ylim(smallest, 1)
    if len(curves) <= _MAX_INSIDE:  # the layout does not see that it shrinks the axes
        axes.set_aspect("equal")
    axes.set_xlabel("false-positive rate (bogus called real)")
    axes.set_ylabel("missed-detection rate (real called bogus)")
    if axes.lines and any(_usable(curve) for curve in curves.values()):
        _legend(figure, axes, curves, "lower left")
    else:
        empty_note(axes, "no run with both classes")
    return figure


def _figure_for(curves: Mapping[str, Roc]) -> Figure:
    extra = 0.15 * (len(curves) + 1) if len(curves) > _MAX_INSIDE else 0.0
    return new_figure(COLUMN_WIDTH, 3.3 + extra)


def _legend(
    figure: Figure,
    axes: Axes,
    curves: Mapping[str, Roc],
    place: Literal["lower left", "lower right"],
) -> None:
    """In the empty corner, or below the axes where it would cover them."""
    if len(curves) > _MAX_INSIDE:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center")
    else:
        axes.legend(loc=place)


def _draw(axes: Axes, curves: Mapping[str, Roc], legend: bool) -> None:
    for index, (name, curve) in enumerate(curves.items()):
        color = run_color(index)
        area = f"{curve.area:.3f}" if _usable(curve) else "–"
        label = f"{short(name)}: AUC {area}" if legend else "_"
        fpr, tpr = _thin(curve) if _usable(curve) else (np.array([]),) * 2
        axes.plot(fpr, tpr, color=color, ls=run_style(index), label=label, zorder=3)
        if _usable(curve):
            at = curve.fpr[curve.chosen], curve.tpr[curve.chosen]
            axes.plot(*at, "o", ms=5, mfc="white", mec=color, mew=1.3, zorder=4, label="_")
    if legend and curves:
        thresholds = {curve.chosen_threshold for curve in curves.values()}
        same = f"{P_REAL} = {thresholds.pop():g}" if len(thresholds) == 1 else "at the threshold"
        axes.plot([], [], "o", ms=5, mfc="white", mec=MUTED, label=same)


def _add_inset(axes: Axes, curves: Mapping[str, Roc]) -> None:
    inset = axes.inset_axes((0.40, 0.42, 0.56, 0.46))
    _draw(inset, curves, legend=False)
    size = _corner(curves)
    inset.set_xlim(0, size)
    inset.set_ylim(1 - size, 1)
    inset.tick_params(labelsize=6.5)
    inset.set_xticks([0, size / 2, size])
    inset.set_yticks([1 - size, 1 - size / 2, 1])
    axes.indicate_inset_zoom(inset, edgecolor=MUTED, lw=0.6)


def _corner(curves: Mapping[str, Roc]) -> float:
    """Side of the smallest round corner that shows where every curve turns."""
    turn = 0.0
    for curve in curves.values():
        if _usable(curve):
            # The point farthest above the diagonal.
            best = int(np.argmax(curve.tpr - curve.fpr))
            turn = max(turn, curve.fpr[best], 1 - curve.tpr[best])
    return next((size for size in (0.02, 0.05, 0.1, 0.2, 0.4) if turn < 0.6 * size), 0.5)


def _usable(curve: Roc) -> bool:
    return not (np.isnan(curve.fpr).any() or np.isnan(curve.tpr).any())


def _thin(curve: Roc) -> tuple[np.ndarray, np.ndarray]:
    """No more points than a line can show, evenly spaced along the curve."""
    if curve.fpr.size <= _MAX_POINTS:
        return curve.fpr, curve.tpr
    # Distance in the units of log axes counts too, so that the low rates keep theirs.
    low = 1e-5
    along = np.concatenate(
        [[0], np.cumsum(np.abs(np.diff(curve.fpr)) + np.abs(np.diff(curve.tpr)))]
    )
    along += np.log10(np.maximum(curve.fpr, low)) - np.log10(np.maximum(1 - curve.tpr, low))
    wanted = np.linspace(along[0], along[-1], _MAX_POINTS)
    keep = np.unique(np.searchsorted(along, wanted).clip(0, curve.fpr.size - 1))
    keep = np.union1d(keep, [0, curve.fpr.size - 1])
    return curve.fpr[keep], curve.tpr[keep]


def _smallest_rate(curves: Mapping[str, Roc]) -> float:
    """Lower end of a log axis: the smallest positive rate, but not below a ten-thousandth."""
    smallest = 0.1
    for curve in curves.values():
        if _usable(curve):
            for rate in (curve.fpr, 1 - curve.tpr):
                positive = rate[rate > 1e-12]
                smallest = min(smallest, positive.min(initial=1.0))
    return float(10 ** np.floor(np.log10(max(smallest, 1e-4))))
