"""The jobs of a sweep as rows, read from the tracking store; their table and their folds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run
    from rich.table import Table

    from rb.tracking import Tracking

FOLD = "split.fold"
"""The swept key that makes a sweep a cross-validation."""

DONE = ("finished", "reused")


@dataclass(frozen=True)
class Row:
    """What is known of one job.

    Attributes
    ----------
    state : str
        ``finished``, ``reused`` (an earlier run had done it), ``failed``, ``interrupted``,
        ``running``.
    values : dict
        Value of each swept key.
    best, test, epochs, cpu_hours, wall_s : float or None
        Accuracies, and what training took; None where not known.
    """

    number: int
    run_id: str
    name: str
    state: str
    values: Mapping[str, Any]
    process: str = ""
    best: float | None = None
    test: float | None = None
    epochs: float | None = None
    cpu_hours: float | None = None
    wall_s: float | None = None
    error: str = ""
    commit: str = ""

    @property
    def done(self) -> bool:
        """Whether it has a result."""
        return self.state in DONE

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.done or self.state == "failed"


def rows_of(tracking: Tracking, parent: str) -> list[Row]:
    """One row for each job of the sweep `parent` that has been started, in order."""
    best: dict[int, Row] = {}
    for place, run in enumerate(reversed(tracking.runs(parent=parent))):
        row = _row(run, parent, place)
        there = best.get(row.number)
        # A job that was begun twice counts as what came of it, or as its newest attempt.
        if there is None or not there.done:
            best[row.number] = row
    return [best[number] for number in sorted(best)]


def _row(run: Run, parent: str, place: int) -> Row:
    from rb.tracking import ERROR_TAG, PROCESS_TAG, STATE_TAG, SWEEP_TAG

    tags, metrics = run.data.tags, run.data.metrics
    job = json.loads(tags.get(SWEEP_TAG + parent, "{}"))
    state = tags.get(STATE_TAG, run.info.status.lower())
    if state == "finished" and job.get("how") == "reused":
        state = "reused"
    return Row(
        number=job.get("job", place),
        run_id=run.info.run_id,
        name=run.info.run_name,
        state=state,
        values=job.get("values", {}),
        process=tags.get(PROCESS_TAG, ""),
        best=metrics.get("best/val_acc"),
        test=metrics.get("test/accuracy"),
        epochs=metrics.get("epochs"),
        cpu_hours=metrics.get("cost/train_cpu_hours"),
        wall_s=metrics.get("cost/train_wall_s"),
        error=tags.get(ERROR_TAG, ""),
        commit=tags.get("mlflow.source.git.commit", ""),
    )


def table_of(rows: Sequence[Row]) -> pd.DataFrame:
    """A row for each job: its swept values, then what came of it."""
    import pandas as pd

    axes = axes_of(rows)
    columns: dict[str, list[Any]] = {"job": [r.number for r in rows]}
    columns |= {axis: [r.values.get(axis) for r in rows] for axis in axes}
    columns |= {
        "state": [r.state for r in rows],
        "best val/acc": [r.best for r in rows],
        "test/acc": [r.test for r in rows],
        "epochs": [r.epochs for r in rows],
        "CPU-hours": [r.cpu_hours for r in rows],
        "wall s": [r.wall_s for r in rows],
        "run": [r.run_id for r in rows],
        "name": [r.name for r in rows],
        "error": [r.error for r in rows],
    }
    return pd.DataFrame(columns)


def axes_of(rows: Sequence[Row]) -> list[str]:
    """Names of the swept values, in the order in which they were given."""
    return list(dict.fromkeys(axis for row in rows for axis in row.values))


def terminal_table(rows: Sequence[Row], title: str = "") -> Table:
    """The jobs for people; a column for each swept key."""
    from rich.table import Table

    table = Table(title=title or None, title_justify="left")
    axes = axes_of(rows)
    has_test = any(r.test is not None for r in rows)
    table.add_column("job", justify="right")
    for axis in axes:
        table.add_column(_header(axis, axes))
    for column in ("best val/acc", *(["test/acc"] if has_test else []), "epochs", "CPU-hours"):
        table.add_column(column, justify="right")
    table.add_column("state")
    table.add_column("run", no_wrap=True)
    top = max((r.best for r in rows if r.best is not None), default=None)
    for r in rows:
        best = text(r.best, ".4f")
        cells = [str(r.number), *(_short(r.values.get(axis)) for axis in axes)]
        cells.append(f"[bold]{best}[/bold]" if r.best is not None and r.best == top else best)
        cells += [text(r.test, ".4f")] if has_test else []
        cells += [text(r.epochs, ".0f"), text(r.cpu_hours, ".3g"), r.state, r.run_id[:8]]
        table.add_row(*cells)
    return table


def text(value: float | None, form: str) -> str:
    """A number for people; a dash where there is none."""
    return "–" if value is None else format(value, form)


def _header(axis: str, axes: Sequence[str]) -> str:
    """The last part of a key, if no other ends the same way."""
    last = axis.rpartition(".")[2]
    return axis if sum(a.rpartition(".")[2] == last for a in axes) > 1 else last


def _short(value: Any) -> str:
    shown = "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return shown if len(shown) <= 24 else shown[:23] + "…"


@dataclass(frozen=True)
class Folds:
    """Accuracy over the folds of a cross-validation, for one setting of the other keys.

    ``val`` and ``test`` are (mean, sample standard deviation); the deviation of a single fold
    is NaN.
    """

    values: Mapping[str, Any]
    n: int
    val: tuple[float, float]
    test: tuple[float, float] | None
    rows: list[Row] = field(default_factory=list)


def folds_of(rows: Sequence[Row]) -> list[Folds]:
    """Mean and standard deviation over the folds, for each setting of the other swept keys.

    Empty where ``split.fold`` was not swept. Test accuracies are those on each fold's own
    held-out part; they are left out unless all finished folds have one.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row.done and row.best is not None and FOLD in row.values:
            others = {k: v for k, v in row.values.items() if k != FOLD}
            groups.setdefault(json.dumps(others, default=str), []).append(row)
    found = []
    for key, members in groups.items():
        val = [r.best for r in members if r.best is not None]
        test = [r.test for r in members if r.test is not None]
        whole = len(test) == len(members)
        found.append(
            Folds(
                json.loads(key),
                len(members),
                _spread(val),
                _spread(test) if whole else None,
                members,
            )
        )
    return found


def _spread(values: Sequence[float]) -> tuple[float, float]:
    return mean(values), stdev(values) if len(values) > 1 else float("nan")
