"""Pure functions of arrays: rates, ROC, AUC, calibration, each with its interval."""

from rb.metrics.classification import ConfusionMatrix, Roc, confusion, evaluate_scores, roc
from rb.metrics.intervals import Estimate

__all__ = ["ConfusionMatrix", "Estimate", "Roc", "confusion", "evaluate_scores", "roc"]
