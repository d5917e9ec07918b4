"""How good a forest is, on candidates that it was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rb.errors import UserError
from rb.evaluation.importance import Permutation
from rb.features.columns import ALL_38
from rb.features.table import FeatureTable
from rb.metrics import Estimate, confusion, evaluate_scores
from rb.metrics.classification import RATES
from rb.models.forest.learners import AutoscanForest

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
"""Thresholds on p_real at which the operating points are quoted."""

Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class CrossValidation:
    """Every labelled row scored by a forest that was trained without it.

    Parameters
    ----------
    learner, folds, seed
        How it was done.
    table
        The rows, labelled ones only.
    p_real
        (N,) out-of-fold scores.
    fold
        (N,) the fold in which a row was held out.
    importance
        Permutation importances, see `rb.evaluation.importance.Permutation.table`;
        None where they were not asked for.
    """

    learner: str
    folds: int
    seed: int
    table: FeatureTable
    p_real: np.ndarray
    fold: np.ndarray
    importance: pd.DataFrame | None = None

    def metrics(self, threshold: float = 0.5) -> dict[str, Estimate]:
        """All metrics of the pooled out-of-fold scores, with 95 % intervals.

        Rates have Wilson intervals, the AUC DeLong's (`rb.evaluation`). They cover the
        scatter of the candidates, not that of the training.
        """
        return evaluate_scores(self.table.labels, self.p_real, threshold)

    def per_fold(self, threshold: float = 0.5) -> pd.DataFrame:
        """Accuracy, TPR, TNR and AUC of each fold by itself."""
        rows = []
        for k in range(self.folds):
            held = self.fold == k
            found = evaluate_scores(self.table.labels[held], self.p_real[held], threshold)
            row = {name: found[name].value for name in ("accuracy", "tpr", "tnr", "auc")}
            rows.append({"fold": k, "n": int(held.sum()), **row})
        return pd.DataFrame(rows)


def crossvalidate(
    table: FeatureTable,
    learner: str = "forest",
    folds: int = 10,
    seed: int = 0,
    features: Sequence[str] = ALL_38,
    jobs: int | None = None,
    progress: Progress | None = None,
    repeats: int = 0,
) -> CrossValidation:
    """Cross-validate a learner: stratified folds, shuffled by seed.

    Parameters
    ----------
    table
        Candidates; those without a label are left out.
    learner, features, seed, jobs
        As for `rb.models.forest.learners.AutoscanForest`; `seed` also shuffles the folds.
    folds
        Number of folds, at least 2.
    progress
        Called with (folds done, folds) after each fold.
    repeats
        Shuffles of each feature in each fold, for their importances; 0 for none.

    Returns
    -------
    CrossValidation

    Raises
    ------
    UserError
        Where a class has fewer candidates than there are folds.
    """
    table = table.labelled()
    score = np.empty(len(table))
    fold = np.empty(len(table), dtype=np.int64)
    frame = table.features[list(features)]
    permutation = Permutation(frame, repeats, seed) if repeats else None
    for k, (train, held) in enumerate(_folds(table, folds, seed)):
        model = AutoscanForest(learner, features, seed, jobs).fit(table.take(train))
        rows = table.take(held)
        score[held] = model.predict(rows)
        fold[held] = k
        if permutation is not None:
            permutation.add(model.predict, rows.features[list(features)], rows.labels)
        if progress is not None:
            progress(k + 1, folds)
    importance = permutation.table() if permutation else None
    return CrossValidation(learner, folds, seed, table, score, fold, importance)


def operating_points(
    labels: np.ndarray,
    p_real: np.ndarray,
    thresholds: Sequence[float] = THRESHOLDS,
    rates: Sequence[float] = RATES,
) -> pd.DataFrame:
    """Missed detections against false positives, as Goldstein et al. 2015 quote them.

    Parameters
    ----------
    labels
        (N,) 0 real, 1 bogus, -1 unknown (left out).
    p_real
        (N,) probability of being real.
    thresholds
        Thresholds to quote.
    rates
        Missed-detection and false-positive rates to quote: the strictest threshold whose MDR,
        and the most lenient whose FPR, is at most that.

    Returns
    -------
    pandas.DataFrame
        Columns `chosen_by` ("threshold 0.5", "MDR <= 0.01", "FPR <= 0.01"), `threshold`, `mdr`
        (share of real candidates below the threshold), `fpr` (share of bogus at or above it),
        `accuracy`, each rate with its Wilson limits `_low`, `_high`.
    """
    labels, p_real = np.asarray(labels), np.asarray(p_real, dtype=np.float64)
    cuts = [(f"threshold {t:g}", float(t)) for t in thresholds]
    real, bogus = np.sort(p_real[labels == 0]), np.sort(p_real[labels == 1])
    if not len(real) or not len(bogus):
        raise UserError("operating points need real and bogus candidates")
    for rate in rates:
        # As many real ones as allowed lie below the threshold, so the next one is the threshold.
        missed = min(int(np.floor(rate * len(real) + 1e-9)), len(real) - 1)
        cuts.append((f"MDR <= {rate:g}", float(real[missed])))
    for rate in rates:
        passed = int(np.floor(rate * len(bogus) + 1e-9))
        worst = bogus[-1 - passed] if passed < len(bogus) else -np.inf
        cuts.append((f"FPR <= {rate:g}", float(np.nextafter(worst, np.inf))))
    rows = []
    for name, cut in cuts:
        found = confusion(labels, p_real, cut).rates()
        tpr, tnr, accuracy = found["tpr"], found["tnr"], found["accuracy"]
        row: dict[str, float | str] = {"chosen_by": name, "threshold": cut}
        for key, e in (
            ("mdr", Estimate(1 - tpr.value, 1 - tpr.high, 1 - tpr.low)),
            ("fpr", Estimate(1 - tnr.value, 1 - tnr.high, 1 - tnr.low)),
            ("accuracy", accuracy),
        ):
            row |= {key: e.value, f"{key}_low": e.low, f"{key}_high": e.high}
        rows.append(row)
    return pd.DataFrame(rows)


def _folds(table: FeatureTable, folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import StratifiedKFold

    smallest = min(int((table.labels == label).sum()) for label in (0, 1))
    if folds < 2 or smallest < folds:
        raise UserError(
            f"{table.source}: {folds} folds need at least 2 and at most {smallest}, the size of "
            "the smaller class"
        )
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros(len(table)), table.labels))
