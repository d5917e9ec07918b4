"""Where suspicious labels lie among the scores."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from rb.figures.style import (
    BOGUS_COLOR,
    MUTED,
    P_REAL,
    PAGE_WIDTH,
    REAL_COLOR,
    house_style,
    new_figure,
)
from rb.metrics.classification import BOGUS, REAL


@house_style
def suspects_figure(
    labels: np.ndarray,
    p_real: np.ndarray,
    suspects: np.ndarray,
    thresholds: np.ndarray,
    bins: int = 40,
) -> Figure:
    """Out-of-fold p_real of candidates labelled real and bogus, suspects filled.

    Parameters
    ----------
    labels
        (n,) 0 real, 1 bogus.
    p_real
        (n,) out-of-fold probabilities.
    suspects
        (n,) bool.
    thresholds
        (2,) of `rb.labels.confident.ConfidentJoint`: mean p_real of those labelled real, mean
        1 − p_real of those labelled bogus. Beyond the dashed line of the *other* class a
        candidate is confidently of that class.
    """
    edges = np.linspace(0, 1, bins + 1)
    figure = new_figure(PAGE_WIDTH, 2.4)
    panels = figure.subplots(1, 2, sharey=True)
    for panel, label, name, color, line in (
        (panels[0], REAL, "real", REAL_COLOR, 1 - float(thresholds[BOGUS])),
        (panels[1], BOGUS, "bogus", BOGUS_COLOR, float(thresholds[REAL])),
    ):
        own = labels == label
        panel.hist(
            p_real[own],
            edges,
            histtype="step",
            color=color,
            lw=1.4,
            label=f"labelled {name} ({int(own.sum()):,})",
        )
        panel.hist(
            p_real[own & suspects],
            edges,
            color=color,
            alpha=0.55,
            lw=0,
            label=f"suspects ({int((own & suspects).sum()):,})",
        )
        panel.axvline(line, color=MUTED, lw=0.9, ls="--")
        panel.set_yscale("log")
        panel.set_ylim(bottom=0.7)
        panel.set_xlim(0, 1)
        panel.set_xlabel(f"out-of-fold {P_REAL}")
        panel.legend(loc="upper center")
    panels[0].set_ylabel("candidates")
    return figure
