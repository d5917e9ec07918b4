"""The parent run of a sweep."""

from __future__ import annotations

import os
import sys
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

SWEPT_VARIABLE = "RB_SWEPT_KEYS"


class SweepParent(Callback):
    """Hydra callback: one MLflow run around the jobs of ``train.py -m``.

    It creates database and experiment before any job starts, and passes its ID on to the
    jobs, also to those in other processes, through the environment.
    """

    def __init__(self) -> None:
        self._context: Any = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Open the parent run."""
        from rb.tracking import EXPERIMENT_TAG, PARENT_VARIABLE, SIZE_TAG, Tracking

        tracking = OmegaConf.to_container(config.tracking, resolve=True)
        assert isinstance(tracking, dict)
        overrides = list(config.hydra.overrides.task)
        print("starting the sweep …", file=sys.stderr)
        self._tracking = Tracking(tracking["uri"], config.paths.runs, tracking["experiment"])
        experiment, size = config.get("experiment"), config.get("size")
        name = config.name or "sweep: " + " ".join(overrides)
        tags = {"overrides": " ".join(overrides)}
        tags |= {EXPERIMENT_TAG: experiment} if experiment else {}
        tags |= {SIZE_TAG: size["name"]} if size else {}
        self._context = self._tracking.run(name, "sweep", tags)
        self._run = self._context.__enter__()
        os.environ[PARENT_VARIABLE] = self._run.run_id
        os.environ[SWEPT_VARIABLE] = " ".join(_swept_keys(overrides))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the table of the jobs and close the parent run."""
        from rb.tracking import PARENT_VARIABLE

        if self._context is None:
            return
        for variable in (PARENT_VARIABLE, SWEPT_VARIABLE):
            os.environ.pop(variable, None)
        error = sys.exc_info()
        try:
            self._summarise()
        finally:
            self._context.__exit__(*error)
            self._context = None

    def _summarise(self) -> None:
        from rich.table import Table

        from rb.console import make_console

        children = self._tracking.runs(parent=self._run.run_id)[::-1]
        table = Table(title=f"sweep {self._run.run_id}")
        for column in ("run", "name", "state", "best val/acc", "epochs", "CPU-hours"):
            table.add_column(column, justify="left" if column in ("run", "name") else "right")
        rows = []
        for child in children:
            metrics = child.data.metrics
            row = {
                "run": child.info.run_id,
                "name": child.info.run_name,
                "state": child.data.tags.get("rb.state", child.info.status.lower()),
                "best/val_acc": metrics.get("best/val_acc"),
                "epochs": metrics.get("epochs"),
                "cpu_hours": metrics.get("cost/train_cpu_hours"),
            }
            rows.append(row)
            table.add_row(
                child.info.run_id[:8],
                child.info.run_name,
                row["state"],
                _text(row["best/val_acc"], ".4f"),
                _text(row["epochs"], ".0f"),
                _text(row["cpu_hours"], ".3f"),
            )
        make_console().print(table)
        self._run.log_json(rows, "jobs.json")
        done = [r["best/val_acc"] for r in rows if r["best/val_acc"] is not None]
        self._run.log_metrics(
            {
                "jobs/finished": sum(r["state"] == "finished" for r in rows),
                "jobs/failed": sum(r["state"] == "failed" for r in rows),
            }
            | ({"best/val_acc": max(done)} if done else {})
        )


def _text(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _swept_keys(overrides: list[str]) -> list[str]:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(overrides)
    return [o.key_or_group for o in parsed if o.is_sweep_override()]
