"""What the paper reports: the numbers that ours are set beside.

Acero-Cuellar et al., arXiv:2203.07390; DES Y1 autoscan candidates, 20,000 for the test. Each
constant names its table, figure or section.
"""

from __future__ import annotations

from typing import NamedTuple

PAPER = "Acero-Cuellar et al. (arXiv:2203.07390)"
STAMP_SIDE = 51
"""Side of a stamp, px (section 2)."""
N_TEST = {"real": 10_078, "bogus": 9_922}
"""Candidates behind all test accuracies (section 4.2), 20,000 together."""
N_TRAIN = 80_000
"""Candidates that the two networks were trained on (section 4.2)."""
NETWORKS = {"dia": "DIA", "nodia": "noDIA"}
"""What the paper calls its networks, by their inputs."""

FIGURE_1_IDS = (6960264, 11872501, 11873901, 6962837)
"""DES candidates A, B (bogus), C, D (real) of Figures 1 to 3; from the authors' notebooks."""


class NetworkValues(NamedTuple):
    """One of the paper's two networks: Table 1, Figures 5 and 6, section 5."""

    train: float
    test: float
    test_error: float
    val: float
    auc: float
    tp: int
    fn: int
    fp: int
    tn: int
    cpu_hours: float
    ms: float
    ms_error: float
    epochs: int


# Figure 5 prints 9,571 and 9,163 true positives and the other fields as percentages; the counts
# of bogus candidates follow from 97 and 92 % of 9,922, to the per cent.
TABLE_1 = {
    "dia": NetworkValues(
        0.965, 0.961, 0.004, 0.960, 0.992, 9571, 507, 298, 9624, 35.0, 1.00, 0.03, 350
    ),
    "nodia": NetworkValues(
        0.920, 0.911, 0.005, 0.914, 0.973, 9163, 915, 794, 9128, 56.0, 0.30, 0.01, 650
    ),
}
"""By inputs. CPU-hours are node hours by NERSC's formula ("CPU node hours" in Table 1; the text
beside it says CPU hours); ms is the clock time of a prediction per stamp; epochs are those of
Figure 7."""

TABLE_2 = {
    "Optimizer": "Stochastic Gradient Descent",
    "Learning rate": "0.01",
    "Batch size": "200",
    "Loss function": "Sparse Categorical Crossentropy",
    "Metric": "Accuracy",
    "Save best model": "Max validation accuracy",
    "Stop training": "After 100 epochs with no improvements in validation loss",
}
"""How the networks were trained."""
BATCH_SIZE = int(TABLE_2["Batch size"])

IMAGING_HOURS = 15.5
"""CPU hours that DES spends on difference imaging of one 2.2 sq. deg. exposure (section 1)."""
PSF_MATCHING_SHARE = 2 / 3
"""Share of it that is PSF matching."""

FOLDS_MEAN, FOLDS_STD = 0.911, 0.005
"""Section 4.3: test accuracy of noDIA in six-fold cross-validation."""

STACKING_TNR_LOSS = 0.01
"""Appendix A.2, Figure 14: by how much the depth-stacked DIA network's TN rate is lower."""

BACKBONES = {"vgg16": 0.9603, "resnet50v2": 0.9416}
"""Section 4.3: test accuracy on 51x51x3."""
BACKBONE_NAMES = {"vgg16": "VGG16", "resnet50v2": "ResNet50-V2"}

LONGER_EPOCHS = 650
"""Section 5: training noDIA beyond so many epochs brought nothing."""

RICHER = {
    "6": "three dense layers (24, 16, 8) after the one of 32",
    "7": "five dense layers (1200 … 80) before and three after the one of 32",
    "8": "five convolutions (1, 8, 16, 24, 32 filters)",
    "9": "five convolutions and three more dense layers",
}
"""Appendix B.1: by table, what was added to noDIA; none "led to improvements"."""


class GridRow(NamedTuple):
    """A row of Table 10: kernels in px, batch size, test accuracy."""

    kernel_1: int
    kernel_2: int
    kernel_3: int
    batch_size: int
    accuracy: float


TABLE_10 = (
    GridRow(5, 3, 3, 100, 0.8980),
    GridRow(5, 3, 3, 200, 0.8892),
    GridRow(7, 3, 3, 100, 0.8968),
    GridRow(7, 5, 3, 100, 0.9000),
    GridRow(7, 5, 3, 200, 0.8958),
    GridRow(7, 5, 5, 100, 0.9032),
    GridRow(7, 5, 5, 200, 0.9004),
    GridRow(10, 3, 3, 100, 0.8960),
    GridRow(10, 3, 3, 200, 0.8853),
    GridRow(10, 5, 3, 100, 0.9054),
    GridRow(10, 5, 3, 200, 0.9008),
    GridRow(10, 5, 5, 100, 0.9038),
    GridRow(10, 5, 5, 200, 0.9012),
    GridRow(15, 3, 3, 100, 0.8953),
    GridRow(15, 3, 3, 200, 0.8784),
    GridRow(15, 5, 3, 100, 0.8848),
    GridRow(15, 5, 3, 200, 0.9023),
    GridRow(15, 5, 5, 100, 0.8937),
    GridRow(15, 5, 5, 200, 0.8854),
)
"""Appendix B.2, Table 10: noDIA, varied kernels of its three convolutions and batch size."""

WINNER_PERCENT: dict[str, dict[str, dict[str, float]]] = {
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
"""Figure 10: percentages of the test candidates whose map has its largest share in a panel, by
inputs, quadrant and panel. Of noDIA the template's are printed; the rest is what is missing to
100."""

WINNER_COUNTS: dict[str, dict[str, dict[str, int]]] = {
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
"""The same from the authors' notebooks, for the networks whose checkpoints are public: numbers of
candidates."""

DES_SHARES: dict[int, tuple[float, float, float]] = {
    6960264: (0.201154, 0.259535, 0.539311),
    11872501: (0.379531, 0.316815, 0.303654),
    11873901: (0.585501, 0.237509, 0.176991),
}
"""Shares of diff, srch, tmpl printed in the notebooks for three DES candidates of Figure 8, by
candidate; by a DIA network trained later than the public checkpoint."""


def winner_percents(inputs: str) -> dict[str, dict[str, dict[str, float]]]:
    """What was published of the panels that decide, in percent of a quadrant's stamps.

    By column title, quadrant and panel, for ``dia`` or ``nodia``.
    """
    counts = WINNER_COUNTS[inputs]
    checkpoint = {
        quadrant: {panel: round(100 * n / sum(of.values()), 1) for panel, n in of.items()}
        for quadrant, of in counts.items()
    }
    return {"paper, Fig. 10 %": WINNER_PERCENT[inputs], "public checkpoint %": checkpoint}
