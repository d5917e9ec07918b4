"""How the pixel values of stamps are distributed, before and after scaling.

Histograms as in the paper's Figure 2, split violins as in its Figures 12 and 13.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from rb.figures.data.triplets import SHOWN
from rb.figures.images import name_panel
from rb.figures.style import (
    INK,
    MUTED,
    PAGE_WIDTH,
    TRAIN_COLOR,
    VALIDATION_COLOR,
    empty_note,
    house_style,
    new_figure,
    plain,
)
from rb.stamps.layout import CHANNELS

COLORS = {"srch": VALIDATION_COLOR, "tmpl": TRAIN_COLOR, "diff": "#4D4D4D"}
"""Purple search, green template, grey difference, as in the paper."""

_WIDTH = 0.42  # of half a violin, in units of the distance of two
_SCALED_CORE = 0.5  # scaled values beyond this are drawn ever closer together


def three_sigma_interval(values: np.ndarray) -> tuple[float, float]:
    """Mean minus and plus three population standard deviations of `values` (n,)."""
    mean, std = float(np.mean(values)), float(np.std(values))
    return mean - 3 * std, mean + 3 * std


@house_style
def histograms_figure(stamps: np.ndarray, titles: Sequence[str], bins: int = 60) -> Figure:
    """Histograms of the pixel values, a row a candidate, over their full range.

    Dashed lines enclose mean ± 3σ, the interval that search and template are scaled by.
    Counts are logarithmic, so that the tails show.

    Parameters
    ----------
    stamps
        (n, 3, height, width), channels diff, srch, tmpl, raw.
    titles
        n texts over the rows.
    bins
        Bins of a histogram.
    """
    rows = len(stamps)
    figure = new_figure(PAGE_WIDTH, 0.4 + 1.15 * max(1, rows))
    axes = figure.subplots(max(1, rows), len(SHOWN), squeeze=False)
    for row, stamp in enumerate(stamps):
        for panel, name in zip(axes[row], SHOWN, strict=True):
            _histogram(panel, _finite(stamp[CHANNELS.index(name)]), COLORS[name], bins)
            name_panel(panel, 0.97, 0.86, name, transform=panel.transAxes, ha="right")
        axes[row, 0].set_ylabel("pixels")
        axes[row, 0].set_title(plain(titles[row]), loc="left", fontsize=7, pad=3)
    for panel in axes[-1]:
        panel.set_xlabel("pixel value")
    if not rows:
        empty_note(axes[0, 0], "no stamps")
    return figure


def _histogram(panel: Axes, values: np.ndarray, color: str, bins: int) -> None:
    if not values.size:
        empty_note(panel, "missing")
        panel.set_xticks([])
        panel.set_yticks([])
        return
    panel.hist(values, bins=bins, color=color, histtype="stepfilled", alpha=0.35, lw=0)
    panel.hist(values, bins=bins, color=color, histtype="step", lw=1)
    for limit in three_sigma_interval(values):
        panel.axvline(limit, color=INK, lw=0.8, ls="--")
    panel.set_yscale("log")
    panel.set_ylim(0.7, None)
    panel.tick_params(labelsize=6.5)
    panel.locator_params(axis="x", nbins=5)


@house_style
def raw_violins_figure(stamps: np.ndarray, titles: Sequence[str]) -> Figure:
    """Search (left halves) and template (right halves) within mean ± 3σ, unscaled.

    Each candidate has an axis of its own, because their brightness differs by more than the
    shapes could stand. Lines mark the quartiles.

    Parameters
    ----------
    stamps
        (n, 3, height, width), channels diff, srch, tmpl, raw.
    titles
        n texts over the violins.
    """
    columns = max(1, len(stamps))
    figure = new_figure(PAGE_WIDTH, 2.5)
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for panel, stamp, title in zip(axes, stamps, titles, strict=False):
        for name, side in (("srch", -1), ("tmpl", 1)):
            values = _finite(stamp[CHANNELS.index(name)])
            if values.size:
                low, high = three_sigma_interval(values)
                values = values[(values >= low) & (values <= high)]
            _half(panel, 0.0, values, side, COLORS[name])
        panel.set_xlim(-0.55, 0.55)
        panel.set_xticks([])
        panel.set_title(plain(title), fontsize=7)
        panel.tick_params(labelsize=6.5)
        panel.locator_params(axis="y", nbins=6)
    axes[0].set_ylabel("pixel value within mean ± 3σ")
    if len(stamps):
        _legend(axes[-1])
    else:
        empty_note(axes[0], "no stamps")
    return figure


@house_style
def scaled_violins_figure(scaled: np.ndarray, titles: Sequence[str]) -> Figure:
    """Search (left halves) and template (right halves) after scaling, all pixels.

    The lines at 0 and 1 enclose what lay within mean ± 3σ. The axis is linear about zero
    and logarithmic far from it, so that the tails fit.

    Parameters
    ----------
    scaled
        (n, 2, height, width), search and template as fed to a network.
    titles
        n texts below the violins.
    """
    figure = new_figure(PAGE_WIDTH, 2.7)
    axes = figure.add_subplot()
    axes.set_yscale("asinh", linear_width=_SCALED_CORE)
    for limit in (0, 1):
        axes.axhline(limit, color=INK, lw=0.8, ls="--", zorder=1)
    for index, pair in enumerate(scaled):
        for image, name, side in zip(pair, ("srch", "tmpl"), (-1, 1), strict=True):
            _half(axes, float(index), _finite(image), side, COLORS[name], _SCALED_CORE)
    if len(scaled):
        largest = float(np.nanmax(np.abs(scaled), initial=1.0))
        ticks = [t for t in (-30, -10, -3, -1, 0, 0.5, 1, 3, 10, 30, 100) if abs(t) < largest]
        lowest = float(np.nanmin(scaled, initial=0.0))
        ticks = [t for t in ticks if t >= min(lowest, 0)]
        axes.set_yticks(ticks, [f"{t:g}".replace("-", "−") for t in ticks])
        axes.minorticks_off()
        axes.set_xticks(range(len(scaled)), [plain(t) for t in titles], fontsize=7)
        axes.set_xlim(-0.6, len(scaled) - 0.4)
        _legend(axes)
    else:
        empty_note(axes, "no stamps")
    axes.grid(False, axis="x")
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel("scaled pixel value")
    return figure


def _half(
    axes: Axes,
    centre: float,
    values: np.ndarray,
    side: int,
    color: str,
    linear_width: float | None = None,
) -> None:
    """Half a violin; its outline is the density on the scale of the axis."""
    if values.size < 2 or np.ptp(values) == 0:
        axes.text(centre + side * 0.2, 0.5, "–", transform=axes.get_xaxis_transform(), color=MUTED)
        return
    bent = values if linear_width is None else np.arcsinh(values / linear_width)
    grid = np.linspace(bent.min(), bent.max(), 300)
    density = _density(bent, grid)
    at = grid if linear_width is None else linear_width * np.sinh(grid)
    edge = centre + side * _WIDTH * density / density.max()
    axes.fill_betweenx(at, centre, edge, color=color, alpha=0.35, lw=0, zorder=2)
    axes.plot(edge, at, color=color, lw=1, zorder=3)
    axes.plot([centre, centre], [at[0], at[-1]], color=color, lw=0.5, zorder=3)
    for quantile, width in ((0.25, 0.7), (0.5, 1.3), (0.75, 0.7)):
        value = float(np.quantile(values, quantile))
        reach = float(np.interp(value, at, np.abs(edge - centre)))
        axes.plot([centre, centre + side * reach], [value, value], color=color, lw=width, zorder=3)


def _density(values: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Gaussian kernel density with Silverman's robust bandwidth.

    The standard deviation alone would let a few bright pixels smooth the sky's peak away.
    """
    from scipy.stats import gaussian_kde

    std = float(np.std(values))
    quartiles = np.quantile(values, [0.25, 0.75])
    spread = min(std, float(np.diff(quartiles)[0]) / 1.34) or std
    bandwidth = 0.9 * spread * values.size**-0.2
    return gaussian_kde(values, bw_method=bandwidth / std)(grid)


def _legend(axes: Axes) -> None:
    handles: list[Patch | Line2D] = [
        Patch(facecolor=COLORS[name], alpha=0.5, label=f"{name} ({place})")
        for name, place in (("srch", "left"), ("tmpl", "right"))
    ]
    axes.legend(handles=handles, loc="upper right", fontsize=6.5, handlelength=1.2)


def _finite(image: np.ndarray) -> np.ndarray:
    values = np.asarray(image, dtype=np.float64).ravel()
    return values[np.isfinite(values)]
