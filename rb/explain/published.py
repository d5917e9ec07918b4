"""What the authors published about the panels that decide, to compare with.

Two sources. Figure 10 and section 5.1 of the paper (Acero-Cuellar et al., arXiv 2203.07390)
give percentages of the 20,000 DES test candidates. The authors' public notebooks give counts for
the same candidates, with the networks whose checkpoints are public; there a stamp counts for the
panel with the largest share.
"""

from __future__ import annotations

PAPER_PERCENT: dict[str, dict[str, dict[str, int]]] = {
    "dia": {
        "TP": {"diff": 80, "srch": 18, "tmpl": 1},
        "FN": {"diff": 79, "srch": 17, "tmpl": 4},
        "FP": {"diff": 88, "srch": 10, "tmpl": 2},
        "TN": {"diff": 66, "srch": 13, "tmpl": 21},
    },
    "nodia": {
        "TP": {"srch": 34, "tmpl": 66},
        "FN": {"srch": 29, "tmpl": 71},
        "FP": {"srch": 39, "tmpl": 61},
        "TN": {"srch": 28, "tmpl": 72},
    },
}
"""Figure 10: by inputs, quadrant and panel. Of noDIA the template's are printed; the rest is
what is missing to 100."""

CHECKPOINT_COUNTS: dict[str, dict[str, dict[str, int]]] = {
    "dia": {
        "TP": {"diff": 8630, "srch": 847, "tmpl": 87},
        "FN": {"diff": 444, "srch": 35, "tmpl": 35},
        "FP": {"diff": 291, "srch": 9, "tmpl": 6},
        "TN": {"diff": 5844, "srch": 1200, "tmpl": 2572},
    },
    "nodia": {
        "TP": {"srch": 2897, "tmpl": 6266},
        "FN": {"srch": 223, "tmpl": 692},
        "FP": {"srch": 264, "tmpl": 511},
        "TN": {"srch": 2197, "tmpl": 6950},
    },
}
"""The authors' notebooks, public checkpoints: by inputs, quadrant and panel."""

DES_SHARES: dict[int, tuple[float, float, float]] = {
    6960264: (0.201154, 0.259535, 0.539311),
    11872501: (0.379531, 0.316815, 0.303654),
    11873901: (0.585501, 0.237509, 0.176991),
}
"""Shares of diff, srch, tmpl printed in the notebooks for three DES candidates of Figure 8, by
candidate; by a DIA network trained later than the public checkpoint."""


def checkpoint_percent(inputs: str, quadrant: str, panel: str) -> float:
    """Percentage of a quadrant's stamps that `panel` wins for the public checkpoint."""
    counts = CHECKPOINT_COUNTS[inputs][quadrant]
    return 100 * counts[panel] / sum(counts.values())
