"""ROC curve and confusion matrix of a subset, kept with the run they belong to."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rb.evaluation.scored_run import ScoredRun
from rb.metrics.classification import confusion, roc
from rb.metrics.numbers import decimal, percent
from rb.tracking import TrackedRun

TEST_TAGS = {
    "test accuracy": ("accuracy", percent),
    "test AUC": ("auc", decimal),
    "test MDR at FPR 0.05": ("mdr_at_fpr_0.05", percent),
}
"""Tags of a tested run: which metric they tell, with its limits, and how."""


def log_classification(
    run: TrackedRun,
    subset: str,
    name: str,
    labels: np.ndarray,
    p_real: np.ndarray,
    threshold: float,
) -> None:
    """Draw the ROC curve and the confusion matrix, and keep their numbers.

    Parameters
    ----------
    run : TrackedRun
        Gets `figures/SUBSET_roc`, `figures/SUBSET_confusion`, `SUBSET_roc.csv` and
        `SUBSET_confusion.json`.
    subset : str
        `val` or `test`.
    name : str
        Of the model, for the legends.
    labels, p_real : ndarray
        Label (0 real, 1 bogus) and probability of being real, one of each a candidate.
    threshold : float
        Real from this probability on.
    """
    from rb.figures.classification.confusion import confusion_figure
    from rb.figures.classification.roc import roc_figure

    curve, matrix = roc(labels, p_real, threshold), confusion(labels, p_real, threshold)
    run.log_figure(roc_figure({name: curve}), f"figures/{subset}_roc")
    run.log_figure(confusion_figure({name: matrix}), f"figures/{subset}_confusion")
    run.log_json(
        {"layout": "[[TP, FN], [FP, TN]]", "matrix": matrix.array.tolist()},
        f"{subset}_confusion.json",
    )
    table = pd.DataFrame({"fpr": curve.fpr, "tpr": curve.tpr, "threshold": curve.threshold})
    run.log_text(table.to_csv(index=False), f"{subset}_roc.csv")


def log_to_run(run: TrackedRun, one: ScoredRun, confidence: float) -> None:
    """Metrics of the held-out test set go to the run that was tested, so the UI compares them.

    Those that are looked at first are also tags: a column of MLflow's page has no room for the
    limits of a metric.
    """
    result = one.result
    metrics: dict[str, float] = {}
    found = result.metrics(confidence)
    run.tag({tag: form(found[key]) for tag, (key, form) in TEST_TAGS.items() if key in found})
    for key, estimate in found.items():
        metrics |= {
            f"test/{key}": estimate.value,
            f"test_low/{key}": estimate.low,
            f"test_high/{key}": estimate.high,
        }
    for key in ("ms_per_stamp", "ms_per_stamp_mad"):
        if key in result.cost:
            metrics[f"cost/{key}"] = result.cost_of(key)
    run.log_metrics(metrics)
    log_classification(run, "test", result.name, result.labels, result.p_real, result.threshold)
