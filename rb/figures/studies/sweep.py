"""What came of the jobs of a sweep: points, heat map, parallel coordinates, folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rb.figures.style import (
    COLUMN_WIDTH,
    INK,
    MUTED,
    PAGE_WIDTH,
    RUN_COLORS,
    VALIDATION_COLOR,
    house_style,
    new_figure,
    short,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure

_FEW = 8  # numbers on an axis up to which each has its own place and label
_FAN = 0.07  # how far lines through the same value are spread, of the height of an axis


@house_style
def sweep_figure(
    table: pd.DataFrame,
    axes: Sequence[str],
    value: str = "best val/acc",
    label: str = "best validation accuracy",
) -> Figure:
    """The result of each job against the settings that were swept.

    One setting gives points, two a heat map (points in the plane where a search has tried few
    of the combinations), more give parallel coordinates. Settings that all jobs share are left
    out. Darker is higher; the colours run from yellow to blue and keep their order in grey and
    under the common forms of colour blindness.

    Parameters
    ----------
    table
        A row for each job, with a column for each of `axes` (numbers, texts, None) and `value`.
    value, label
        Column of the result, and what it is called.

    Raises
    ------
    ValueError
        If there is no job or no setting.
    """
    if table.empty or not axes:
        raise ValueError("a picture of a sweep needs at least one job and one swept key")
    differing = [axis for axis in axes if table[axis].astype(str).nunique() > 1] or list(axes[:1])
    if len(differing) == 1:
        return _points(table, differing[0], value, label)
    if len(differing) == 2:
        return _plane(table, differing, value, label)
    return _parallel(table, differing, value, label)


@house_style
def folds_figure(groups: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Accuracy of each fold, with mean and standard deviation of the test accuracies.

    Parameters
    ----------
    groups
        By title: sequences ``fold``, ``validation`` and ``test`` of equal length, None where a
        fold was not scored; ``spread``, mean and standard deviation of the test accuracies, None
        where fewer than two are known.
    """
    columns = min(3, len(groups))
    lines = -(-len(groups) // columns)
    figure = new_figure(min(PAGE_WIDTH, COLUMN_WIDTH * columns), 2.6 * lines)
    panels = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for panel in panels.flat[len(groups) :]:
        panel.set_visible(False)
    for panel, (title, folds) in zip(panels.flat, groups.items(), strict=False):
        x = np.asarray(folds["fold"], dtype=float)
        test = np.array([np.nan if v is None else v for v in folds["test"]], dtype=float)
        if folds["spread"] is not None:
            mean, sd = folds["spread"]
            panel.axhspan(mean - sd, mean + sd, color=RUN_COLORS[0], alpha=0.13, lw=0)
            panel.axhline(mean, color=RUN_COLORS[0], lw=0.9)
            title = f"{short(title)}: test {mean:.4f} ± {sd:.4f}"
        panel.plot(
            x, folds["validation"], "s", mfc="none", color=VALIDATION_COLOR, ms=5,
            label="validation",
        )  # fmt: skip
        panel.plot(x, test, "o", color=RUN_COLORS[0], ms=5, label="test, held out")
        panel.set_title(title)
        panel.set_xlabel("fold")
        panel.set_xticks(x)
        panel.margins(0.12, 0.25)
    for panel in panels[:, 0]:
        panel.set_ylabel("accuracy")
    panels[0, 0].legend(loc="best", ncols=2)
    return figure


def _points(table: pd.DataFrame, axis: str, value: str, label: str) -> Figure:
    result = table[value].to_numpy(dtype=float)
    if _numeric(table[axis]):
        figure = new_figure(COLUMN_WIDTH, 2.5)
        panel = figure.subplots()
        x = table[axis].to_numpy(dtype=float)
        panel.plot(x, result, "o", color=RUN_COLORS[0], ms=5)
        if _log(x):
            panel.set_xscale("log")
        if len(np.unique(x)) <= _FEW:
            panel.set_xticks(np.unique(x), [_said(v) for v in np.unique(x)])
            panel.minorticks_off()
        panel.set_xlabel(_name(axis))
        panel.set_ylabel(label)
    else:
        names = list(dict.fromkeys(table[axis].astype(str)))
        figure = new_figure(COLUMN_WIDTH, 1.0 + 0.24 * len(names))
        panel = figure.subplots()
        y = [names.index(v) for v in table[axis].astype(str)]
        panel.plot(result, y, "o", color=RUN_COLORS[0], ms=5)
        panel.set_yticks(range(len(names)), [short(n, 24) for n in names])
        panel.set_ylim(len(names) - 0.5, -0.5)
        panel.set_ylabel(_name(axis))
        panel.set_xlabel(label)
    _ring_best(panel, *panel.lines[0].get_data(), result)
    panel.margins(0.1)
    return figure


def _ring_best(panel: Axes, x: Any, y: Any, result: np.ndarray) -> None:
    best = int(np.argmax(result))
    panel.plot(
        [x[best]],
        [y[best]],
        "o",
        mfc="none",
        mec=INK,
        ms=9,
        mew=1,
        label=f"best: {result[best]:.4f}",
    )
    panel.legend(loc="best")


def _plane(table: pd.DataFrame, axes: Sequence[str], value: str, label: str) -> Figure:
    # The setting with more values lies along the longer side of the page.
    x, y = sorted(axes, key=lambda a: -table[a].astype(str).nunique())
    columns, lines = _values(table[x]), _values(table[y])
    drawn = any(_numeric(table[a]) and table[a].nunique() == len(table) for a in axes)
    if drawn or len(columns) * len(lines) > 4 * len(table):
        return _scatter(table, x, y, value, label)
    grid = np.full((len(lines), len(columns)), np.nan)
    for i, one in enumerate(lines):
        for j, other in enumerate(columns):
            here = table[(table[y].map(_said) == one) & (table[x].map(_said) == other)][value]
            if len(here):
                grid[i, j] = here.mean()
    width = min(PAGE_WIDTH, max(COLUMN_WIDTH, 1.6 + 0.48 * len(columns)))
    figure = new_figure(width, max(2.2, 1.1 + 0.36 * len(lines)))
    panel = figure.subplots()
    colours, norm = _colours(grid)
    image = panel.imshow(grid, cmap=colours, norm=norm, aspect="auto")
    for i in range(len(lines)):
        for j in range(len(columns)):
            if np.isnan(grid[i, j]):
                panel.text(j, i, "–", ha="center", va="center", color=MUTED)
                continue
            dark = np.dot(colours(norm(grid[i, j]))[:3], [0.3, 0.6, 0.1]) < 0.5
            best = grid[i, j] == np.nanmax(grid)
            panel.text(
                j, i, f"{grid[i, j]:.3f}", ha="center", va="center", fontsize=7,
                color="white" if dark else INK, fontweight="bold" if best else "normal",
            )  # fmt: skip
    turned = max(len(c) for c in columns) * len(columns) > 8 * width
    panel.set_xticks(
        range(len(columns)), [short(c, 20) for c in columns], rotation=35 if turned else 0,
        ha="right" if turned else "center",
    )  # fmt: skip
    panel.set_yticks(range(len(lines)), [short(v, 20) for v in lines])
    panel.set_xlabel(_name(x))
    panel.set_ylabel(_name(y))
    panel.grid(False)
    panel.tick_params(length=0)
    figure.colorbar(image, ax=panel, label=label, fraction=0.08, pad=0.02)
    return figure


def _scatter(table: pd.DataFrame, x: str, y: str, value: str, label: str) -> Figure:
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(COLUMN_WIDTH, 2.8)
    panel = figure.subplots()
    result = table[value].to_numpy(dtype=float)
    colours, norm = _colours(result)
    places = []
    for axis, one in ((x, "x"), (y, "y")):
        if _numeric(table[axis]):
            places.append(table[axis].to_numpy(dtype=float))
            if _log(places[-1]):
                panel.set(**{f"{one}scale": "log"})
            else:
                (panel.xaxis if one == "x" else panel.yaxis).set_major_locator(MaxNLocator(4))
        else:
            names = _values(table[axis])
            places.append(np.array([names.index(_said(v)) for v in table[axis]], dtype=float))
            panel.set(**{f"{one}ticks": range(len(names)), f"{one}ticklabels": names})
    across, up = places
    points = panel.scatter(across, up, c=result, cmap=colours, norm=norm, s=34, ec=INK, lw=0.5)
    _ring_best(panel, across, up, result)
    panel.set_xlabel(_name(x))
    panel.set_ylabel(_name(y))
    figure.colorbar(points, ax=panel, label=label, fraction=0.08, pad=0.02)
    return figure


def _parallel(table: pd.DataFrame, axes: Sequence[str], value: str, label: str) -> Figure:
    result = table[value].to_numpy(dtype=float)
    order = np.argsort(result)  # the best line is drawn last, on top
    fan = np.empty(len(result))
    fan[order] = np.linspace(-_FAN, _FAN, len(result)) if len(result) > 1 else 0.0
    colours, norm = _colours(result)
    figure = new_figure(min(PAGE_WIDTH, 1.0 + 0.95 * len(axes)), 3.0)
    panel = figure.subplots()
    heights, ticks = zip(*(_places(table[axis]) for axis in axes), strict=True)
    spread = [fan if spaced else 0.0 * fan for _, _, spaced in ticks]
    y = np.array([h + s for h, s in zip(heights, spread, strict=True)])
    y = np.vstack([y, _unit(result)])
    x = np.arange(len(axes) + 1)
    best = order[-1]
    for job in order:
        panel.plot(
            x, y[:, job], color=colours(norm(result[job])), lw=2.6 if job == best else 1.3,
            solid_joinstyle="round", zorder=3 + (job == best),
        )  # fmt: skip
    for place, (marks, names, _) in enumerate(ticks):
        panel.axvline(place, color=MUTED, lw=0.8, zorder=5)
        for mark, name in zip(marks, names, strict=True):
            panel.text(
                place - 0.04, mark, short(name, 14), ha="right", va="center", fontsize=7, zorder=6,
                bbox={"fc": "white", "ec": "none", "alpha": 0.75, "pad": 0.8},
            )  # fmt: skip
    panel.axvline(x[-1], color=MUTED, lw=0.8, zorder=5)
    low, high = result.min(), result.max()
    for share in np.linspace(0, 1, 5) if high > low else [0.5]:
        shown = low + share * (high - low)
        panel.text(x[-1] + 0.05, share, f"{shown:.3f}", ha="left", va="center", fontsize=7)
    panel.set_xticks(x, [*(_wrapped(_name(a)) for a in axes), _wrapped(label)])
    panel.tick_params(length=0)
    panel.set_yticks([])
    panel.set_xlim(-0.45, x[-1] + 0.45)
    panel.set_ylim(-0.12, 1.12)
    panel.grid(False)
    for side in panel.spines.values():
        side.set_visible(False)
    return figure


def _places(column: pd.Series) -> tuple[np.ndarray, tuple[np.ndarray, list[str], bool]]:
    """Height of each value on its axis, and the marks: heights, names, whether evenly spaced."""
    names = _values(column)
    if not _numeric(column) or len(names) <= _FEW:
        marks = np.linspace(0, 1, len(names)) if len(names) > 1 else np.array([0.5])
        return np.array([marks[names.index(_said(v))] for v in column]), (marks, names, True)
    numbers = column.to_numpy(dtype=float)
    scale = np.log10 if _log(numbers) else np.asarray
    marks = np.linspace(0, 1, 4)
    low, high = scale(numbers.min()), scale(numbers.max())
    shown = low + marks * (high - low)
    said = [f"{v:.3g}" for v in (10**shown if _log(numbers) else shown)]
    return _unit(scale(numbers)), (marks, said, False)


def _unit(numbers: np.ndarray) -> np.ndarray:
    spread = np.ptp(numbers)
    return (numbers - numbers.min()) / spread if spread > 0 else np.full(len(numbers), 0.5)


def _colours(values: np.ndarray) -> tuple[Colormap, Normalize]:
    """Yellow to blue, the palest end left out so that lines show on white."""
    import matplotlib
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    whole = matplotlib.colormaps["cividis_r"]
    cut = LinearSegmentedColormap.from_list("cividis_r_cut", whole(np.linspace(0.08, 1, 256)))
    return cut.with_extremes(bad="#EEEEEE"), Normalize(
        np.nanmin(values), max(np.nanmax(values), np.nanmin(values) + 1e-9)
    )


def _numeric(column: pd.Series) -> bool:
    return all(isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in column)


def _log(numbers: np.ndarray) -> bool:
    return bool(numbers.min() > 0 and numbers.max() / numbers.min() >= 30)


def _values(column: pd.Series) -> list[str]:
    """Distinct values as text, numbers in their order, others in that of the jobs."""
    values = list(dict.fromkeys(column))
    return [_said(v) for v in (sorted(values) if _numeric(column) else values)]


def _said(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float | np.floating) else str(value)


def _name(axis: str) -> str:
    """The last word of a key, with the one before where it says nothing alone."""
    parts = axis.split(".")
    tail = parts[-1] if len(parts[-1]) > 3 or len(parts) == 1 else ".".join(parts[-2:])
    return tail.replace("_", " ")


def _wrapped(name: str) -> str:
    return name.replace(" ", "\n", 1) if len(name) > 10 else name
