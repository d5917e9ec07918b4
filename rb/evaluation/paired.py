"""Two classifiers on the same stamps: which is better, by how much, and whether it is luck."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rb.errors import UserError
from rb.evaluation.results import RunResult
from rb.metrics.auc import auc_difference
from rb.metrics.classification import BOGUS, REAL, UNKNOWN
from rb.metrics.intervals import UNDEFINED, Estimate, normal_quantile
from rb.models.contract import IMAGE_KINDS


@dataclass(frozen=True)
class Paired:
    """Labels and scores of two runs, stamp by stamp."""

    ids: np.ndarray
    labels: np.ndarray
    p_first: np.ndarray
    p_second: np.ndarray
    left_out: int


@dataclass(frozen=True)
class Comparison:
    """Outcome of a paired comparison; differences are first minus second.

    Parameters
    ----------
    first, second
        The runs.
    n
        Number of labelled stamps that both scored.
    left_out
        Number of stamps that only one of them scored.
    both_right, only_first, only_second, both_wrong
        How often which of them was right; `only_first` and `only_second` are what
        McNemar's test looks at.
    mcnemar_p
        Exact two-sided p-value of McNemar's test (McNemar 1947, Psychometrika 12, 153).
    accuracy, tpr, tnr
        Paired differences with Bonett-Price intervals.
    auc, auc_p
        Difference of the AUCs with DeLong's paired interval and p-value.
    """

    first: RunResult
    second: RunResult
    n: int
    left_out: int
    both_right: int
    only_first: int
    only_second: int
    both_wrong: int
    mcnemar_p: float
    accuracy: Estimate
    tpr: Estimate
    tnr: Estimate
    auc: Estimate
    auc_p: float


def same_set(first: RunResult, second: RunResult) -> bool:
    """Whether an id means the same candidate in both: their stamp sets have one digest.

    The ids of two sets may coincide by chance, as those of two simulations do.
    """
    return first.data_digest == second.data_digest


def same_candidates(first: RunResult, second: RunResult) -> bool:
    """Whether both scored exactly the same candidates, in the same order."""
    return same_set(first, second) and np.array_equal(first.ids, second.ids)


def different_sets_sentence(results: Sequence[RunResult]) -> str | None:
    """Says that runs were evaluated on different stamp sets; None where they were not."""
    digests: dict[str, list[str]] = {}
    for result in results:
        digests.setdefault(result.data_digest, []).append(result.name)
    if len(digests) < 2:
        return None
    sets = "; ".join(
        f"{digest.removeprefix('sha256:')[:12] or 'unknown'}: {', '.join(dict.fromkeys(names))}"
        for digest, names in digests.items()
    )
    return (
        "These runs were evaluated on different stamp sets, so their candidates are not compared "
        f"one by one (digests {sets}). To compare them, evaluate all on one set with data=…."
    )


def pair(first: RunResult, second: RunResult, require_same: bool = False) -> Paired:
    """Join two runs by stamp id; the stamps that both scored, in the order of the first.

    Parameters
    ----------
    require_same
        Refuse runs that did not score exactly the same stamps.

    Raises
    ------
    UserError
        If the runs scored different stamp sets, if no stamp is in both, if `require_same` and
        some are not, or if the runs give the same stamp different labels.
    """
    import pandas as pd

    if not same_set(first, second):
        raise UserError(
            f"{first.name} and {second.name} were evaluated on different stamp sets (digests "
            f"{first.data_digest[:12]}, {second.data_digest[:12]}), whose ids may coincide by "
            "chance; evaluate both on the same set with data=…"
        )
    where = pd.Index(second.ids).get_indexer(pd.Index(first.ids))
    in_both = where >= 0
    common = int(in_both.sum())
    left_out = first.n + second.n - 2 * common
    names = f"{first.name} and {second.name}"
    if common == 0:
        raise UserError(f"{names} have no stamp in common; evaluate both on the same set")
    if require_same and left_out:
        raise UserError(
            f"{names} did not score the same stamps ({left_out} are in only one of them); "
            "evaluate both on the same set"
        )
    where = where[in_both]
    labels = first.labels[in_both]
    differing = int((labels != second.labels[where]).sum())
    if differing:
        raise UserError(
            f"{names} disagree on the label of {differing} stamps of the same id; "
            "evaluate both on the same set"
        )
    return Paired(first.ids[in_both], labels, first.p_real[in_both], second.p_real[where], left_out)


def compare(
    first: RunResult, second: RunResult, confidence: float = 0.95, require_same: bool = False
) -> Comparison:
    """Compare two runs on the labelled stamps that both scored, each at its own threshold.

    Raises
    ------
    UserError
        See `pair`.
    """
    from statsmodels.stats.contingency_tables import mcnemar

    paired = pair(first, second, require_same)
    labelled = paired.labels != UNKNOWN
    labels = paired.labels[labelled]
    is_real = labels == REAL
    p_first, p_second = paired.p_first[labelled], paired.p_second[labelled]
    first_right = (p_first >= first.threshold) == is_real
    second_right = (p_second >= second.threshold) == is_real
    only_first = int((first_right & ~second_right).sum())
    only_second = int((second_right & ~first_right).sum())
    both_right = int((first_right & second_right).sum())
    both_wrong = labels.size - both_right - only_first - only_second
    table = [[both_right, only_first], [only_second, both_wrong]]
    difference, p_value = auc_difference(is_real, p_first, p_second, confidence)
    return Comparison(
        first=first,
        second=second,
        n=labels.size,
        left_out=paired.left_out,
        both_right=both_right,
        only_first=only_first,
        only_second=only_second,
        both_wrong=both_wrong,
        mcnemar_p=float(mcnemar(table, exact=True).pvalue) if labels.size else math.nan,
        accuracy=paired_difference(first_right, second_right, confidence),
        tpr=paired_difference(first_right[is_real], second_right[is_real], confidence),
        tnr=paired_difference(
            first_right[labels == BOGUS], second_right[labels == BOGUS], confidence
        ),
        auc=difference,
        auc_p=p_value,
    )


def paired_difference(
    first_right: np.ndarray, second_right: np.ndarray, confidence: float = 0.95
) -> Estimate:
    """Difference of two proportions measured on the same stamps, first minus second.

    The interval adds one imagined stamp to either kind of disagreement, which keeps its
    coverage for few of them (Bonett & Price 2012, J. Educ. Behav. Stat. 37, 479).

    Parameters
    ----------
    first_right, second_right
        Booleans (n,): whether each classifier is right on a stamp.

    Returns
    -------
    Estimate
        `UNDEFINED` without stamps.
    """
    n = first_right.size
    if n == 0:
        return UNDEFINED
    only_first = int((first_right & ~second_right).sum())
    only_second = int((second_right & ~first_right).sum())
    value = (only_first - only_second) / n
    share_first, share_second = (only_first + 1) / (n + 2), (only_second + 1) / (n + 2)
    centre = share_first - share_second
    half = normal_quantile(confidence) * math.sqrt(
        (share_first + share_second - centre**2) / (n + 2)
    )
    low, high = max(-1.0, centre - half), min(1.0, centre + half)
    return Estimate(value, min(low, value), max(high, value))


def dia_against_nodia(results: Sequence[RunResult], confidence: float = 0.95) -> Comparison | None:
    """The best run with the difference image against the best without, chosen by validation.

    None where one of the two kinds is missing, or they share no labelled stamp.
    """
    best = best_of_each_kind(results)
    if not set(IMAGE_KINDS) <= best.keys():
        return None
    return compare_if_shared(best["dia"], best["nodia"], confidence)


def networks_against_forest(
    results: Sequence[RunResult], confidence: float = 0.95
) -> list[Comparison]:
    """The best network of each kind against the best feature forest, chosen by validation.

    Empty where there is no forest, or no network shares a labelled stamp with it.
    """
    best = best_of_each_kind(results)
    forest = next((r for r in best.values() if not r.sees_stamps), None)
    if forest is None:
        return []
    found = [
        compare_if_shared(best[kind], forest, confidence) for kind in IMAGE_KINDS if kind in best
    ]
    return [comparison for comparison in found if comparison is not None]


def best_of_each_kind(results: Sequence[RunResult]) -> dict[str, RunResult]:
    """By kind of input: the run with labels that did best in validation."""
    best: dict[str, RunResult] = {}
    for result in results:
        there = best.get(result.inputs)
        if result.n_labelled and (
            there is None or result.validation_accuracy > there.validation_accuracy
        ):
            best[result.inputs] = result
    return best


def compare_if_shared(
    first: RunResult, second: RunResult, confidence: float = 0.95
) -> Comparison | None:
    """`compare`, or None for runs that share no labelled stamp."""
    if not same_set(first, second) or np.intersect1d(first.ids, second.ids).size == 0:
        return None
    comparison = compare(first, second, confidence)
    return comparison if comparison.n else None
