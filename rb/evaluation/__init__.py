"""Metrics with intervals, thresholds, comparison of runs, cost accounting."""

from rb.evaluation.intervals import Estimate
from rb.evaluation.metrics import ConfusionMatrix, Roc, confusion, evaluate_scores, roc
from rb.evaluation.results import RunResult

__all__ = [
    "ConfusionMatrix",
    "Estimate",
    "Roc",
    "RunResult",
    "confusion",
    "evaluate_scores",
    "roc",
]
