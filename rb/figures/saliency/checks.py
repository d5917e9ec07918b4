"""Maps by several methods beside each other, and whether they mean anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from rb.figures.images import grey_scale, name_panel, no_axes, normalised, show_grey, show_image
from rb.figures.limits import unmasked
from rb.figures.saliency.maps import MAP_COLORS
from rb.figures.style import (
    COLUMN_WIDTH,
    INK,
    PAGE_WIDTH,
    empty_note,
    house_style,
    new_figure,
    plain,
    run_color,
    run_style,
)
from rb.stamps.layout import CHANNELS

Band = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Mean, lower and upper limit of a curve."""


@house_style
def method_maps_figure(
    stamps: np.ndarray,
    maps: Mapping[str, np.ndarray],
    channels: Sequence[str],
    titles: Sequence[str],
) -> Figure:
    """The map of each method for a few candidates: a row a panel, a column a method.

    Parameters
    ----------
    stamps
        (n, 3, height, width) raw.
    maps
        By method: (n, C, height, width). Absolute values, each candidate's largest being 1.
    channels
        C names of panels.
    titles
        n texts, one over each candidate.
    """
    n, c, columns = len(stamps), len(channels), 1 + len(maps)
    margin, title, gap = 0.08, 0.38, 0.03
    side = min(1.36, (PAGE_WIDTH - 2 * margin - (columns - 1) * gap) / columns)
    page = 2 * margin + columns * side + (columns - 1) * gap
    total = max(1, n) * (title + c * (side + gap)) + margin
    figure = Figure(figsize=(page, total))
    if n == 0:
        empty_note(figure.add_subplot(), "no stamps")
    for index in range(n):
        top = total - index * (title + c * (side + gap))
        figure.text(margin / page, (top - 0.08) / total, plain(titles[index]), va="top", fontsize=8)
        shown = {name: normalised(values[index]) for name, values in maps.items()}
        for row, channel in enumerate(channels):
            bottom = top - title - (row + 1) * side - row * gap
            for column, name in enumerate(["image", *shown]):
                left = margin + column * (side + gap)
                axes = figure.add_axes((left / page, bottom / total, side / page, side / total))
                no_axes(axes)
                if row == 0:
                    axes.set_title(name.replace("_", " "), fontsize=7, pad=2)
                if column:
                    show_image(axes, shown[name][row], MAP_COLORS, Normalize(0, 1))
                    continue
                image = unmasked(stamps[index, CHANNELS.index(channel)])
                show_grey(axes, image, grey_scale(image))
                name_panel(axes, 1.5, image.shape[0] - 2.5, channel)
    return figure


@house_style
def randomisation_figure(
    curves: Mapping[str, Mapping[str, Band]],
    layers: Sequence[str],
    floors: Mapping[str, Mapping[str, float]],
) -> Figure:
    """Likeness to the trained network's maps against the layers that are random.

    Parameters
    ----------
    curves
        By measure ("Spearman", "SSIM") and method: mean and limits at each stage.
    layers
        Stages: "trained", then the layer randomised last.
    floors
        By measure and method: likeness of the trained network's maps of different stamps,
        dotted; a curve that reaches it has forgotten the stamp.
    """
    figure = new_figure(COLUMN_WIDTH, 0.5 + 1.9 * max(1, len(curves)))
    panels = figure.subplots(max(1, len(curves)), 1, squeeze=False, sharex=True)[:, 0]
    if not curves:
        empty_note(panels[0], "no maps")
    at = np.arange(len(layers))
    for axes, (measure, methods) in zip(panels, curves.items(), strict=False):
        for index, (method, (mean, low, high)) in enumerate(methods.items()):
            color = run_color(index)
            axes.plot(
                at,
                mean,
                run_style(index),
                color=color,
                marker="osD^v"[index % 5],
                ms=3.5,
                label=method.replace("_", " "),
            )
            axes.fill_between(at, low, high, color=color, alpha=0.18, lw=0)
            floor = floors.get(measure, {}).get(method, np.nan)
            axes.plot([at[-1] + 0.12, at[-1] + 0.5], [floor] * 2, color=color, lw=1.6)
        axes.set_ylabel(measure)
        axes.set_xlim(-0.2, len(layers) - 0.4)
        axes.set_ylim(min(0.0, axes.get_ylim()[0]), 1.04)
    if curves:
        panels[0].legend(fontsize=6.5, loc="lower left")
        names = [name.replace(" ", "\n") for name in layers]
        panels[-1].set_xticks(at, names, fontsize=6.5)
        panels[-1].set_xlabel("random from here to the output")
    return figure


@house_style
def deletion_figure(curves: Mapping[tuple[str, str], Mapping[str, Band]], at: np.ndarray) -> Figure:
    """Score of the predicted class while pixels go or come, by method.

    Parameters
    ----------
    curves
        By curve ("deletion", "insertion") and call ("real", "bogus"), then by method: mean
        and limits at each fraction.
    at
        Fractions of pixels.
    """
    rows = list(dict.fromkeys(curve for curve, _ in curves)) or ["deletion"]
    calls = list(dict.fromkeys(call for _, call in curves)) or ["real"]
    width = PAGE_WIDTH if len(calls) > 1 else COLUMN_WIDTH
    figure = new_figure(width, 0.45 + 1.85 * len(rows))
    grid = figure.subplots(len(rows), len(calls), squeeze=False, sharex=True, sharey=True)
    for row, curve in enumerate(rows):
        for column, call in enumerate(calls):
            axes = grid[row, column]
            methods = curves.get((curve, call), {})
            for index, (method, (mean, low, high)) in enumerate(methods.items()):
                is_random = "random" in method
                color = INK if is_random else run_color(index)
                style: dict[str, Any] = {"ls": run_style(index), "color": color}
                if is_random:
                    style |= {"ls": "-", "lw": 0.8}
                label = method.replace("_", " ")
                axes.plot(at, mean, **style, label=label if row + column == 0 else None)
                axes.fill_between(at, low, high, color=color, alpha=0.15, lw=0)
            if not methods:
                empty_note(axes, "no stamps")
            # A square-root axis: most happens within the first few per cent.
            axes.set_xscale("function", functions=(_root, np.square))
            axes.set_xlim(0, 1)
            axes.set_ylim(0, 1.02)
            axes.set_xticks([0, 0.01, 0.05, 0.2, 0.5, 1], ["0", "1", "5", "20", "50", "100"])
            axes.tick_params(labelsize=7)
            if row == 0:
                axes.set_title(f"called {call}")
            if column == 0:
                axes.set_ylabel(f"{curve}: p of the call")
            if row == len(rows) - 1:
                axes.set_xlabel("pixels deleted or inserted, %")
    if curves:
        columns = 5 if len(calls) > 1 else 3
        figure.legend(ncols=columns, loc="outside upper center", fontsize=7)
    return figure


def _root(x: np.ndarray) -> np.ndarray:
    return np.sqrt(np.clip(x, 0, None))
