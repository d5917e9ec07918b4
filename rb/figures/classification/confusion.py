"""Confusion matrices in the layout of the paper's Figure 5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from rb.figures.style import COLUMN_WIDTH, empty_note, house_style, new_figure, percent, short
from rb.metrics.classification import ConfusionMatrix

# Right in blue, wrong in orange; the darker shade is for stamps that are truly real.
_FILL = {"TP": "#2B6CA8", "FN": "#E08432", "FP": "#FBD9A8", "TN": "#BBD7EE"}
_TEXT = {"TP": "white", "FN": "#1A1A1A", "FP": "#1A1A1A", "TN": "#1A1A1A"}
_MAX_COLUMNS = 3


@house_style
def confusion_figure(matrices: Mapping[str, ConfusionMatrix]) -> Figure:
    """A panel a run: true labels down, predictions across, percent and number in each field.

    Percentages are shares of the row, so those of a row add up to 100.

    Parameters
    ----------
    matrices
        Confusion matrix by run name.
    """
    columns = max(1, min(len(matrices), _MAX_COLUMNS))
    rows = max(1, -(-len(matrices) // _MAX_COLUMNS))
    figure = new_figure(max(COLUMN_WIDTH, 2.45 * columns + 0.25), 2.7 * rows)
    axes = figure.subplots(rows, columns, squeeze=False)
    for index, (name, matrix) in enumerate(matrices.items()):
        _panel(axes.flat[index], name, matrix, label_rows=index % columns == 0)
    for unused in list(axes.flat)[len(matrices) :]:
        unused.set_axis_off()
        if not matrices:
            empty_note(unused, "no runs")
    return figure


def _panel(axes: Axes, name: str, matrix: ConfusionMatrix, label_rows: bool) -> None:
    fields = [
        ("TP", matrix.tp, matrix.n_real, 0, 0),
        ("FN", matrix.fn, matrix.n_real, 1, 0),
        ("FP", matrix.fp, matrix.n_bogus, 0, 1),
        ("TN", matrix.tn, matrix.n_bogus, 1, 1),
    ]
    for quadrant, count, total, x, y in fields:
        axes.add_patch(Rectangle((x, y), 1, 1, facecolor=_FILL[quadrant], edgecolor="white", lw=2))
        share = f"{percent(count, total)} %" if total else "–"
        style: dict[str, Any] = {"ha": "center", "va": "center", "color": _TEXT[quadrant]}
        axes.text(x + 0.5, y + 0.44, share, fontsize=13, weight="bold", **style)
        axes.text(x + 0.5, y + 0.70, f"{count:,}", fontsize=8.5, **style)
        axes.text(x + 0.06, y + 0.12, quadrant, fontsize=7.5, **(style | {"ha": "left"}))
    quadrant_axes(axes, name, ("real", "bogus"), ("real", "bogus") if label_rows else ("", ""))
    axes.set_aspect("equal")
    axes.tick_params(labelsize=8.5)
    axes.set_xlabel("predicted")
    if label_rows:
        axes.set_ylabel("true label")


def quadrant_axes(axes: Axes, title: str, columns: tuple[str, str], rows: tuple[str, str]) -> None:
    """Axes of four fields of side 1, the first in the upper left corner, without a frame."""
    axes.set_xlim(0, 2)
    axes.set_ylim(2, 0)
    axes.grid(False)
    axes.set_xticks([0.5, 1.5], columns)
    axes.set_yticks([0.5, 1.5], rows, rotation=90)
    for tick in axes.get_yticklabels():
        tick.set_verticalalignment("center")
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    axes.set_title(short(title, 38))
