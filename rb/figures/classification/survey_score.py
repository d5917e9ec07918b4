"""Our scores against those that a survey published for the same candidates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from rb.figures.style import (
    COLUMN_WIDTH,
    MUTED,
    PAGE_WIDTH,
    empty_note,
    house_style,
    new_figure,
    run_color,
    short,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MANY = 2000  # points beyond which density is shown instead


@house_style
def survey_score_figure(survey: np.ndarray, p_real: Mapping[str, np.ndarray], name: str) -> Figure:
    """A panel a run: p_real against the survey's score, both from 0 (bogus) to 1 (real).

    Parameters
    ----------
    survey
        The survey's score (n,); NaN where it gave none.
    p_real
        By run name: our score of the same candidates (n,).
    name
        What the survey calls its score (``drb``).
    """
    columns = max(1, len(p_real))
    figure = new_figure(min(PAGE_WIDTH, 0.9 * COLUMN_WIDTH * columns), 3.1)
    panels = figure.subplots(1, columns, squeeze=False, sharey=True)[0]
    for number, (panel, (run, scores)) in enumerate(zip(panels, p_real.items(), strict=False)):
        known = np.isfinite(survey) & np.isfinite(scores)
        panel.plot([0, 1], [0, 1], color=MUTED, lw=0.7, ls=(0, (2, 3)))
        if known.sum() > _MANY:
            panel.hexbin(
                survey[known], scores[known], gridsize=40, bins="log", cmap="cividis_r",
                extent=(0, 1, 0, 1), linewidths=0,
            )  # fmt: skip
        else:
            panel.plot(
                survey[known], scores[known], "o", ms=3, alpha=0.6, mew=0,
                color=run_color(number), clip_on=False,
            )  # fmt: skip
        if not known.any():
            empty_note(panel, f"no candidate has {name}")
        panel.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel=f"{name} of the survey")
        panel.set_title(short(run, 24))
    panels[0].set_ylabel(r"$p_\mathrm{real}$")
    return figure
