"""Pages of stamps: small triplets, many on a page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from rb.figures.images import EMPTY, frame_panels, grey_scale, name_panel, show_diff, show_grey
from rb.figures.limits import same_sky, unmasked
from rb.figures.style import INK, MUTED, PAGE_WIDTH, empty_note, house_style, plain
from rb.stamps.layout import CHANNELS

_GAP = 3  # pixels between the panels of a triplet


@house_style
def stamp_page(
    stamps: np.ndarray,
    titles: Sequence[str] | None = None,
    channels: Sequence[str] = CHANNELS,
    *,
    columns: int = 3,
    title: str | None = None,
    colors: Sequence[str] | None = None,
) -> Figure:
    """A page of triplets.

    Search and template share a grey scale (an asinh stretch between zscale limits, widened
    to the brightest pixels), so that a difference in brightness can be seen, unless their sky
    levels lie farther apart than twenty times the noise, as they do in images whose zero point
    is lost. The difference image runs from blue through white (0) to red, symmetric. NaN pixels
    are yellow; a channel of nothing but NaN is drawn as an empty, crossed-out panel.

    Parameters
    ----------
    stamps
        (n, 3, height, width), channels diff, srch, tmpl.
    titles
        n texts over the triplets.
    channels
        Which to show, in this order from left to right.
    columns
        Triplets in a row.
    title
        Heading of the page.
    colors
        n colours of the titles.
    """
    unknown = set(channels) - set(CHANNELS)
    if stamps.ndim != 4 or stamps.shape[1] != len(CHANNELS) or unknown:
        raise ValueError(f"cannot draw channels {list(channels)} of stamps {stamps.shape}")
    n = len(stamps)
    columns = max(1, min(columns, n))
    rows = max(1, -(-n // columns))
    figure, panels = _grid(rows, columns, len(channels), stamps.shape[2:], title)
    for index, panel in enumerate(panels[:n]):
        _triplet(
            panel,
            np.asarray(stamps[index], dtype=np.float64),
            channels,
            name_channels=index < columns,
        )
        if titles is not None:
            panel.set_title(
                plain(titles[index]),
                fontsize=7.5,
                color=colors[index] if colors is not None else INK,
                pad=3,
            )
    if n == 0:
        empty_note(panels[0], "no stamps")
    return figure


def _grid(
    rows: int, columns: int, channels: int, shape: tuple[int, ...], title: str | None
) -> tuple[Figure, list[Axes]]:
    """Axes for the triplets, row by row, placed by hand.

    All sizes are known beforehand (inches below), and measuring them would take longer than
    drawing the page.
    """
    height, width = shape
    margin, between, over = 0.06, 0.14, 0.24
    page = PAGE_WIDTH * min(1.0, columns * channels / 6)
    across = (page - 2 * margin - (columns - 1) * between) / columns
    down = across * height / (channels * (width + _GAP) - _GAP)
    heading = 0.3 if title else 0.0
    total = heading + rows * (over + down) + margin
    figure = Figure(figsize=(page, total))
    if title:
        figure.suptitle(
            plain(title),
            fontsize=9.5,
            weight="bold",
            x=margin / page,
            y=1 - 0.06 / total,
            ha="left",
            va="top",
        )
    panels = []
    for index in range(rows * columns):
        row, column = divmod(index, columns)
        left = margin + column * (across + between)
        bottom = total - heading - (row + 1) * (over + down)
        panel = figure.add_axes((left / page, bottom / total, across / page, down / total))
        panel.set_axis_off()
        panels.append(panel)
    return figure, panels


def _triplet(axes: Axes, stamp: np.ndarray, channels: Sequence[str], name_channels: bool) -> None:
    height, width = stamp.shape[1:]
    stamp = unmasked(stamp)
    shared = [stamp[CHANNELS.index(c)] for c in channels if c != "diff"]
    together = grey_scale(np.stack(shared)) if shared and same_sky(shared) else None
    for position, channel in enumerate(channels):
        image = stamp[CHANNELS.index(channel)]
        left = position * (width + _GAP)
        if not np.isfinite(image).any():
            _missing(axes, left, width, height, channel)
            continue
        if channel == "diff":
            show_diff(axes, image, left)
        else:
            show_grey(axes, image, together or grey_scale(image), left)
        if name_channels:
            name_panel(axes, left + 1.5, height - 2, channel)
    frame_panels(axes, len(channels), height, width, _GAP)
    axes.set_aspect("equal")


def _missing(axes: Axes, left: int, width: int, height: int, channel: str) -> None:
    axes.add_patch(
        Rectangle((left, 0), width, height, facecolor=EMPTY, ec="#D8D8D8", hatch="//", lw=0)
    )
    axes.text(
        left + width / 2,
        height / 2,
        f"no {channel}",
        ha="center",
        va="center",
        fontsize=7,
        color=MUTED,
        bbox={"facecolor": EMPTY, "lw": 0, "pad": 2},
    )
