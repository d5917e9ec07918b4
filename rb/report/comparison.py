"""Runs side by side: the table, and the sentences that say what it means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rb.evaluation.paired import Comparison, dia_against_nodia
from rb.evaluation.results import COST_KEYS, RunResult, unique_names
from rb.metrics.classification import RATES
from rb.metrics.numbers import decimal, number, p_value, percent, points, two_digits, with_deviation

if TYPE_CHECKING:
    import pandas as pd

MANY = 4
"""Up to this many runs stand side by side as columns; more get a row each."""


_IMAGES = {"dia": "diff, srch, tmpl", "nodia": "srch, tmpl", "features": "autoscan features"}


def comparison_table(results: Sequence[RunResult], confidence: float = 0.95) -> pd.DataFrame:
    """One row a run, in the order given, index = unique run names.

    Columns: ``run_id``, ``inputs``, ``model``, ``data_name``, ``subset``, ``n`` (labelled
    stamps), ``threshold``; every metric of `rb.metrics.classification.evaluate_scores` with
    ``<metric>_low`` and ``<metric>_high``; ``accuracy_half_width``; the costs of
    `rb.evaluation.results.COST_KEYS`. What is not known is NaN.
    """
    import pandas as pd

    rows = []
    for result in results:
        row: dict[str, object] = {
            "run_id": result.run_id,
            "inputs": result.inputs,
            "model": result.model,
            "data_name": result.data_name,
            "subset": result.subset,
            "n": result.n_labelled,
            "threshold": result.threshold,
        }
        metrics = result.metrics(confidence)
        for name, estimate in metrics.items():
            row |= {
                name: estimate.value,
                f"{name}_low": estimate.low,
                f"{name}_high": estimate.high,
            }
        row["accuracy_half_width"] = metrics["accuracy"].half_width
        row |= {key: result.cost_of(key) for key in COST_KEYS}
        rows.append(row)
    return pd.DataFrame(rows, index=pd.Index(unique_names(results), name="run"))


def display_rows(
    results: Sequence[RunResult], confidence: float = 0.95
) -> list[tuple[str, str, list[str]]]:
    """What a person reads: (short title, explanation, one text a run) for every quantity.

    The same rows make the table in the terminal and the one in the report.
    """
    metrics = [result.metrics(confidence) for result in results]

    def percents(key: str) -> list[str]:
        return [percent(m[key]) for m in metrics]

    def costs(key: str, digits: str = ",.0f") -> list[str]:
        return [number(result.cost_of(key), digits) for result in results]

    rows = [
        ("inputs", "images or features that it sees", [_IMAGES[r.inputs] for r in results]),
        ("stamps", "labelled stamps evaluated", [f"{r.n_labelled:,}" for r in results]),
        ("accuracy", "share of right calls at the threshold", percents("accuracy")),
        ("AUC", "area under the ROC curve", [decimal(m["auc"]) for m in metrics]),
        ("TPR", "real stamps called real", percents("tpr")),
        ("TNR", "bogus stamps called bogus", percents("tnr")),
        ("purity", "real ones among those called real", percents("precision")),
    ]
    rows += [
        (
            f"MDR at FPR {rate:g}",
            f"real ones missed where {100 * rate:g} % of the bogus pass",
            percents(f"mdr_at_fpr_{rate:g}"),
        )
        for rate in RATES
    ]
    rows += [
        ("calibration error", "mean |p_real - share of real|", percents("ece")),
        ("epochs", "epochs trained", costs("epochs")),
        (
            "CPU-hours",
            "training, all cores together",
            [two_digits(result.cost_of("train_cpu_hours")) for result in results],
        ),
        (
            "ms per stamp",
            "prediction, median ± median deviation",
            [time_per_stamp(result) for result in results],
        ),
        ("parameters", "trained weights", costs("parameters")),
    ]
    if len({result.threshold for result in results}) > 1:
        rows.insert(
            2, ("threshold", "called real from here", [f"{r.threshold:g}" for r in results])
        )
    return rows


def mcnemar_sentence(comparison: Comparison) -> str:
    """McNemar's test in a sentence, with the two counts that it rests on."""
    first, second = unique_names([comparison.first, comparison.second])
    text = (
        f"McNemar's exact test on {comparison.n:,} shared stamps: only {first} is right on "
        f"{comparison.only_first:,}, only {second} on {comparison.only_second:,}; "
        f"{p_value(comparison.mcnemar_p)}."
    )
    if comparison.left_out:
        text += f" {comparison.left_out:,} stamps that only one of them scored are left out."
    return text


def difference_image_sentence(results: Sequence[RunResult], confidence: float = 0.95) -> str:
    """What the difference image is worth on this set, in one plain sentence."""
    comparison = dia_against_nodia(results, confidence)
    if comparison is None:
        return (
            "What the difference image is worth cannot be said: it takes a run with it and a "
            "run without it, evaluated on the same labelled stamps."
        )
    return worth_of_difference_image(comparison)


def worth_of_difference_image(comparison: Comparison) -> str:
    """The same for a comparison of a run with the difference image (first) and one without.

    Both accuracies are those on the shared stamps.
    """
    right = comparison.both_right
    with_it = 100 * (right + comparison.only_first) / comparison.n
    without = 100 * (right + comparison.only_second) / comparison.n
    gain = comparison.accuracy
    worth = f"{points(gain).lstrip('+-')} percentage points"
    accuracies = f"{with_it:.1f} % with it, {without:.1f} % without"
    place = f"on these {comparison.n:,} stamps"
    if gain.low > 0:
        return f"The difference image is worth {worth} of accuracy {place}: {accuracies}."
    if gain.high < 0:
        return (
            f"The classifier without the difference image is better by {worth} of accuracy "
            f"{place}: {accuracies}."
        )
    return (
        f"The difference image makes no difference that {comparison.n:,} stamps could show: "
        f"{accuracies}, a gap of {100 * gain.value:.1f} ± {100 * gain.half_width:.1f} "
        "percentage points."
    )


def time_per_stamp(result: RunResult) -> str:
    """Milliseconds of a prediction, median ± median deviation."""
    return with_deviation(result.cost_of("ms_per_stamp"), result.cost_of("ms_per_stamp_mad"))
