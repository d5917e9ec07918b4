"""The look that all figures share, and saving them.

Figures are built on `matplotlib.figure.Figure` itself, without pyplot: nothing is registered
globally, no display is needed, and a figure is freed when its last reference goes.
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from rb.io.files import write_whole
from rb.stamps.layout import BOGUS, REAL

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_Arguments = ParamSpec("_Arguments")
_Drawn = TypeVar("_Drawn")

COLUMN_WIDTH = 3.5
"""Inches; one column of a journal page."""
PAGE_WIDTH = 7.1
"""Inches; the whole width of a journal page."""

# From the palettes of Okabe & Ito and of Paul Tol, which keep apart under the common forms
# of colour blindness; where two meet in one axes they also differ in lightness.
RUN_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#555555")
"""Runs in the order given: blue and orange for the first two, as in the paper's Figure 6."""
RUN_STYLES = ("-", "--", "-.", ":")
REAL_COLOR, BOGUS_COLOR = "#332288", "#CC6677"
TRAIN_COLOR, VALIDATION_COLOR = "#2E8B57", "#7B3294"
RIGHT_COLOR, WRONG_COLOR = "#08519C", "#C2570C"
LABEL_WORDS = {REAL: "real", BOGUS: "bogus"}
P_REAL = r"$p_\mathrm{real}$"
MARKERS = "os^Dv"
INK, MUTED, GRID = "#222222", "#6B6B6B", "#DDDDDD"

_RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib: same look everywhere
    "font.size": 8.0,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#444444",
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "lines.linewidth": 1.4,
    "legend.frameon": True,
    "legend.fancybox": False,
    "legend.framealpha": 0.9,
    "legend.edgecolor": "none",
    "legend.handlelength": 2.2,
    "figure.dpi": 150,
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,  # text stays text in the PDF
    "svg.fonttype": "path",
    "svg.hashsalt": "rb",  # the same figure gives the same file
}


def house_style(draw: Callable[_Arguments, _Drawn]) -> Callable[_Arguments, _Drawn]:
    """Let a function draw with the settings above, which hold while it runs only."""

    @functools.wraps(draw)
    def styled(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Drawn:
        import matplotlib

        with matplotlib.rc_context(_RC):
            return draw(*arguments, **named)

    return styled


def new_figure(width: float = COLUMN_WIDTH, height: float = 2.8) -> Figure:
    """An empty figure of this size in inches; for functions in `house_style`."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def run_color(index: int) -> str:
    """Colour of run number `index`."""
    return RUN_COLORS[index % len(RUN_COLORS)]


def run_style(index: int) -> str:
    """Line style of run number `index`: a second cue beside the colour."""
    return RUN_STYLES[index % len(RUN_STYLES)]


def label_color(label: int) -> str:
    """Colour of a label, dark for candidates without one."""
    return {REAL: REAL_COLOR, BOGUS: BOGUS_COLOR}.get(label, INK)


def empty_note(axes: Axes, text: str) -> None:
    """Say in the middle of `axes` why there is nothing in it."""
    axes.text(
        0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color=MUTED, wrap=True
    )


def plain(text: str) -> str:
    r"""`text` with its dollar signs escaped, so that matplotlib does not read it as math."""
    return text.replace("$", r"\$")


def short(text: str, length: int = 34) -> str:
    """`text`, its middle replaced by an ellipsis where it is longer than `length`."""
    if len(text) <= length:
        return plain(text)
    head = (length - 1) * 2 // 3
    return plain(f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}")


def percent(count: int, total: int) -> str:
    """Whole percents as in the paper, a decimal where rounding would say 0 or 100."""
    share = 100 * count / total
    return f"{share:.0f}" if count in (0, total) or 1 <= share <= 99 else f"{share:.1f}"


def bars_of(table: pd.DataFrame, column: str) -> list[np.ndarray]:
    """Error bars from ``<column>_low`` and ``<column>_high``, below and above `column`."""
    below = table[column] - table[f"{column}_low"]
    above = table[f"{column}_high"] - table[column]
    return [below.clip(lower=0).to_numpy(), above.clip(lower=0).to_numpy()]


def save_figure(
    figure: Figure,
    path: str | os.PathLike[str],
    formats: Sequence[str] = ("png", "pdf"),
    dpi: int = 220,
) -> list[Path]:
    """Write `figure` as ``path.<format>`` for each format, each one whole or not at all.

    Parameters
    ----------
    path
        Without a suffix; missing folders are made.
    formats
        What matplotlib writes: png, pdf, svg.
    dpi
        Pixels per inch of the PNG, and of pictures inside a PDF or SVG.

    Returns
    -------
    list of Path
        The files, in the order of `formats`. The same figure gives the same bytes.

    Raises
    ------
    UserError
        If a file cannot be written.
    """
    path = Path(path)
    written = []
    for suffix in formats:
        target = path.with_name(f"{path.name}.{suffix}")
        write_whole(target, figure_bytes(figure, suffix, dpi), "the figure")
        written.append(target)
    return written


@house_style
def figure_bytes(figure: Figure, suffix: str = "png", dpi: int = 150) -> bytes:
    """The figure as the content of a file with this suffix."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    # Dates would make two runs of the same code differ.
    undated: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    stream = io.BytesIO()
    if suffix == "png":
        FigureCanvasAgg(figure)
    figure.savefig(stream, format=suffix, dpi=dpi, metadata=undated.get(suffix))
    return stream.getvalue()
