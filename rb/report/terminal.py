"""Tables in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rb.evaluation.paired import (
    compare_if_shared,
    dia_against_nodia,
    different_sets_sentence,
    networks_against_forest,
    same_set,
)
from rb.evaluation.results import RunResult, unique_names
from rb.figures.style import LABEL_WORDS
from rb.metrics.numbers import number, significant, thousands, two_digits
from rb.report.comparison import (
    MANY,
    comparison_table,
    difference_image_sentence,
    display_rows,
    mcnemar_sentence,
)

if TYPE_CHECKING:
    import pandas as pd


def print_comparison(
    results: Sequence[RunResult], console: Console, confidence: float = 0.95
) -> None:
    """Print the runs side by side, McNemar's test, and what the difference image is worth.

    Up to `MANY` runs are columns, more are rows. Runs that share no stamps are shown
    without a test.
    """
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


def _side_by_side(results: Sequence[RunResult], confidence: float) -> Table:
    table = Table(title=_title(results), title_justify="left")
    table.add_column("")
    for name in unique_names(results):
        table.add_column(escape(name), justify="right", overflow="fold")
    for title, _, texts in display_rows(results, confidence):
        table.add_row(title, *texts)
    return table


def _rows(results: Sequence[RunResult]) -> Table:
    """The narrower table of many runs: a row each, most accurate first."""
    table = Table(title=_title(results), title_justify="left", padding=(0, 0))
    table.add_column("run", overflow="fold", min_width=16)
    wanted = ("accuracy", "auc", "tpr", "tnr", "mdr_at_fpr_0.05")
    for title in ("inputs", "accuracy", "AUC", "TPR", "TNR", "MDR5", "ep.", "CPU-h", "ms", "par."):
        table.add_column(title, justify="left" if title == "inputs" else "right", no_wrap=True)
    frame = comparison_table(results).sort_values("accuracy", ascending=False, kind="stable")
    for name, row in frame.iterrows():
        values = [number(100 * row[key], ".1f") for key in wanted]
        values[0] += f"±{number(100 * row['accuracy_half_width'], '.1f')}"
        values[1] = number(row["auc"], ".4f")
        table.add_row(
            escape(str(name)),
            row["inputs"],
            *values,
            number(row["epochs"], ".0f"),
            two_digits(row["train_cpu_hours"]),
            two_digits(row["ms_per_stamp"]),
            thousands(row["parameters"]),
        )
    table.caption = "accuracy, TPR, TNR, MDR5 (missed real ones at FPR .05) in %"
    return table


def _title(results: Sequence[RunResult]) -> str:
    sets = sorted({f"{result.data_name} ({result.subset})" for result in results})
    return escape("Evaluated on " + ", ".join(sets))


def score_table(results: Sequence[RunResult]) -> Table:
    """p_real of each candidate by each run, for small sets."""
    lacking = {i for r in results if r.lacking is not None for i in r.ids[r.lacking].tolist()}
    caption = "* an image is missing: a model that looks at it took it for an empty one"
    table = Table(title="p_real of each candidate", caption=caption if lacking else None)
    table.add_column("id")
    table.add_column("label")
    for name in unique_names(results):
        table.add_column(name, justify="right")
    first = results[0]
    columns = [
        dict(zip(r.ids.tolist(), r.p_real.tolist(), strict=True)) if same_set(r, first) else {}
        for r in results
    ]
    for one, label in zip(first.ids.tolist(), first.labels.tolist(), strict=True):
        scores = [f"{c[one]:.4f}" if one in c else "–" for c in columns]
        word = LABEL_WORDS.get(label, "–")
        table.add_row(f"{one}*" if one in lacking else str(one), word, *scores)
    return table


def frame_table(frame: pd.DataFrame, title: str) -> Table:
    """A table of numbers, the first column at the left."""
    table = Table(title=title, title_justify="left")
    for position, column in enumerate(frame.columns):
        table.add_column(str(column).strip(), justify="right" if position else "left")
    for row in frame.itertuples(index=False):
        table.add_row(*map(_cell, row))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return significant(value) if isinstance(value, float) else str(value)
