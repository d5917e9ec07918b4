"""Networks as pictures, as in the paper's Figure 4."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from rb.figures.style import INK, MUTED, PAGE_WIDTH, house_style, new_figure, short
from rb.models.describe import Layer

_FILL = {
    "input": "#D9D9D9",
    "Conv2D": "#56B4E9",
    "MaxPooling": "#F0E442",
    "Dense": "#009E73",
    "convolutions": "#CC79A7",
}
_STACKED = 6  # sheets drawn for the largest number of filters
_OFFSET = 2.2  # px of the image between two sheets
_GAP = 34.0  # px between two layers


@house_style
def architecture_figure(networks: Mapping[str, tuple[Sequence[int], Sequence[Layer]]]) -> Figure:
    """A row a network: what goes in, what each layer makes of it, what comes out.

    Images are drawn to scale, with more sheets for more filters; dense layers as bars.
    Dropout and flattening change no picture and are named where they happen.

    Parameters
    ----------
    networks
        By name: shape of the input (channels, height, width) and the layers that
        `rb.models.describe.describe` lists.
    """
    figure = new_figure(PAGE_WIDTH, 1.6 * len(networks))
    axes = figure.subplots(len(networks), 1, squeeze=False)[:, 0]
    for one, (name, (shape, layers)) in zip(axes, networks.items(), strict=True):
        _draw(one, tuple(shape), layers)
        one.set_title(short(name, 80), loc="left")
    return figure


def _draw(axes: Axes, shape: tuple[int, ...], layers: Sequence[Layer]) -> None:
    most = max((row.output[0] for row in layers if len(row.output) == 3), default=1)
    x = _image(axes, 0.0, shape, "input", _sheets(shape[0], most))
    notes: list[str] = []
    for row in layers:
        if row.kind == "Dropout":
            notes.append(f"dropout {row.size:g}")
        elif row.kind == "Flatten":
            notes.append("flatten")
        else:
            name = _operation(row)
            gap = _GAP * (1.5 if row.kind == "Dense" else 1)  # their words are the longest
            middle = x + gap / 2
            axes.annotate(
                "", (x + gap - 6, 0), (x + 6, 0), arrowprops={"arrowstyle": "->", "color": MUTED}
            )
            text = "\n".join([*notes, name])
            axes.text(middle, -36, text, ha="center", va="top", fontsize=5.6, color=INK)
            notes = []
            x += gap
            fill = row.kind if row.kind in _FILL else "convolutions"
            if len(row.output) == 3:
                x = _image(axes, x, row.output, fill, _sheets(row.output[0], most))
            else:
                x = _bar(axes, x, row.output[0])
    axes.set_xlim(-4, x + 6)
    axes.set_ylim(-62, 52)
    axes.set_aspect("equal")
    axes.set_axis_off()


def _operation(row: Layer) -> str:
    if row.kind == "Conv2D":
        return f"conv {_window(row)}"
    if row.kind == "MaxPooling":
        return f"max {_window(row)}"
    if row.kind == "Dense":
        return "dense"
    return row.kind.replace(" of ", "\nof ")


def _window(row: Layer) -> str:
    assert isinstance(row.size, tuple)
    return "×".join(str(side) for side in row.size)


def _sheets(channels: int, most: int) -> int:
    if channels == 1:
        return 1
    return max(2, round(1 + (_STACKED - 1) * math.log(channels) / math.log(max(most, 2))))


def _image(axes: Axes, x: float, shape: tuple[int, ...], fill: str, sheets: int) -> float:
    channels, height, width = shape
    drawn_width, drawn_height = max(width, 3), max(height, 3)
    depth = _OFFSET * (sheets - 1)
    for sheet in range(sheets):
        shift = _OFFSET * sheet
        axes.add_patch(
            Rectangle(
                (x + depth - shift, -drawn_height / 2 + depth / 2 - shift),
                drawn_width,
                drawn_height,
                facecolor=_FILL[fill],
                edgecolor="white",
                linewidth=0.5,
            )
        )
    text = f"{height}×{width}" if channels == 1 else f"{channels}@\n{height}×{width}"
    axes.text(
        x + (drawn_width + depth) / 2,
        (drawn_height + depth) / 2 + 3,
        text,
        ha="center",
        va="bottom",
        fontsize=5.6,
    )
    return x + drawn_width + depth


def _bar(axes: Axes, x: float, units: int) -> float:
    height = 8 * math.log2(units + 1)
    axes.add_patch(
        Rectangle((x, -height / 2), 4, height, facecolor=_FILL["Dense"], edgecolor="white")
    )
    axes.text(x + 2, height / 2 + 3, str(units), ha="center", va="bottom", fontsize=5.6)
    return x + 4
