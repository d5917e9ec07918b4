"""Stamps beside what a network looks at in them: the paper's Figures 8, 9 and 15 to 22."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from rb.figures.images import (
    frame_panels,
    grey_scale,
    name_panel,
    normalised,
    show_grey,
    show_image,
)
from rb.figures.limits import grey_limits, sky, unmasked
from rb.figures.style import INK, MUTED, PAGE_WIDTH, empty_note, house_style, plain
from rb.stamps.layout import CHANNELS

MAP_COLORS = "Greens"
"""White to green, as in the paper."""

_MARGIN, _BETWEEN = 0.08, 0.16  # inches at the sides, between stamps and maps
_TITLE, _BELOW, _FOOT = 0.24, 0.14, 0.36  # inches above and below a row, below the page
_GAP = 2  # pixels between the panels of a block
_SIDE = (PAGE_WIDTH - 2 * _MARGIN - _BETWEEN) / 6  # inches a panel: three and three on a page
_CONTOUR_LEVELS = np.array([5.0, 25.0, 125.0])  # in units of the smoothed sky's noise


@house_style
def saliency_page(
    stamps: np.ndarray,
    maps: np.ndarray,
    channels: Sequence[str] = CHANNELS,
    titles: Sequence[str] | None = None,
    *,
    colors: Sequence[str] | None = None,
    contours: bool = False,
    title: str | None = None,
) -> Figure:
    """A row for each candidate: its images on the left, the map of the same panels on the right.

    All images are grey, in their natural flux, each with an asinh stretch between zscale
    limits, which stand below it. Maps run from white (0) to green (1), each candidate's
    largest value being 1.

    Parameters
    ----------
    stamps
        (n, 3, height, width) raw, channels diff, srch, tmpl.
    maps
        (n, C, height, width), the panels of `channels`; absolute values are shown.
    channels
        The panels that the network sees.
    titles
        n texts over the rows.
    colors
        n colours of the titles.
    contours
        Draw the light of the images over the maps: lines at 5, 25 and 125 times the noise of
        the sky, after smoothing with a Gaussian of σ 1 px; dashed where it is negative.
    title
        Heading of the page.
    """
    n, c = len(stamps), len(channels)
    height, width = stamps.shape[-2:]
    block = c * _SIDE
    page = 2 * _MARGIN + _BETWEEN + 2 * block
    across = c * (width + _GAP) - _GAP
    down = block * height / across
    row_height = _TITLE + down + _BELOW
    heading = 0.28 if title else 0.0
    total = heading + max(n, 1) * row_height + _FOOT
    figure = Figure(figsize=(page, total))
    if title:
        figure.text(
            _MARGIN / page, 1 - 0.06 / total, plain(title), va="top", fontsize=9.5, weight="bold"
        )
    if n == 0:
        empty_note(figure.add_subplot(), "no stamps")
        return figure
    for index in range(n):
        bottom = total - heading - (index + 1) * row_height + _BELOW
        axes = [
            figure.add_axes((left / page, bottom / total, block / page, down / total))
            for left in (_MARGIN, _MARGIN + block + _BETWEEN)
        ]
        images = [unmasked(stamps[index, CHANNELS.index(name)]) for name in channels]
        _images(axes[0], images, channels, name_them=index == 0)
        shown = _maps(axes[1], maps[index])
        if contours:
            for position, image in enumerate(images):
                _contours(axes[1], image, position * (width + _GAP))
        if titles is not None:
            figure.text(
                _MARGIN / page,
                (bottom + down + 0.05) / total,
                plain(titles[index]),
                fontsize=7.5,
                color=colors[index] if colors is not None else INK,
            )
    _importance_bar(figure, shown, (_MARGIN + block + _BETWEEN, 0.25, block), page, total)
    return figure


def _images(
    axes: Axes, images: Sequence[np.ndarray], channels: Sequence[str], name_them: bool
) -> None:
    height, width = images[0].shape
    for position, (image, channel) in enumerate(zip(images, channels, strict=True)):
        left = position * (width + _GAP)
        middle: dict[str, Any] = {"ha": "center", "clip_on": False}
        if not np.isfinite(image).any():
            axes.text(
                left + width / 2, height / 2, f"no {channel}", color=MUTED, fontsize=7, **middle
            )
            continue
        show_grey(axes, image, grey_scale(image), left)
        limits = " … ".join(map(_number, grey_limits(image)))
        axes.text(left + width / 2, -1.5, limits, va="top", fontsize=5.5, color=MUTED, **middle)
        if name_them:
            name_panel(axes, left + 1.5, height - 2, channel)
    frame_panels(axes, len(images), height, width, _GAP)
    axes.set_axis_off()


def _maps(axes: Axes, maps: np.ndarray) -> Any:
    """The maps of one candidate; returns an image for the colour bar."""
    values = normalised(maps)
    height, width = maps.shape[-2:]
    for position, panel in enumerate(values):
        left = position * (width + _GAP)
        shown = show_image(axes, panel, MAP_COLORS, Normalize(0, 1), left)
    if not values.any():
        middle = (len(maps) * (width + _GAP) - _GAP) / 2
        axes.text(middle, height / 2, "zero everywhere", ha="center", color=MUTED, fontsize=7)
    frame_panels(axes, len(maps), height, width, _GAP)
    axes.set_axis_off()
    return shown


def _contours(axes: Axes, image: np.ndarray, left: int) -> None:
    from scipy.ndimage import gaussian_filter

    if not np.isfinite(image).any():
        return
    level, _ = sky(image)
    smooth = gaussian_filter(np.nan_to_num(image - level, nan=0.0), 1.0)
    _, noise = sky(smooth)
    if noise <= 0:
        return
    x = left + np.arange(image.shape[1]) + 0.5
    y = np.arange(image.shape[0]) + 0.5
    for sign, style in ((1, "solid"), (-1, "dashed")):
        levels = _CONTOUR_LEVELS * noise
        levels = levels[levels < (sign * smooth).max()]
        if levels.size:
            axes.contour(
                x, y, sign * smooth, levels, colors=INK, linewidths=0.5, linestyles=style, alpha=0.8
            )


def _importance_bar(
    figure: Figure, image: Any, place: tuple[float, float, float], page: float, total: float
) -> None:
    left, bottom, length = place
    axes = figure.add_axes((left / page, bottom / total, length / page, 0.06 / total))
    bar = figure.colorbar(image, cax=axes, orientation="horizontal")
    bar.set_ticks([0, 1], labels=["0", "1"])
    axes.tick_params(labelsize=6, length=2, pad=1.5, direction="out", top=False)
    axes.set_xlabel("relative importance of the pixel", fontsize=6.5, labelpad=-6)
    bar.outline.set_linewidth(0.4)  # type: ignore[operator]


def _number(value: float) -> str:
    """Three significant digits, thousands apart, a true minus sign."""
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return text.replace("-", "−")
