"""What a report shows of a feature forest beside its scores."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from rb.errors import UserError
from rb.evaluation.cross_validation import operating_points
from rb.evaluation.results import unique_names
from rb.io.files import safe_name
from rb.metrics.intervals import Estimate
from rb.metrics.numbers import percent
from rb.report.sections import Picture, Section

if TYPE_CHECKING:
    from rb.evaluation.scored_run import ScoredRun
    from rb.tracking import Tracking

_RATES = {"mdr": "MDR (real missed)", "fpr": "FPR (bogus let through)", "accuracy": "accuracy"}
_MOST = 15  # features in the table; the picture has all


def forest_sections(evaluated: list[ScoredRun], tracking: Tracking) -> list[Section]:
    """A section a forest: cross-validation, importances, operating points.

    Parameters
    ----------
    evaluated
        All that was evaluated; networks are passed over.
    tracking
        Where the tables of the runs are.
    """
    names = unique_names([one.result for one in evaluated])
    return [
        section
        for name, one in zip(names, evaluated, strict=True)
        if not one.result.sees_stamps and (section := _section(name, one, tracking)) is not None
    ]


def _section(name: str, one: ScoredRun, tracking: Tracking) -> Section | None:
    from rb.figures.classification.importance import importance_figure

    model, result = one.chosen.model, one.result
    tables: dict[str, pd.DataFrame] = {}
    pictures: list[Picture] = []
    note = model.note_on(one.stamp_set)
    paragraphs = [f"It knows {model.inputs}{f'; it {note}' if note else ''}."]
    metrics = one.chosen.metrics or {}
    if "cv/accuracy" in metrics:
        settings = (one.chosen.config or {}).get("model", {})
        paragraphs.append(
            f"{settings.get('folds', '')}-fold cross-validation outside the test set: accuracy "
            f"{_with_limits(metrics, 'accuracy')}, AUC {_with_limits(metrics, 'auc')}. The 95 % "
            "intervals cover the scatter of the candidates, not that of the training."
        )
    importance = _table(one, tracking, "tables/importance.csv")
    if importance is not None:
        importance["group"] = importance["group"].fillna("")
        key = safe_name(name)
        caption = (
            "What the AUC loses where a feature is shuffled among held-out candidates: mean and "
            "standard deviation over folds and shuffles; linear below 0.001, logarithmic above. "
            "Correlated features cover for each other; diamonds: their whole group (letters) "
            "shuffled together."
        )
        pictures.append(Picture(f"importance_{key}", importance_figure(importance), caption))
        shown = importance.head(_MOST)[["feature", "auc_loss", "auc_loss_spread", "group"]]
        tables[f"The {len(shown)} features that matter most"] = shown.rename(
            columns={
                "auc_loss": "AUC lost",
                "auc_loss_spread": "spread",
                "group": "correlated group",
            }
        )
    if {0, 1} <= set(result.labels.tolist()):
        points = operating_points(result.labels, result.p_real)
        title = "Operating points on these candidates, as in Goldstein et al. (2015)"
        tables[title] = pd.DataFrame(
            {"chosen by": points["chosen_by"], "threshold": points["threshold"]}
            | {words: _percents(points, key) for key, words in _RATES.items()}
        )
    if not tables:
        return None
    return Section(f"forest-{name}", f"Features: {name}", paragraphs, pictures, tables)


def _percents(points: pd.DataFrame, key: str) -> list[str]:
    values = points[[key, f"{key}_low", f"{key}_high"]].to_numpy(dtype=float)
    return [percent(Estimate(*row)) for row in values.tolist()]


def _with_limits(metrics: dict[str, float], key: str) -> str:
    low, high = metrics.get(f"cv_low/{key}"), metrics.get(f"cv_high/{key}")
    limits = "" if low is None or high is None else f" [{low:.4f}, {high:.4f}]"
    return f"{metrics[f'cv/{key}']:.4f}{limits}"


def _table(one: ScoredRun, tracking: Tracking, file: str) -> pd.DataFrame | None:
    """A table of the run; None for files, and for runs that were told not to make it."""
    if not one.chosen.run_id:
        return None
    with tempfile.TemporaryDirectory() as folder:
        try:
            return pd.read_csv(Path(tracking.artifact(one.chosen.run_id, file, folder)))
        except UserError:
            return None
