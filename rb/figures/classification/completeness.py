"""Completeness and purity against a property of the candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from rb.figures.style import (
    MUTED,
    PAGE_WIDTH,
    empty_note,
    house_style,
    new_figure,
    run_color,
    run_style,
    short,
)
from rb.metrics.binned import bin_edges, binned_rates

_LOGARITHMIC = ("snr", "signal-to-noise", "flux")


def completeness_figure(
    properties: Mapping[str, np.ndarray],
    labels: np.ndarray,
    scores: Mapping[str, np.ndarray],
    thresholds: float | Mapping[str, float] = 0.5,
    n_bins: int = 10,
) -> Figure:
    """Completeness (left) and purity (right) in bins, a row a property, Wilson intervals.

    Completeness is the share of real stamps called real (TPR), purity the share of real
    ones among those called real. Grey bars show how many stamps a bin holds.

    Parameters
    ----------
    properties
        By axis label, such as "magnitude" or "SNR": values (n,); NaN is left out. SNR and
        flux get logarithmic bins.
    labels
        (n,) 0 real, 1 bogus, -1 unknown.
    scores
        By run name: p_real (n,) of the same stamps.
    thresholds
        One for all runs, or by run name.
    n_bins
        Bins between the 1 % and 99 % quantiles of the labelled stamps.
    """
    rows = max(1, len(properties))
    known = np.asarray(labels) >= 0
    with house_style():
        figure = new_figure(PAGE_WIDTH, 2.45 * rows)
        axes = figure.subplots(rows, 2, squeeze=False, sharey=True, sharex="row")
        for row, (name, values) in zip(axes, properties.items(), strict=False):
            values = np.asarray(values, dtype=float)
            log = any(word in name.lower() for word in _LOGARITHMIC)
            usable = known & np.isfinite(values) & ((values > 0) | (not log))
            for panel, title in zip(row, ("completeness (TPR)", "purity"), strict=True):
                panel.set_ylabel(title)
                panel.set_xlabel(name)
                # Panels that share an axis show its numbers on the left one only.
                panel.tick_params(labelleft=True)
            if not usable.any():
                empty_note(row[0], f"no labelled stamp has a {name}")
                empty_note(row[1], f"no labelled stamp has a {name}")
                continue
            edges = bin_edges(values[usable], n_bins, log)
            _row(row, values, edges, labels, scores, thresholds)
            if log:
                row[0].set_xscale("log")
                for panel in row:
                    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                    panel.xaxis.set_minor_formatter(NullFormatter())
                    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
            row[0].set_xlim(edges[0], edges[-1])
        axes[0, 0].set_ylim(0, 1.02)
        if scores and axes[0, 0].get_legend_handles_labels()[0]:
            axes[0, 0].legend(loc="lower left", bbox_to_anchor=(0, 0.25), fontsize=7)
    return figure


def _row(
    panels: Sequence[Axes],
    values: np.ndarray,
    edges: np.ndarray,
    labels: np.ndarray,
    scores: Mapping[str, np.ndarray],
    thresholds: float | Mapping[str, float],
) -> None:
    for index, (name, p_real) in enumerate(scores.items()):
        threshold = thresholds if isinstance(thresholds, float | int) else thresholds[name]
        frame = binned_rates(values, labels, p_real, edges, threshold)
        if index == 0:
            _counts(panels[0], edges, frame.n_real.to_numpy(), "real")
            _counts(panels[1], edges, (frame.n_real + frame.n_bogus).to_numpy(), "stamps")
        for panel, key in zip(panels, ("tpr", "purity"), strict=True):
            some = frame[frame[key].notna()]
            panel.errorbar(
                some.centre,
                some[key],
                yerr=[
                    np.maximum(some[key] - some[f"{key}_low"], 0),
                    np.maximum(some[f"{key}_high"] - some[key], 0),
                ],
                color=run_color(index),
                ls=run_style(index),
                marker="os^Dv"[index % 5],
                ms=3.5,
                lw=1.2,
                elinewidth=1,
                capsize=1.5,
                label=short(name),
                zorder=3,
            )


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
