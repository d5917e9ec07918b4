"""Runs side by side: the table, and the sentences that say what it means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rb.evaluation.paired import (
    Comparison,
    compare_if_shared,
    dia_against_nodia,
    different_sets_sentence,
    networks_against_forest,
)
from rb.evaluation.results import COST_KEYS, RunResult, unique_names
from rb.metrics.classification import RATES
from rb.metrics.intervals import Estimate

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

MANY = 4
"""Up to this many runs stand side by side as columns; more get a row each."""


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
        return [_number(result.cost_of(key), digits) for result in results]

    rows = [
        ("inputs", "images or features that it sees", [_INPUTS[r.inputs] for r in results]),
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
            [_significant(result.cost_of("train_cpu_hours")) for result in results],
        ),
        (
            "ms per stamp",
            "prediction, median ± median deviation",
            [_time_per_stamp(result) for result in results],
        ),
        ("parameters", "trained weights", costs("parameters")),
    ]
    if len({result.threshold for result in results}) > 1:
        rows.insert(
            2, ("threshold", "called real from here", [f"{r.threshold:g}" for r in results])
        )
    return rows


def print_comparison(
    results: Sequence[RunResult], console: Console, confidence: float = 0.95
) -> None:
    """Print the runs side by side, McNemar's test, and what the difference image is worth.

    Up to `MANY` runs are columns, more are rows. Runs that share no stamps are shown
    without a test.
    """
    from rich.markup import escape

    if not results:
        console.print("No run to compare.")
        return
    console.print(_side_by_side(results, confidence) if len(results) <= MANY else _rows(results))
    sentences = [f"± and limits: {100 * confidence:g} % intervals."]
    comparison = dia_against_nodia(results, confidence)
    if comparison is None and len(results) == 2:
        comparison = compare_if_shared(results[0], results[1], confidence)
    tests = [comparison] if comparison is not None else []
    if len(results) > 2:  # of two, the comparison is there already
        tests += networks_against_forest(results, confidence)
    sentences += [mcnemar_sentence(test) for test in tests]
    sentences += [difference_image_sentence(results, confidence)]
    elsewhere = different_sets_sentence(results)
    if elsewhere:
        sentences.append(elsewhere)
    for sentence in sentences:
        console.print(escape(sentence), highlight=False)


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
    points = f"{100 * abs(gain.value):.1f} ± {100 * gain.half_width:.1f} percentage points"
    accuracies = f"{with_it:.1f} % with it, {without:.1f} % without"
    place = f"on these {comparison.n:,} stamps"
    if gain.low > 0:
        return f"The difference image is worth {points} of accuracy {place}: {accuracies}."
    if gain.high < 0:
        return (
            f"The classifier without the difference image is better by {points} of accuracy "
            f"{place}: {accuracies}."
        )
    return (
        f"The difference image makes no difference that {comparison.n:,} stamps could show: "
        f"{accuracies}, a gap of {100 * gain.value:.1f} ± {100 * gain.half_width:.1f} "
        "percentage points."
    )


def percent(estimate: Estimate) -> str:
    """A share with its interval as percent, such as "96.1 ± 0.3 %".

    A lopsided interval, as near 0 or 100 %, keeps its two sides: "100.0 −5.2 +0.0 %".
    """
    if not estimate.defined:
        return "–"
    # A second decimal where the first would call the interval zero.
    digits = 2 if 0 < 100 * estimate.half_width < 0.05 else 1
    return f"{100 * estimate.value:.{digits}f} {_plus_minus(estimate, 100, digits)} %"


def decimal(estimate: Estimate) -> str:
    """A share with its interval as decimals, such as "0.9921 ± 0.0010"."""
    if not estimate.defined:
        return "–"
    return f"{estimate.value:.4f} {_plus_minus(estimate, 1, 4)}"


def _plus_minus(estimate: Estimate, scale: float, digits: int) -> str:
    below = scale * (estimate.value - estimate.low)
    above = scale * (estimate.high - estimate.value)
    if abs(above - below) > 0.5 * max(above, below) and abs(above - below) > 2 * 10**-digits:
        return f"−{below:.{digits}f} +{above:.{digits}f}"
    return f"± {scale * estimate.half_width:.{digits}f}"


def p_value(value: float) -> str:
    """A p-value as a person writes it."""
    if math.isnan(value):
        return "p undefined"
    if value < 1e-300:
        return "p < 1e-300"
    if value < 1e-3:
        mantissa, exponent = f"{value:.0e}".split("e")
        return f"p = {mantissa}e{int(exponent)}"
    return f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


_INPUTS = {"dia": "diff, srch, tmpl", "nodia": "srch, tmpl", "features": "autoscan features"}


def _side_by_side(results: Sequence[RunResult], confidence: float) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=_title(results), title_justify="left")
    table.add_column("")
    for name in unique_names(results):
        table.add_column(escape(name), justify="right", overflow="fold")
    for title, _, texts in display_rows(results, confidence):
        table.add_row(title, *texts)
    return table


def _rows(results: Sequence[RunResult]) -> Table:
    """The narrower table of many runs: a row each, most accurate first."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=_title(results), title_justify="left", padding=(0, 0))
    table.add_column("run", overflow="fold", min_width=16)
    wanted = ("accuracy", "auc", "tpr", "tnr", "mdr_at_fpr_0.05")
    for title in ("inputs", "accuracy", "AUC", "TPR", "TNR", "MDR5", "ep.", "CPU-h", "ms", "par."):
        table.add_column(title, justify="left" if title == "inputs" else "right", no_wrap=True)
    frame = comparison_table(results).sort_values("accuracy", ascending=False, kind="stable")
    for name, row in frame.iterrows():
        values = [_number(100 * row[key], ".1f") for key in wanted]
        values[0] += f"±{_number(100 * row['accuracy_half_width'], '.1f')}"
        values[1] = _number(row["auc"], ".4f")
        table.add_row(
            escape(str(name)),
            row["inputs"],
            *values,
            _number(row["epochs"], ".0f"),
            _significant(row["train_cpu_hours"]),
            _significant(row["ms_per_stamp"]),
            _thousands(row["parameters"]),
        )
    table.caption = "accuracy, TPR, TNR, MDR5 (missed real ones at FPR .05) in %"
    return table


def _title(results: Sequence[RunResult]) -> str:
    from rich.markup import escape

    sets = sorted({f"{result.data_name} ({result.subset})" for result in results})
    return escape("ScoredRun on " + ", ".join(sets))


def _number(value: float, digits: str) -> str:
    return "–" if math.isnan(value) else f"{value:{digits}}"


def _significant(value: float) -> str:
    """Two significant digits below 10, whole numbers above."""
    if math.isnan(value):
        return "–"
    if value == 0 or value >= 10:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 1 - math.floor(math.log10(value)))}f}"


def _thousands(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if value < 1e4 else f"{value / 1e3:,.0f}k"


def _time_per_stamp(result: RunResult) -> str:
    value, deviation = result.cost_of("ms_per_stamp"), result.cost_of("ms_per_stamp_mad")
    text = _significant(value)
    if math.isnan(value) or math.isnan(deviation):
        return text
    digits = len(text.partition(".")[2])
    if 0 < deviation < 1:
        # One digit of the deviation, but no more of the value than three decimals.
        digits = max(digits, min(3, -math.floor(math.log10(deviation))))
    return f"{value:.{digits}f} ± {deviation:.{digits}f}"
