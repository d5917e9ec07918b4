"""What the networks see: scaled images put together (the paper's Figure 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import AsinhNorm
from matplotlib.figure import Figure

from rb.figures.images import name_panel, no_axes, show_image
from rb.figures.style import INK, PAGE_WIDTH, empty_note, house_style, plain

_LINEAR = 1.0  # the scaled pixels' own range; beyond it the colours go on logarithmically


@dataclass(frozen=True)
class Composites:
    """Candidates as one network sees them.

    Parameters
    ----------
    images
        (n, k·height, k·width): the scaled channels of each candidate side by side.
    channels
        Their names from left to right.
    titles
        n texts over the composites.
    colors
        n colours of the titles; None: all alike.
    """

    images: np.ndarray
    channels: Sequence[str]
    titles: Sequence[str]
    colors: Sequence[str] | None = None


def side_by_side(prepared: np.ndarray) -> np.ndarray:
    """The input tensor of a network, (n, C, H, W), as pictures (n, H, C·W).

    Images stacked in depth come side by side too: there is no other way to look at them.
    """
    return np.concatenate(np.moveaxis(np.asarray(prepared), 1, 0), axis=-1)


@house_style
def composites_figure(networks: Mapping[str, Composites]) -> Figure:
    """A column a network, a row a candidate, all in one colour scale.

    Purple is negative and green positive, linear up to 1 and logarithmic beyond, so that
    both the core between 0 and 1 and the brightest pixels can be read.

    Parameters
    ----------
    networks
        By name of the network: the composites of the same candidates.
    """
    rows = max((len(c.images) for c in networks.values()), default=0)
    widths = [c.images.shape[2] / c.images.shape[1] for c in networks.values()] or [1.0]
    # The columns share the page as their images' widths do, so that all rows are as high.
    height = (PAGE_WIDTH - 0.95) / sum(widths)
    figure = Figure(
        figsize=(PAGE_WIDTH, 0.35 + max(1, rows) * (height + 0.22)), layout="constrained"
    )
    if not rows:
        empty_note(figure.add_subplot(), "no stamps")
        return figure
    axes = figure.subplots(rows, len(networks), squeeze=False, width_ratios=widths)
    reach = max(_reach(c.images) for c in networks.values())
    for column, (name, composites) in enumerate(networks.items()):
        for row, image in enumerate(composites.images):
            _panel(axes[row, column], image, reach, composites, row)
        axes[0, column].annotate(
            plain(name),
            (0.5, 1),
            xytext=(0, 16),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
            weight="bold",
        )
    bar = figure.colorbar(axes[0, 0].images[0], ax=axes, fraction=0.02, pad=0.01, aspect=45)
    ticks = [t for t in (-100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100) if abs(t) <= reach]
    bar.set_ticks(ticks, labels=[f"{t:g}".replace("-", "−") for t in ticks])
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=7, length=2, direction="out", left=False)
    bar.set_label("scaled pixel value", fontsize=7.5)
    bar.outline.set_linewidth(0.4)
    return figure


def _reach(images: np.ndarray) -> float:
    return max(2.0, float(np.quantile(np.abs(images), 0.9995)))


def _panel(axes: Axes, image: np.ndarray, reach: float, composites: Composites, row: int) -> None:
    scale = AsinhNorm(linear_width=_LINEAR, vmin=-reach, vmax=reach)
    show_image(axes, image, "PRGn", scale)
    no_axes(axes)
    axes.set_title(
        plain(composites.titles[row]),
        fontsize=7,
        pad=2.5,
        color=composites.colors[row] if composites.colors else INK,
    )
    width = image.shape[1] / len(composites.channels)
    for k, channel in enumerate(composites.channels):
        if k:
            axes.axvline(k * width - 0.5, color=INK, lw=0.6)
        if row == 0:
            name_panel(axes, k * width + 1.5, image.shape[0] - 3, channel)
