"""Which image decides, by quadrant: the paper's Figure 10, and the same as areas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from rb.figures.classification.confusion import quadrant_axes
from rb.figures.style import (
    COLUMN_WIDTH,
    INK,
    MUTED,
    PAGE_WIDTH,
    empty_note,
    house_style,
    new_figure,
    percent,
)

Wins = Mapping[str, Mapping[str, int]]
"""By quadrant and panel: stamps that the panel wins."""

_PLACES = {"TP": (0, 0), "FN": (1, 0), "FP": (0, 1), "TN": (1, 1)}
_RIGHT = ("TP", "TN")
# Right in blue, wrong in orange, as in the confusion matrix; a shade a panel.
_SHADES = {True: ("#2B6CA8", "#7FB2DA", "#CFE3F3"), False: ("#B3570F", "#EE9B4E", "#FBDDB5")}
_TEXT = ("white", "#1A1A1A", "#1A1A1A")
_PALE = {True: "#EFF5FB", False: "#FDF4E8"}
_BAR = (0.21, 0.46)  # where a bar begins in its field, and the length of 100 %


@house_style
def winners_figure(
    wins: Mapping[str, Wins], published: Mapping[str, Mapping[str, Mapping[str, float]]]
) -> Figure:
    """Bars of the share of stamps that each panel wins, in the places of a confusion matrix.

    Parameters
    ----------
    wins
        By run: stamps by quadrant and panel.
    published
        By run: percentages by quadrant and panel, shown as diamonds; runs may be missing.
    """
    figure, panels = _matrices(wins)
    for axes, (name, run) in zip(panels, wins.items(), strict=False):
        for quadrant, (x, y) in _PLACES.items():
            _bars(axes, quadrant, run.get(quadrant, {}), published.get(name, {}), x, y)
        if name in published:
            axes.text(1, 2.24, "◆ paper, Figure 10 (DES)", ha="center", fontsize=7, color=MUTED)
    return figure


@house_style
def treemap_figure(wins: Mapping[str, Wins]) -> Figure:
    """The same shares as areas: each field of the matrix is divided among its panels.

    Parameters
    ----------
    wins
        By run: stamps by quadrant and panel.
    """
    figure, panels = _matrices(wins)
    for axes, (_, run) in zip(panels, wins.items(), strict=False):
        for quadrant, (x, y) in _PLACES.items():
            _areas(axes, quadrant, run.get(quadrant, {}), x, y)
    return figure


def _matrices(wins: Mapping[str, Wins], height: float = 2.75) -> tuple[Figure, Sequence[Axes]]:
    columns = 2 if len(wins) > 1 else 1
    rows = max(1, -(-len(wins) // columns))
    figure = new_figure(PAGE_WIDTH if columns > 1 else COLUMN_WIDTH, height * rows)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, name in zip(panels, wins, strict=False):
        quadrant_axes(axes, name, ("called real", "called bogus"), ("real", "bogus"))
    for axes in panels[len(wins) :]:
        axes.set_axis_off()
    if not wins:
        empty_note(panels[0], "no runs")
    return figure, panels


def _head(axes: Axes, quadrant: str, total: int, x: float, y: float) -> None:
    axes.text(x + 0.05, y + 0.13, quadrant, fontsize=7.5, weight="bold", va="center")
    stamps = f"{total:,} stamp" + "s" * (total != 1)
    axes.text(x + 0.95, y + 0.13, stamps, fontsize=7, ha="right", va="center", color=MUTED)


def _bars(
    axes: Axes,
    quadrant: str,
    wins: Mapping[str, int],
    published: Mapping[str, Mapping[str, float]],
    x: float,
    y: float,
) -> None:
    right = quadrant in _RIGHT
    axes.add_patch(Rectangle((x, y), 1, 1, facecolor=_PALE[right], edgecolor="white", lw=3))
    total = sum(wins.values())
    _head(axes, quadrant, total, x, y)
    start, length = x + _BAR[0], _BAR[1]
    for position, (panel, count) in enumerate(wins.items()):
        middle = y + 0.25 + 0.7 * (position + 0.5) / len(wins)
        share = count / total if total else 0.0
        color = _SHADES[right][0]
        axes.add_patch(Rectangle((start, middle - 0.07), length * share, 0.14, facecolor=color))
        axes.plot([start, start], [middle - 0.09, middle + 0.09], color=INK, lw=0.6)
        axes.text(start - 0.02, middle, panel, ha="right", va="center", fontsize=7)
        text = f"{percent(count, total)} %" if total else "–"
        axes.text(
            x + 0.95, middle - 0.045, text, ha="right", va="center", fontsize=8, weight="bold"
        )
        axes.text(
            x + 0.95,
            middle + 0.065,
            f"{count:,}",
            ha="right",
            va="center",
            fontsize=6.5,
            color=MUTED,
        )
        paper = published.get(quadrant, {}).get(panel)
        if paper is not None:
            axes.plot(
                start + length * paper / 100, middle, "D", ms=3.6, mfc="white", mec=INK, mew=0.8
            )


def _areas(axes: Axes, quadrant: str, wins: Mapping[str, int], x: float, y: float) -> None:
    right = quadrant in _RIGHT
    total = sum(wins.values())
    axes.add_patch(Rectangle((x, y), 1, 1, facecolor=_PALE[right], edgecolor="white", lw=3))
    _head(axes, quadrant, total, x, y)
    if not total:
        return
    left, top, width, height = x + 0.03, y + 0.24, 0.94, 0.73
    names = list(wins)
    first = wins[names[0]] / total
    _area(axes, names[0], wins, total, (left, top, width * first, height), right, 0)
    below = total - wins[names[0]]
    for index, name in enumerate(names[1:], 1):
        part = height * wins[name] / below if below else 0.0
        box = (left + width * first, top, width * (1 - first), part)
        _area(axes, name, wins, total, box, right, index)
        top += part


def _area(
    axes: Axes,
    panel: str,
    wins: Mapping[str, int],
    total: int,
    box: tuple[float, float, float, float],
    right: bool,
    shade: int,
) -> None:
    left, top, width, height = box
    if width * height == 0:
        return
    shade = min(shade, 2)
    axes.add_patch(
        Rectangle((left, top), width, height, facecolor=_SHADES[right][shade], ec="white", lw=1)
    )
    text = f"{panel} {percent(wins[panel], total)} %"
    if width > 0.4 and height > 0.1:
        pass
    elif width > 0.2 and height > 0.2:
        text = text.replace(" ", "\n", 1)
    else:
        return  # too small for its name; the bars and the table have the number
    axes.text(
        left + width / 2,
        top + height / 2,
        text,
        ha="center",
        va="center",
        fontsize=7,
        color=_TEXT[shade],
    )
