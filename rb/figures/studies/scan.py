"""Searches of whole images side by side."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

_COLORS = ("#1F5A7A", "#E4572E", "#3A7D44", "#8E5EA2", "#7A7A7A", "#C9A227", "#5DA9C9", "#B07C9E")


def completeness_figure(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]], by_snr: pd.DataFrame
) -> Figure:
    """Completeness against false positives a frame, and against true SNR.

    Parameters
    ----------
    curves : mapping
        Of each search false positives a frame, and completeness.
    by_snr : DataFrame
        A row a search, a column a range of SNR.
    """
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, (name, (rates, values)) in enumerate(curves.items()):
        left.plot(rates, values, color=_COLORS[i % len(_COLORS)], label=name)
    left.set(
        xscale="log", xlabel="false positives a frame", ylabel="completeness", ylim=(None, 1.0)
    )
    left.legend(fontsize=8, loc="lower right")
    for i, (_, row) in enumerate(by_snr.iterrows()):
        right.plot(range(len(row)), row, "o-", color=_COLORS[i % len(_COLORS)])
    right.set_xticks(range(by_snr.shape[1]), list(by_snr.columns), fontsize=8)
    right.set(xlabel="true SNR (number of supernovae)", ylabel="completeness", ylim=(None, 1.02))
    return figure


def photometry_figure(pulls: Mapping[str, pd.DataFrame]) -> Figure:
    """Pulls against true SNR, a panel a search.

    Parameters
    ----------
    pulls : mapping of str to DataFrame
        Columns `snr` and `pull`.
    """
    figure = Figure(figsize=(5.2 * len(pulls), 3.8), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(pulls), sharey=True))
    for axes, (name, table) in zip(panels, pulls.items(), strict=True):
        axes.axhspan(-1, 1, color="#EEEEEE")
        axes.plot(table["snr"], table["pull"], ".", ms=3, color=_COLORS[0], alpha=0.5)
        axes.set(xscale="log", xlabel="true SNR", title=name, ylim=(-8, 8))
    panels[0].set_ylabel("(flux - truth) / error")
    return figure
