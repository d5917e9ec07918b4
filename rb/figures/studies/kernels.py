"""Test accuracy by kernel sizes and batch size: the paper's Table 10 as heat maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from rb.figures.style import INK, MUTED, PAGE_WIDTH, empty_note, house_style, new_figure, plain

Setting = tuple[int, int, int, int]
"""Kernels of the three convolutions (px) and batch size."""


@house_style
def kernels_figure(grids: Mapping[str, Mapping[Setting, float]]) -> Figure:
    """A row of heat maps for each grid, a panel a batch size.

    Kernel 1 runs down, kernels 2 and 3 across. Each grid has its own colour range, so that
    the pattern can be compared where the level differs; settings that were not tried are
    crossed out.

    Parameters
    ----------
    grids
        By title: accuracy (0 to 1) by setting; NaN counts as not tried.
    """
    settings = sorted({s for grid in grids.values() for s in grid})
    batches = sorted({s[3] for s in settings})
    rows = sorted({s[0] for s in settings})
    columns = sorted({s[1:3] for s in settings})
    if not settings:
        figure = new_figure()
        empty_note(figure.add_subplot(), "no runs")
        return figure
    height = 0.75 + 0.27 * len(rows)
    figure = new_figure(PAGE_WIDTH, 0.2 + height * len(grids))
    axes = figure.subplots(len(grids), len(batches), squeeze=False, sharex=True, sharey=True)
    for line, (title, grid) in zip(axes, grids.items(), strict=True):
        values = np.array([v for v in grid.values() if np.isfinite(v)])
        low, high = (values.min(), values.max()) if values.size else (0.0, 1.0)
        norm = Normalize(low, high if high > low else low + 1e-3)
        for panel, batch in zip(line, batches, strict=True):
            _panel(panel, grid, rows, columns, batch, norm)
            panel.set_title(plain(f"{title}, batch size {batch}"), fontsize=8)
        line[0].set_ylabel("kernel 1 (px)")
        bar = figure.colorbar(
            line[0].images[0],
            ax=line,
            fraction=0.03,
            pad=0.01,
            aspect=14,
            ticks=MaxNLocator(4),
            format=FuncFormatter(lambda value, _: f"{100 * value:.1f}"),
        )
        bar.set_label("test accuracy (%)", fontsize=7.5)
        bar.ax.tick_params(labelsize=7, length=2, direction="out", left=False)
    for panel in axes[-1]:
        panel.set_xlabel("kernels 2 and 3 (px)")
    return figure


def _panel(
    panel: Axes,
    grid: Mapping[Setting, float],
    rows: Sequence[int],
    columns: Sequence[tuple[int, int]],
    batch: int,
    norm: Normalize,
) -> None:
    from matplotlib import colormaps

    table = np.array([[grid.get((r, *c, batch), np.nan) for c in columns] for r in rows])
    cmap = colormaps["cividis"].with_extremes(bad="#F0F0F0")
    panel.imshow(np.ma.masked_invalid(table), cmap=cmap, norm=norm, aspect="auto")
    for (i, j), value in np.ndenumerate(table):
        if np.isfinite(value):
            color = "white" if norm(value) < 0.55 else INK
            panel.text(j, i, f"{100 * value:.1f}", ha="center", va="center", color=color, size=7.5)
        else:
            panel.text(j, i, "×", ha="center", va="center", color=MUTED, size=8)
    panel.grid(False)
    panel.set_xticks(range(len(columns)), [f"{a}, {b}" for a, b in columns])
    panel.set_yticks(range(len(rows)), [str(r) for r in rows])
    panel.tick_params(length=0)
