"""Loss and accuracy over the epochs (the paper's Figure 7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rb.figures.style import (
    COLUMN_WIDTH,
    MUTED,
    PAGE_WIDTH,
    TRAIN_COLOR,
    VALIDATION_COLOR,
    empty_note,
    house_style,
    new_figure,
    short,
)

if TYPE_CHECKING:
    import pandas as pd

_KINDS = (("train", "training", TRAIN_COLOR), ("val", "validation", VALIDATION_COLOR))


@house_style
def curves_figure(histories: Mapping[str, pd.DataFrame]) -> Figure:
    """Loss above, accuracy below, a column a run; training green, validation purple.

    A dotted line marks the epoch of the best validation accuracy, whose weights are kept.

    Parameters
    ----------
    histories
        By run name: columns ``epoch``, ``train/loss``, ``train/acc``, ``val/loss``,
        ``val/acc``; a missing column or NaN is not drawn.
    """
    columns = max(1, len(histories))
    figure = new_figure(min(PAGE_WIDTH, COLUMN_WIDTH * columns), 3.8)
    axes = figure.subplots(2, columns, squeeze=False, sharex="col", sharey="row")
    for column, (name, history) in enumerate(histories.items()):
        _draw(axes[0, column], history, "loss")
        _draw(axes[1, column], history, "acc")
        axes[0, column].set_title(short(name, 40 if columns < 3 else 20))
        axes[1, column].set_xlabel("epoch")
    axes[0, 0].set_ylabel("cross-entropy")
    axes[1, 0].set_ylabel("accuracy")
    if histories:
        _limit_loss(axes[0, 0], histories)
        _limit_accuracy(axes[1, 0], histories)
        axes[0, -1].legend(loc="upper right")
    else:
        empty_note(axes[0, 0], "no training history")
    return figure


def _draw(axes: Axes, history: pd.DataFrame, quantity: str) -> None:
    epoch = history["epoch"].to_numpy(dtype=float)
    for prefix, label, color in _KINDS:
        key = f"{prefix}/{quantity}"
        if key not in history:
            continue
        values = history[key].to_numpy(dtype=float)
        # A line needs two points; a run of one epoch still shows its dot.
        marker = "o" if np.isfinite(values).sum() < 20 else None
        width = 1.2 if len(values) < 100 else 0.8
        axes.plot(epoch, values, color=color, label=label, marker=marker, ms=2.5, lw=width)
    best = _best_epoch(history)
    if best is not None:
        axes.axvline(best, color=MUTED, lw=0.8, ls=":", zorder=1)
        if quantity == "acc":
            value = history["val/acc"].max()
            axes.text(
                0.97,
                0.06,
                f"best validation {100 * value:.1f} %, epoch {best:g}",
                transform=axes.transAxes,
                ha="right",
                fontsize=7,
                color=MUTED,
                bbox={"facecolor": "white", "alpha": 0.9, "lw": 0, "pad": 1},
            )


def _best_epoch(history: pd.DataFrame) -> float | None:
    if "val/acc" not in history or not history["val/acc"].notna().any():
        return None
    return float(history["epoch"].to_numpy()[int(np.nanargmax(history["val/acc"]))])


def _limit_accuracy(axes: Axes, histories: Mapping[str, pd.DataFrame]) -> None:
    """From a little under the bulk of the values, so that one bad epoch squeezes nothing."""
    values = _all(histories, "acc")
    if values.size:
        floor = np.quantile(values, 0.02)
        top = min(1.0, values.max() + 0.15 * max(values.max() - floor, 0.02))
        axes.set_ylim(max(0.0, floor - 0.12 * max(top - floor, 0.05)), top)


def _limit_loss(axes: Axes, histories: Mapping[str, pd.DataFrame]) -> None:
    values = _all(histories, "loss")
    if values.size:
        axes.set_ylim(0, 1.08 * np.quantile(values, 0.99))


def _all(histories: Mapping[str, pd.DataFrame], quantity: str) -> np.ndarray:
    parts = [
        history[key].to_numpy(dtype=float)
        for history in histories.values()
        for key in (f"train/{quantity}", f"val/{quantity}")
        if key in history
    ]
    values = np.concatenate(parts) if parts else np.array([])
    return values[np.isfinite(values)]
