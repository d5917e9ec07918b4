"""What a sweep leaves behind: its table, its picture, and the accuracy over its folds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rb.sweeps.board import best_of
from rb.sweeps.table import (
    FOLD,
    Folds,
    Row,
    axes_of,
    folds_of,
    rows_of,
    table_of,
    terminal_table,
    text,
)
from rb.tracking.view import description, run_address, where_to_look

if TYPE_CHECKING:
    from rich.console import Console

    from rb.tracking import TrackedRun, Tracking


_COLUMNS = 6  # jobs that stand side by side in a description


def finish(tracking: Tracking, run: TrackedRun, console: Console) -> list[Row]:
    """Print, draw and log what came of the jobs of the sweep `run`; returns their rows.

    In a cross-validation each fold's network is first scored on the fold's own held-out part.
    """
    rows = rows_of(tracking, run.run_id)
    if FOLD in axes_of(rows):
        score_folds(tracking, rows, console)
        rows = rows_of(tracking, run.run_id)
    console.print(terminal_table(rows, f"sweep {run.run_id[:8]}"))
    run.log_text(table_of(rows).to_csv(index=False), "jobs.csv")
    metrics = {
        "jobs/finished": sum(r.done for r in rows),
        "jobs/reused": sum(r.state == "reused" for r in rows),
        "jobs/failed": sum(r.state == "failed" for r in rows),
        "cost/train_cpu_hours": sum(r.cpu_hours or 0.0 for r in rows if r.state != "reused"),
    }
    best = best_of(rows)
    if best is not None and best.best is not None:
        metrics["best/val_acc"] = best.best
    folds = folds_of(rows)
    if folds:
        metrics |= _log_folds(run, folds, console)
    run.log_metrics(metrics)
    run.tag(_description(tracking, rows))
    _draw(run, rows, folds)
    _mention_other_code(rows, console)
    where = where_to_look(tracking.uri, tracking.experiment_id)
    console.print(f"the trainings side by side, in a browser: {where}", highlight=False)
    return rows


def _description(tracking: Tracking, rows: Sequence[Row]) -> dict[str, str]:
    """What the parent run says of its jobs, a column each, or a line where there are many."""
    best, done = best_of(rows), sum(r.done for r in rows)
    sentence = f"{done} of {len(rows)} trainings have a result"
    if best is not None and best.best is not None:
        sentence += f"; the best validation accuracy is {best.best:.4f} ({best.name})"
    titles = ("validation accuracy", "test accuracy", "epochs", "CPU-hours")
    cells = [
        [text(r.best, ".4f"), text(r.test, ".4f"), text(r.epochs, ".0f"), text(r.cpu_hours, ".3g")]
        for r in rows
    ]
    names = [r.name for r in rows]
    if len(rows) <= _COLUMNS:
        head = ["", *names]
        table = [
            [title, *column] for title, column in zip(titles, zip(*cells, strict=True), strict=True)
        ]
    else:
        head = ["", *titles]
        table = [[name, *line] for name, line in zip(names, cells, strict=True)]
    links = {
        f"{r.name} ({r.run_id[:8]})": run_address(tracking.experiment_id, r.run_id) for r in rows
    }
    return description(f"{sentence}.", head, table, links)


def score_folds(tracking: Tracking, rows: Sequence[Row], console: Console) -> None:
    """Score each finished fold on its own test part, where that was not done before.

    The numbers go to the fold's run as ``test/accuracy`` and so on, as `evaluate.py` puts them.
    """
    todo = [r for r in rows if r.done and r.test is None]
    if not todo:
        return
    from rb.evaluation.choose import select
    from rb.evaluation.scored_run import score_run
    from rb.evaluation.tracked import log_to_run
    from rb.tracking import TrackedRun

    opened: dict[str, Any] = {}
    settings = {"subset": "test", "threshold": None, "timing": False}
    for row in todo:
        chosen = select(tracking, [row.run_id])[0]
        one = score_run(chosen, None, opened, settings, console)
        log_to_run(TrackedRun(tracking, row.run_id), one, confidence=0.95)


def _log_folds(run: TrackedRun, folds: Sequence[Folds], console: Console) -> dict[str, float]:
    import pandas as pd
    from rich.table import Table

    shown = Table(title="accuracy over the folds, mean ± standard deviation", title_justify="left")
    others = list(folds[0].values)
    for column in (*others, "folds", "validation", "test"):
        shown.add_column(column, justify="left" if column in others else "right")
    metrics: dict[str, float] = {}
    lines = []
    for one in folds:
        cells = [str(v) for v in one.values.values()]
        shown.add_row(*cells, str(one.n), _plus_minus(one.val), _plus_minus(one.test))
        prefix = "cv/" + "".join(f"{_safe(f'{k}={v}')}/" for k, v in one.values.items())
        found = {"folds": float(one.n), "val_acc_mean": one.val[0], "val_acc_sd": one.val[1]}
        if one.test:
            found |= {"test_acc_mean": one.test[0], "test_acc_sd": one.test[1]}
        metrics |= {prefix + key: value for key, value in found.items()}
        lines.append(dict(one.values) | found)
    console.print(shown)
    run.log_text(pd.DataFrame(lines).to_csv(index=False), "folds.csv")
    return metrics


def _plus_minus(spread: tuple[float, float] | None) -> str:
    if spread is None:
        return "–"
    return f"{spread[0]:.4f}" + ("" if math.isnan(spread[1]) else f" ± {spread[1]:.4f}")


def _safe(text: str) -> str:
    """A part of a metric's name; MLflow takes letters, digits and few signs."""
    return "".join(c if c.isalnum() or c in "-_. " else "_" for c in text)


def _draw(run: TrackedRun, rows: Sequence[Row], folds: Sequence[Folds]) -> None:
    from rb.figures.studies.sweep import folds_figure, sweep_figure

    table, axes = table_of(rows), axes_of(rows)
    table = table[table["best val/acc"].notna()]
    if len(table) and axes:
        run.log_figure(sweep_figure(table, axes), "figures/sweep")
    if folds:
        named = {
            ", ".join(f"{k} {v}" for k, v in one.values.items()) or "accuracy": {
                "fold": [r.values[FOLD] for r in one.rows],
                "validation": [r.best for r in one.rows],
                "test": [r.test for r in one.rows],
                "spread": one.test if one.n > 1 else None,
            }
            for one in folds
        }
        run.log_figure(folds_figure(named), "figures/folds")


def _mention_other_code(rows: Sequence[Row], console: Console) -> None:
    from rb.tracking import git_commit

    now = (git_commit() or "").rstrip("+")
    other = [r for r in rows if r.state == "reused" and r.commit and r.commit != now]
    if other and now:
        console.print(
            f"note: {len(other)} of the reused runs were trained by another version of the code; "
            "sweep.reuse=false trains them anew"
        )
