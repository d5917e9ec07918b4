"""What the paper reports: the numbers that ours are set beside.

Acero-Cuellar et al., arXiv:2203.07390; DES Y1 autoscan candidates, 20,000 for the test. Each
constant names its table, figure or section. Numbers of figure panels that decide (Figure 10) are
in `rb.explain.published`.
"""

from __future__ import annotations

from typing import NamedTuple

PAPER = "Acero-Cuellar et al. (arXiv:2203.07390)"
N_TEST = 20_000
"""Candidates behind all test accuracies (section 4.2): 10,078 real, 9,922 bogus."""

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
"""By inputs. CPU-hours are node hours by NERSC's formula; epochs are those of Figure 7."""

FOLDS = 6
FOLDS_MEAN, FOLDS_STD = 0.911, 0.005
"""Section 4.3: test accuracy of noDIA in six-fold cross-validation."""

STACKING_TNR_LOSS = 0.01
"""Appendix A.2, Figure 14: by how much the depth-stacked DIA network's TN rate is lower."""

PREMADE = {"vgg16": 0.9603, "resnet50v2": 0.9416}
"""Section 4.3: test accuracy on 51x51x3."""
PREMADE_OVERFITS_AFTER = {"vgg16": 20, "resnet50v2": 0}
"""Section 4.3: epoch after which the validation loss rises; ResNet overfits all along."""

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
