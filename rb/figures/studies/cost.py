"""Pictures of cost: time of a prediction by batch size, CPU time of a focal plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rb.figures.style import (
    COLUMN_WIDTH,
    INK,
    MUTED,
    RUN_COLORS,
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

MEASURED, QUOTED = RUN_COLORS[0], RUN_COLORS[1]


@house_style
def prediction_figure(
    timings: Mapping[str, pd.DataFrame], quoted: Mapping[str, float] | None = None
) -> Figure:
    """Clock time per stamp against batch size: median and median absolute deviation.

    Parameters
    ----------
    timings
        By run: columns ``batch_size``, ``ms_per_stamp``, ``mad`` (network alone) and, dotted,
        ``cpu_ms_per_stamp_with_scaling`` (CPU time).
    quoted
        Times of others, ms per stamp, drawn as horizontal lines.
    """
    from matplotlib.ticker import LogLocator

    figure = new_figure(COLUMN_WIDTH, 2.9 + 0.18 * ((len(timings) + 1) // 2))
    axes = figure.subplots()
    for i, (name, timing) in enumerate(timings.items()):
        axes.errorbar(
            timing["batch_size"], timing["ms_per_stamp"], timing["mad"], color=run_color(i),
            ls=run_style(i), marker="o", ms=4, capsize=2, label=short(name, 26),
        )  # fmt: skip
        if "cpu_ms_per_stamp_with_scaling" in timing:
            axes.plot(
                timing["batch_size"], timing["cpu_ms_per_stamp_with_scaling"],
                color=run_color(i), ls=":", lw=1,
            )  # fmt: skip
    if not timings:
        empty_note(axes, "no network was timed")
        return figure
    for name, value in (quoted or {}).items():
        axes.axhline(value, color=MUTED, lw=0.8, ls="--")
        axes.annotate(
            name, (1, value), xycoords=("axes fraction", "data"), xytext=(-3, 2),
            textcoords="offset points", ha="right", va="bottom", fontsize=7, color=MUTED,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    sizes = sorted({int(s) for t in timings.values() for s in t["batch_size"]})
    axes.set_xticks(sizes, [str(s) for s in sizes])
    axes.minorticks_off()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("stamps scored at a time")
    axes.set_ylabel("time per stamp, ms")
    axes.plot([], [], color=INK, ls=":", lw=1, label="CPU time, with scaling")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure


@house_style
def plane_figure(
    names: Sequence[str], seconds: Sequence[float], measured: Sequence[bool]
) -> Figure:
    """CPU time of a focal plane for each step, on a logarithmic axis.

    Parameters
    ----------
    names
        Of the steps, from top to bottom.
    seconds
        CPU seconds each.
    measured
        Whether it was measured here (filled) or is quoted (open).
    """
    figure = new_figure(COLUMN_WIDTH, 1.15 + 0.26 * max(len(names), 1))
    axes = figure.subplots()
    if not names:
        empty_note(axes, "nothing was measured")
        return figure
    places = np.arange(len(names))
    values = np.asarray(seconds, dtype=float)
    here = np.asarray(measured, dtype=bool)
    low = 10 ** np.floor(np.log10(values.min()) - 0.3)
    axes.hlines(places, low, values, color=np.where(here, MEASURED, QUOTED), lw=1.2)
    axes.plot(values[here], places[here], "o", color=MEASURED, ms=6, label="measured here")
    axes.plot(
        values[~here], places[~here], "D", color=QUOTED, mfc="white", ms=6, label="the paper's"
    )
    for place, value in zip(places, values, strict=True):
        axes.annotate(
            f"{value:.3g} s" if value < 3600 else f"{value / 3600:.3g} h", (value, place),
            xytext=(6, 0), textcoords="offset points", va="center", fontsize=7,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(low, values.max() * 60)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(places, [short(name, 34) for name in names])
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.set_xlabel("CPU time of a focal plane, s")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure
