"""What a scan found, as a picture."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from rb.figures.images import grey_scale, show_grey
from rb.figures.style import INK

_SHOWN, _HALF = 12, 20


def finds_figure(search: np.ndarray, template: np.ndarray, x: np.ndarray, y: np.ndarray,
                 words: list[str], title: str) -> Figure:  # fmt: skip
    """The search image with its finds, and the surest of them in search image and template.

    Parameters
    ----------
    search, template : ndarray of shape (height, width)
        Without sky, on one flux scale.
    x, y : ndarray of shape (n,)
        Finds, the surest first, px.
    words : list of str
        What to write under each.
    title : str
        Of the figure.
    """
    shown = min(len(x), _SHOWN)
    figure = Figure(figsize=(13, 6.8), layout="constrained")
    left, right = list(figure.subfigures(1, 2, width_ratios=(1.0, 1.05)))  # type: ignore[arg-type]
    axes = left.subplots()
    # A whole focal plane has more pixels than a picture.
    step = max(1, -(-max(search.shape) // 1600))
    thin = search[::step, ::step]
    scale = grey_scale(thin[None])
    axes.imshow(
        thin, "gray", scale, origin="lower", interpolation="nearest",
        extent=(-0.5, search.shape[1] - 0.5, -0.5, search.shape[0] - 0.5),
    )  # fmt: skip
    axes.scatter(x, y, s=90, facecolors="none", edgecolors="#E4572E", linewidths=1.2)
    for i in range(shown):
        axes.annotate(str(i + 1), (x[i], y[i]), (5, 5), textcoords="offset points", color="#E4572E")
    axes.set(xlabel="x, px", ylabel="y, px")
    left.suptitle(title, color=INK)
    if not shown:
        return figure
    rows = -(-shown // 3)
    panels = np.atleast_2d(right.subplots(max(rows, 2), 6))
    for panel in panels.flat:
        panel.set_axis_off()
    padded = [np.pad(image, _HALF) for image in (search, template)]
    for i in range(shown):
        column, row = (int(np.rint(v)) for v in (x[i], y[i]))
        cuts = [
            image[row : row + 2 * _HALF + 1, column : column + 2 * _HALF + 1] for image in padded
        ]
        one = grey_scale(np.stack(cuts))
        for k, cut in enumerate(cuts):
            panel = panels[i // 3, 2 * (i % 3) + k]
            show_grey(panel, cut, one)
            if k == 0:
                panel.set_title(f"{i + 1}  {words[i]}", fontsize=8, loc="left")
    right.suptitle("search and template of the surest", color=INK)
    return figure
