"""One self-contained page that shows an evaluation: numbers, pictures, how it was made."""

from __future__ import annotations

import base64
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rb.evaluation.paired import dia_against_nodia, different_sets_sentence, networks_against_forest
from rb.evaluation.results import RunResult, unique_names
from rb.io.files import write_whole
from rb.metrics.numbers import decimal, p_value, percent, points
from rb.report.comparison import (
    MANY,
    comparison_table,
    difference_image_sentence,
    display_rows,
    mcnemar_sentence,
)
from rb.report.sections import Picture, Section

if TYPE_CHECKING:
    import pandas as pd

COMMAND = "$ "
"""A paragraph that begins so is a command, shown to be copied."""

_PNG_DPI = 170


@dataclass(frozen=True)
class _Table:
    """A table ready for the page: all cells are text."""

    title: str
    head: list[str]
    rows: list[list[str]]
    note: str = ""


def write_report(
    path: str | os.PathLike[str],
    title: str,
    results: Sequence[RunResult],
    sections: Sequence[Section] = (),
    **options: Any,
) -> None:
    """Write the report as one HTML file; arguments as for `render_report`.

    The file appears whole or not at all.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    text = render_report(title, results, sections, **options)
    write_whole(Path(path), text.encode(), "the report")


def render_report(
    title: str,
    results: Sequence[RunResult],
    sections: Sequence[Section] = (),
    *,
    provenance: Mapping[str, Any] | None = None,
    confidence: float = 0.95,
) -> str:
    """A page that needs nothing else.

    It has the headline with its numbers, the comparison table, McNemar's test, the `sections`,
    and how it all was made. Pictures are inside: line drawings as SVG, images as PNG. Whatever a
    user named is escaped.

    Parameters
    ----------
    title : str
        Heading of the page.
    results : sequence of RunResult
        The runs, in the order of the columns; without any the page has no headline.
    sections : sequence of Section
        A paragraph that begins with `COMMAND` is shown as a command; the index of a table is
        shown where it has a name.
    provenance : mapping, optional
        How it was made: texts, numbers, lists and nested mappings; a list or a text of
        several lines is shown as code, so commands can be copied.
    confidence : float
        Level of the intervals.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("rb.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["picture"] = _data_url
    environment.tests["mapping_value"] = lambda value: isinstance(value, Mapping)
    environment.tests["code"] = _is_code
    environment.tests["command"] = lambda text: str(text).startswith(COMMAND)
    labelled = [result for result in results if result.n_labelled]
    comparison = dia_against_nodia(results, confidence)
    tests = [comparison] if comparison else []
    tests += networks_against_forest(results, confidence)
    anchors = _anchors(sections)
    return environment.get_template("report.html.j2").render(
        title=title,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        measured=bool(results),
        headline=difference_image_sentence(results, confidence) if labelled else None,
        kept=_at_equal_completeness(results) if comparison else None,
        tiles=_tiles(results, confidence),
        comparison=_comparison(results, confidence) if labelled else None,
        tests=[(mcnemar_sentence(t), _paired_table(t, confidence)) for t in tests],
        elsewhere=different_sets_sentence(results),
        sections=list(zip(anchors, sections, strict=True)),
        frames=_frames,
        provenance=dict(provenance or {}),
        sets=_sets(results),
        confidence=f"{100 * confidence:g} %",
        code_lines=_code_lines,
    )


_INPUTS = {
    "dia": "with the difference image",
    "nodia": "without the difference image",
    "features": "on autoscan features",
}


def _tiles(results: Sequence[RunResult], confidence: float) -> list[dict[str, str]]:
    """The large numbers at the top, one a run, as long as they fit."""
    tiles = []
    for name, result in zip(unique_names(results), results, strict=True):
        if result.n_labelled and len(results) <= MANY:
            metrics = result.metrics(confidence)
            tiles.append(
                {
                    "name": name,
                    "inputs": _INPUTS[result.inputs],
                    "accuracy": percent(metrics["accuracy"]),
                    "auc": decimal(metrics["auc"]),
                }
            )
    return tiles


def _at_equal_completeness(results: Sequence[RunResult]) -> str | None:
    """The gap in what a search pays: bogus let through at equal completeness."""
    comparison = dia_against_nodia(results)
    if comparison is None:
        return None
    if min(comparison.first.confusion().n_real, comparison.first.confusion().n_bogus) < 100:
        return None  # 5 % of fewer is no rate
    with_it = comparison.first.metrics()["fpr_at_mdr_0.05"].value
    without = comparison.second.metrics()["fpr_at_mdr_0.05"].value
    if math.isnan(with_it) or math.isnan(without):
        return None
    text = (
        f"A search that keeps 95 % of the real candidates lets {100 * with_it:.1f} % of the bogus "
        f"through with the difference image, {100 * without:.1f} % without it"
    )
    if with_it > 0 and without > with_it:
        text += f", {without / with_it:.1f} times as many"
    return text + "."


def _comparison(results: Sequence[RunResult], confidence: float) -> _Table:
    names = unique_names(results)
    rows = display_rows(results, confidence)
    note = f"± and limits are {100 * confidence:g} % intervals."
    if len(results) <= MANY:
        cells = [[f"{title}\n{about}", *texts] for title, about, texts in rows]
        return _Table("", ["", *names], cells, note)
    # Many runs get a row each, the most accurate first.
    accuracy = comparison_table(results, confidence)["accuracy"].to_numpy()
    order = sorted(range(len(names)), key=lambda i: -accuracy[i] if accuracy[i] >= 0 else 1)
    head = ["run", *(title for title, _, _ in rows)]
    return _Table("", head, [[names[i], *(t[i] for _, _, t in rows)] for i in order], note)


def _paired_table(comparison: Any, confidence: float) -> _Table:
    return _Table(
        f"{comparison.first.name} minus {comparison.second.name}, the same stamps",
        ["", "percentage points"],
        [
            ["accuracy", points(comparison.accuracy, 2)],
            ["TPR", points(comparison.tpr, 2)],
            ["TNR", points(comparison.tnr, 2)],
            [f"AUC (DeLong, {p_value(comparison.auc_p)})", points(comparison.auc, 2)],
        ],
        f"Paired differences with {100 * confidence:g} % intervals.",
    )


def _sets(results: Sequence[RunResult]) -> list[dict[str, str]]:
    """The stamp sets behind the results, each once."""
    seen: dict[tuple[str, str, str], dict[str, str]] = {}
    for result in results:
        key = (result.data_name, result.data_digest, result.subset)
        real = int((result.labels == 0).sum())
        bogus = int((result.labels == 1).sum())
        seen.setdefault(
            key,
            {
                "name": result.data_name,
                "digest": result.data_digest,
                "subset": result.subset,
                "counts": f"{result.n:,} stamps: {real:,} real, {bogus:,} bogus"
                + (f", {result.n - real - bogus:,} without label" * (result.n > real + bogus)),
            },
        )
    return list(seen.values())


def _frames(tables: Mapping[str, pd.DataFrame]) -> list[_Table]:
    return [_frame(title, table) for title, table in tables.items()]


def _frame(title: str, table: pd.DataFrame) -> _Table:
    with_index = table.index.name is not None
    head = ([str(table.index.name)] if with_index else []) + [str(c) for c in table.columns]
    rows = []
    for index, values in zip(table.index, table.itertuples(index=False), strict=True):
        rows.append(([_cell(index)] if with_index else []) + [_cell(v) for v in values])
    return _Table(title, head, rows)


def _cell(value: Any) -> str:
    if value is None or value != value:  # NaN is not equal to itself
        return "–"
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, float) or hasattr(value, "dtype"):
        number = float(value)
        if number.is_integer() and abs(number) < 1e15:
            return (
                str(int(number))
                if hasattr(value, "dtype") and value.dtype.kind in "iu"
                else (f"{number:,.0f}")
            )
        return f"{number:.4g}"
    return str(value)


def _is_code(value: Any) -> bool:
    return (isinstance(value, Sequence) and not isinstance(value, str)) or (
        isinstance(value, str) and "\n" in value
    )


def _code_lines(value: Any) -> str:
    return value if isinstance(value, str) else "\n".join(str(line) for line in value)


def _anchors(sections: Sequence[Section]) -> list[str]:
    """Distinct names for links; a section's key may hold what a user typed."""
    anchors: list[str] = []
    for number, section in enumerate(sections):
        anchor = re.sub(r"[^A-Za-z0-9_-]+", "-", section.key).strip("-") or "section"
        anchors.append(anchor if anchor not in anchors else f"{anchor}-{number}")
    return anchors


def _data_url(picture: Picture) -> str:
    from rb.figures.style import figure_bytes

    suffix, media = ("png", "image/png") if picture.pixels else ("svg", "image/svg+xml")
    content = base64.b64encode(figure_bytes(picture.figure, suffix, _PNG_DPI)).decode("ascii")
    return f"data:{media};base64,{content}"
