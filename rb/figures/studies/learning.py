"""Quality against the number of training candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rb.figures.style import (
    PAGE_WIDTH,
    empty_note,
    house_style,
    new_figure,
    run_color,
    run_style,
    short,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@house_style
def learning_figure(table: pd.DataFrame, measures: dict[str, str]) -> Figure:
    """A panel for each measure, a line for each model.

    Parameters
    ----------
    table
        Columns ``model``, ``n_train`` and, for each measure, ``<measure>``, ``<measure>_low`` and
        ``<measure>_high``.
    measures
        Labels by column.
    """
    figure = new_figure(PAGE_WIDTH, 3.2)
    panels = np.atleast_1d(figure.subplots(1, max(len(measures), 1)))
    if table.empty:
        empty_note(panels[0], "nothing was trained")
        return figure
    several = table.groupby("model", sort=False)["n_train"].transform("nunique") > 1
    table = table[several] if several.any() else table  # a single size is no curve
    models = list(dict.fromkeys(table["model"]))
    for axes, (measure, label) in zip(panels, measures.items(), strict=False):
        for i, model in enumerate(models):
            rows = table[table["model"] == model].sort_values("n_train")
            # Side by side, so that intervals can be told apart.
            place = rows["n_train"] * 1.03 ** (i - (len(models) - 1) / 2)
            value = rows[measure]
            errors = np.stack([value - rows[f"{measure}_low"], rows[f"{measure}_high"] - value])
            axes.errorbar(
                place, value, errors, color=run_color(i), ls=run_style(i), marker="o", ms=3.5,
                capsize=2, lw=1.2, label=short(model, 24),
            )  # fmt: skip
        axes.set_xscale("log")
        sizes = sorted(set(table["n_train"]))
        axes.set_xticks(sizes, [f"{n:,}" for n in sizes])
        axes.minorticks_off()
        axes.set_xlabel("training candidates")
        axes.set_ylabel(label)
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=4, frameon=False)
    return figure
