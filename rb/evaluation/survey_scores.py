"""Our scores beside those that a survey published with its alerts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rb.evaluation.paired import same_candidates
from rb.evaluation.results import RunResult, unique_names

SURVEY_SCORES = ("drb", "rb", "reliability")
"""Catalogue columns that hold a real/bogus score from 0 to 1, by the survey's own classifier."""

_AGREED = (0.1, 0.9)  # what both call surely bogus or surely real


def survey_scores(catalogue: pd.DataFrame, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The scores that the catalogue has for `rows`, by column name, float64 with NaN."""
    return {
        column: catalogue[column].to_numpy(dtype=float, na_value=np.nan)[rows]
        for column in SURVEY_SCORES
        if column in catalogue and catalogue[column].notna().any()
    }


def agreement(results: Sequence[RunResult], survey: np.ndarray, name: str) -> pd.DataFrame:
    """How well each run agrees with a survey's score.

    Parameters
    ----------
    results
        The runs. The first scored the candidates of `survey`, in that order; runs that scored
        others are left out.
    survey
        The survey's score (n,), NaN where there is none.
    name
        Its name, for the columns.

    Returns
    -------
    DataFrame
        A row a run: number of candidates with a score, Spearman's rank correlation (NaN below
        three candidates or where a score is constant), and the median p_real of candidates
        that the survey is sure of on either side.
    """
    from scipy.stats import spearmanr

    rows = []
    for run, result in alike(results).items():
        known = np.isfinite(survey)
        ours, theirs = result.p_real[known], survey[known]
        varied = len(theirs) > 2 and np.ptp(theirs) > 0 and np.ptp(ours) > 0
        low, high = theirs < _AGREED[0], theirs >= _AGREED[1]
        rows.append(
            {
                "run": run,
                "candidates": int(known.sum()),
                "Spearman": float(spearmanr(ours, theirs).statistic) if varied else np.nan,
                f"median p_real, {name} ≥ {_AGREED[1]}": _median(ours[high]),
                f"median p_real, {name} < {_AGREED[0]}": _median(ours[low]),
            }
        )
    return pd.DataFrame(rows)


def alike(results: Sequence[RunResult]) -> dict[str, RunResult]:
    """The runs that scored the candidates of the first one, by name."""
    alike = [r for r in results if same_candidates(r, results[0])]
    return dict(zip(unique_names(alike), alike, strict=True))


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else float("nan")
