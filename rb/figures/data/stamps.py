"""Pages of stamps: triplets as in the paper's Figure 1, and examples right and wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from rb.figures.limits import diff_limits, grey_limits, same_sky, unmasked
from rb.figures.style import (
    INK,
    MUTED,
    PAGE_WIDTH,
    RIGHT_COLOR,
    WRONG_COLOR,
    empty_note,
    house_style,
    plain,
)
from rb.metrics.classification import BOGUS, REAL

CHANNELS = ("diff", "srch", "tmpl")
Quadrant = Literal["TP", "TN", "FP", "FN"]
QUADRANTS: dict[str, tuple[int, bool, str]] = {
    "TP": (REAL, True, "real, called real"),
    "TN": (BOGUS, False, "bogus, called bogus"),
    "FP": (BOGUS, True, "bogus, called real"),
    "FN": (REAL, False, "real, called bogus"),
}
"""By name: true label, whether it is called real, and in words."""

_GAP = 3  # pixels between the panels of a triplet
_NAN_COLOR = "#F2C14E"  # stands out of grey and of blue-red


def stamp_page(
    stamps: np.ndarray,
    titles: Sequence[str] | None = None,
    channels: Sequence[str] = CHANNELS,
    *,
    columns: int = 3,
    title: str | None = None,
    colors: Sequence[str] | None = None,
    common_range: bool | None = None,
    diff_centre: Literal["zero", "median"] | None = None,
) -> Figure:
    """A page of triplets.

    Search and template share a grey scale (an asinh stretch between zscale limits, widened
    to the brightest pixels), so that a difference in brightness can be seen; the difference
    image runs from blue through white (0) to red, symmetric. NaN pixels are yellow; a
    channel of nothing but NaN is drawn as an empty, crossed-out panel.

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
    common_range
        Let search and template share their range, as in Figure 1, or not. None: they share
        it unless their sky levels lie farther apart than twenty times the noise, as they
        do in images whose zero point is lost.
    diff_centre
        What is white in the difference: zero, or the stamp's median. None: zero, unless
        the median lies farther from it than three times the noise.
    """
    unknown = set(channels) - set(CHANNELS)
    if stamps.ndim != 4 or stamps.shape[1] != len(CHANNELS) or unknown:
        raise ValueError(f"cannot draw channels {list(channels)} of stamps {stamps.shape}")
    n = len(stamps)
    columns = max(1, min(columns, n))
    rows = max(1, -(-n // columns))
    with house_style():
        figure, panels = _grid(rows, columns, len(channels), stamps.shape[2:], title)
        for index, panel in enumerate(panels[:n]):
            _triplet(
                panel,
                np.asarray(stamps[index], dtype=np.float64),
                channels,
                common_range,
                diff_centre,
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


def examples_figure(
    stamps: np.ndarray,
    labels: np.ndarray,
    p_real: np.ndarray,
    quadrant: Quadrant,
    *,
    ids: np.ndarray | None = None,
    threshold: float = 0.5,
    n: int = 12,
    choose: Literal["random", "extreme"] = "random",
    seed: int = 0,
    channels: Sequence[str] = CHANNELS,
    columns: int = 3,
    common_range: bool | None = None,
    diff_centre: Literal["zero", "median"] | None = None,
) -> Figure:
    """Example stamps of one field of the confusion matrix.

    Parameters
    ----------
    stamps
        (N, 3, height, width); may be memory-mapped, only the stamps shown are read.
    labels, p_real
        (N,) as everywhere.
    quadrant
        ``"TP"``, ``"TN"``, ``"FP"`` or ``"FN"``; positive = real.
    ids
        (N,) shown over the stamps; their row numbers if None.
    n
        Largest number of examples.
    choose
        ``"random"`` by `seed`, or ``"extreme"``: those the classifier was surest of, which
        for the wrong ones are its worst mistakes.
    channels, columns, common_range, diff_centre
        As for `stamp_page`.
    """
    label, called_real, words = QUADRANTS[quadrant]
    labels, p_real = np.asarray(labels), np.asarray(p_real)
    of_class = labels == label
    rows = np.flatnonzero(of_class & ((p_real >= threshold) == called_real))
    found = rows.size
    if choose == "extreme":
        rows = rows[np.argsort(-p_real[rows] if called_real else p_real[rows], kind="stable")[:n]]
    else:
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:n])
    # Sorted for the sake of the disk, then back into the order chosen.
    order = np.argsort(rows, kind="stable")
    shown = np.empty((rows.size, *stamps.shape[1:]), dtype=np.float32)
    shown[order] = stamps[rows[order]]
    names = rows if ids is None else np.asarray(ids)[rows]
    color = RIGHT_COLOR if quadrant in ("TP", "TN") else WRONG_COLOR
    return stamp_page(
        shown,
        [f"{name}   p_real {p_real[row]:.3f}" for name, row in zip(names, rows, strict=True)],
        channels,
        columns=columns,
        title=f"{quadrant}: {words} ({found:,} of {int(of_class.sum()):,} {words.split(',')[0]})",
        colors=[color] * rows.size,
        common_range=common_range,
        diff_centre=diff_centre,
    )


def _triplet(
    axes: Axes,
    stamp: np.ndarray,
    channels: Sequence[str],
    common_range: bool | None,
    diff_centre: Literal["zero", "median"] | None,
    name_channels: bool,
) -> None:
    height, width = stamp.shape[1:]
    stamp = unmasked(stamp)
    shared = [stamp[CHANNELS.index(c)] for c in channels if c != "diff"]
    if common_range is None:
        common_range = same_sky(shared)
    together = grey_limits(np.stack(shared)) if shared and common_range else None
    for position, channel in enumerate(channels):
        image = stamp[CHANNELS.index(channel)]
        left = position * (width + _GAP)
        if not np.isfinite(image).any():
            _absent(axes, left, width, height, channel)
        elif channel == "diff":
            _show_diff(axes, image, left, diff_centre)
        else:
            _show_grey(axes, image, left, together or grey_limits(image))
        axes.add_patch(
            Rectangle((left, 0), width, height, fill=False, ec="#555555", lw=0.5, zorder=3)
        )
        if name_channels and np.isfinite(image).any():
            axes.text(
                left + 1.5,
                height - 2,
                channel,
                fontsize=6.5,
                va="top",
                color=INK,
                bbox={"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 1},
                zorder=4,
            )
    axes.set_xlim(-0.5, len(channels) * (width + _GAP) - _GAP + 0.5)
    axes.set_ylim(-0.5, height + 0.5)
    axes.set_aspect("equal")


def _show_grey(axes: Axes, image: np.ndarray, left: int, limits: tuple[float, float]) -> None:
    from astropy.visualization import AsinhStretch, ImageNormalize

    low, high = limits
    norm = ImageNormalize(vmin=low, vmax=high, stretch=AsinhStretch(0.15), clip=True)
    _imshow(axes, image, left, "gray", norm)


def _show_diff(
    axes: Axes, image: np.ndarray, left: int, centre: Literal["zero", "median"] | None
) -> None:
    _imshow(axes, image, left, "RdBu_r", Normalize(*diff_limits(image, centre)))


def _imshow(axes: Axes, image: np.ndarray, left: int, colormap: str, norm: Normalize) -> None:
    from matplotlib import colormaps

    height, width = image.shape
    cmap = colormaps[colormap].with_extremes(bad=_NAN_COLOR)
    axes.imshow(
        np.ma.masked_invalid(image),
        cmap=cmap,
        norm=norm,
        origin="lower",
        interpolation="nearest",
        extent=(left, left + width, 0, height),
    )


def _absent(axes: Axes, left: int, width: int, height: int, channel: str) -> None:
    axes.add_patch(
        Rectangle((left, 0), width, height, facecolor="#F4F4F4", ec="#D8D8D8", hatch="//", lw=0)
    )
    axes.text(
        left + width / 2,
        height / 2,
        f"no {channel}",
        ha="center",
        va="center",
        fontsize=7,
        color=MUTED,
        bbox={"facecolor": "#F4F4F4", "lw": 0, "pad": 2},
    )
