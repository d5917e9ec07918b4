"""Single candidates shown large, with their pixel values: the paper's Figure 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rb.figures.images import EMPTY, grey_scale, no_axes, show_diff, show_grey
from rb.figures.limits import same_sky, unmasked
from rb.figures.style import INK, MUTED, PAGE_WIDTH, empty_note, house_style, plain
from rb.stamps.layout import CHANNELS

SHOWN = ("tmpl", "srch", "diff")
"""From left to right, as in the paper's Figures 1 and 2."""

_COLUMNS = 2
_MARGIN, _BETWEEN = 0.1, 0.05  # inches between triplets, between panels
_HEADING, _BELOW = 0.36, 0.27  # inches for the texts above a panel, for the colour bar below


@house_style
def triplets_figure(
    stamps: np.ndarray, titles: Sequence[str], colors: Sequence[str] | None = None
) -> Figure:
    """Template, search and difference of a few candidates, two candidates in a row.

    Template and search of a candidate share one grey scale (an asinh stretch between zscale
    limits) and its colour bar, unless their sky levels lie so far apart that one of them
    would be blank; then each has its own. The difference runs from blue (negative) through
    white to red. NaN and masked pixels are yellow; a channel of nothing else is crossed out.

    Parameters
    ----------
    stamps
        (n, 3, height, width), channels diff, srch, tmpl, in the unit of the colour bars.
    titles
        n texts over the triplets.
    colors
        n colours of the titles.
    """
    n = len(stamps)
    columns = max(1, min(n, _COLUMNS))
    rows = max(1, -(-n // columns))
    # Inches. All sizes are known beforehand, so everything is placed by hand and lines up.
    width = (PAGE_WIDTH - (_COLUMNS + 1) * _MARGIN) / _COLUMNS
    row_height = _HEADING + _side(width) + _BELOW
    page = columns * (width + _MARGIN) + _MARGIN
    figure = Figure(figsize=(page, rows * row_height))
    for index, stamp in enumerate(stamps):
        row, column = divmod(index, columns)
        corner = (_MARGIN + column * (width + _MARGIN), (rows - row) * row_height)
        figure.text(
            (corner[0] + width / 2) / page,
            (corner[1] - 0.05) / (rows * row_height),
            plain(titles[index]),
            ha="center",
            va="top",
            fontsize=8,
            color=colors[index] if colors else INK,
        )
        _triplet(figure, corner, width, unmasked(stamp))
    if n == 0:
        empty_note(figure.add_subplot(), "no stamps")
    return figure


def _side(width: float) -> float:
    """Side of a panel in inches; the pair stands closer together than the difference."""
    return (width - _BETWEEN - 3 * _BETWEEN) / 3


def _axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    page_width, page_height = figure.get_size_inches()
    return figure.add_axes(
        (left / page_width, bottom / page_height, width / page_width, height / page_height)
    )


def _triplet(figure: Figure, corner: tuple[float, float], width: float, stamp: np.ndarray) -> None:
    """One candidate with its upper left corner at `corner`, in inches."""
    side = _side(width)
    bottom = corner[1] - _HEADING - side
    left = [corner[0], corner[0] + side + _BETWEEN, corner[0] + width - side]
    images = {name: stamp[CHANNELS.index(name)] for name in SHOWN}
    pair = [images["tmpl"], images["srch"]]
    common = grey_scale(np.stack(pair)) if same_sky(pair) else None
    panels = []
    for x, name in zip(left, SHOWN, strict=True):
        panel = _axes(figure, x, bottom, side, side)
        no_axes(panel)
        panel.set_title(name, fontsize=7, pad=2)
        if not np.isfinite(images[name]).any():
            _missing(panel, images[name])
        elif name == "diff":
            show_diff(panel, images[name])
        else:
            show_grey(panel, images[name], common or grey_scale(images[name]))
        panels.append(panel)
    bars = [([p], x, side) for p, x in zip(panels, left, strict=True)]
    if common is not None:
        bars = [(panels[:2], left[0], 2 * side + _BETWEEN), bars[2]]
    for group, x, length in bars:
        shown = [panel for panel in group if panel.images]
        if shown:
            _bar(figure, shown[0], _axes(figure, x, bottom - 0.09, length, 0.05))


def _missing(panel: Axes, image: np.ndarray) -> None:
    panel.set_facecolor(EMPTY)
    panel.set_xlim(0, image.shape[1])
    panel.set_ylim(0, image.shape[0])
    panel.set_aspect("equal")
    panel.text(0.5, 0.5, "missing", transform=panel.transAxes, ha="center", fontsize=7, color=MUTED)


def _bar(figure: Figure, panel: Axes, place: Axes) -> None:
    """A colour bar with few ticks, so that its numbers never touch."""
    image = panel.images[0]
    bar = figure.colorbar(image, cax=place, orientation="horizontal")
    # The asinh stretch crowds the high values: ticks at equal distances on the bar instead.
    long = place.get_position().width > 1.5 * panel.get_position().width
    at = np.array([0.03, 0.34, 0.66, 0.97] if long else [0.1, 0.5, 0.9])
    norm: Any = image.norm
    values = np.asarray(norm.inverse(at), dtype=float)
    span = float(norm.vmax - norm.vmin)
    bar.set_ticks(values.tolist(), labels=[_number(v, span) for v in values])
    place.tick_params(labelsize=6, length=2, pad=1.5, direction="out", top=False)
    place.minorticks_off()
    bar.outline.set_linewidth(0.4)  # type: ignore[operator]


def _number(value: float, span: float) -> str:
    """As many digits as the range of the bar needs."""
    digits = max(0, 1 - int(np.floor(np.log10(span)))) if span > 0 else 0
    return f"{value:.{min(digits, 4)}f}".replace("-", "−")
