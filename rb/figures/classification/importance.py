"""Which features a forest lives on."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from rb.figures.style import COLUMN_WIDTH, INK, MUTED, RUN_COLORS, house_style, new_figure

_MOST = 38
_ROW = 0.145  # inches


@house_style
def importance_figure(table: pd.DataFrame, most: int = _MOST) -> Figure:
    """Loss of AUC where a feature is shuffled, and where its whole correlated group is.

    Parameters
    ----------
    table
        As `rb.evaluation.importance.Permutation.table` returns it, most important first.
    most
        Features shown.
    """
    shown = table.head(most)
    groups = [group for group in dict.fromkeys(shown["group"]) if group]
    letters = {group: chr(ord("a") + i % 26) for i, group in enumerate(groups)}
    rows = range(len(shown))
    figure = new_figure(COLUMN_WIDTH, 0.9 + _ROW * max(len(shown), 4))
    axes = figure.add_subplot()
    for row, item in zip(rows, shown.itertuples(index=False), strict=True):
        axes.plot(
            [item.auc_loss - item.auc_loss_spread, item.auc_loss + item.auc_loss_spread],
            [row, row], color=RUN_COLORS[0], lw=1.1, solid_capstyle="butt",
        )  # fmt: skip
        if item.group:
            axes.plot(item.group_auc_loss, row, "D", ms=3.2, mfc="none", mew=0.9,
                      color=RUN_COLORS[5])  # fmt: skip
    axes.plot(shown["auc_loss"], list(rows), "o", ms=3.6, color=RUN_COLORS[0])
    axes.axvline(0, color=MUTED, lw=0.7)
    names = [
        f"{f} ({letters[g]})" if g else str(f)
        for f, g in zip(shown["feature"], shown["group"], strict=True)
    ]
    axes.set_yticks(list(rows), names, fontsize=6.2)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    # Most losses are small against the largest: linear about zero, logarithmic beyond.
    axes.set_xscale("symlog", linthresh=1e-3, linscale=0.8)
    reach = float(
        max(
            (shown["auc_loss"] + shown["auc_loss_spread"].fillna(0)).max(),
            shown["group_auc_loss"].max(),
            2e-3,
        )
    )
    lowest = float((shown["auc_loss"] - shown["auc_loss_spread"].fillna(0)).min())
    axes.set_xlim(min(1.4 * lowest, -2e-4), 1.4 * reach)
    axes.set_xlabel("AUC lost by shuffling")
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.plot([], [], "o-", ms=3.6, lw=1.1, color=RUN_COLORS[0], label="feature alone")
    if groups:
        axes.plot([], [], "D", ms=3.2, mfc="none", mew=0.9, color=RUN_COLORS[5],
                  label="with its group (a, b, …)")  # fmt: skip
    axes.legend(loc="lower right", labelcolor=INK)
    return figure
