"""How scores move when stamps are perturbed as they are in surveys; see docs/rubin.md."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from rb.errors import UserError
from rb.evaluation.perturbations import PERTURBATIONS, Strength
from rb.evaluation.results import unique_names
from rb.evaluation.scored_run import ScoredRun, score_runs
from rb.models.contract import sees_stamps
from rb.report.sections import Picture, Section
from rb.report.terminal import frame_table
from rb.settings import Choice, Items, OrNull, Rule, Whole, check, read
from rb.stamps.layout import BOGUS, REAL
from rb.tracking import Tracking

UNDISTURBED = "undisturbed"
_SETTINGS: dict[str, Rule] = {
    "candidates": Whole(1),
    "seed": Whole(0),
    "perturbations": OrNull(Items(Choice(tuple(PERTURBATIONS)), least=1, distinct=True)),
}


def sections(config: dict[str, Any], tracking: Tracking, console: Console) -> list[Section]:
    """Score perturbed copies of the candidates with each run, beside the undisturbed ones.

    Raises
    ------
    UserError
        If a setting is wrong, or none of the runs looks at stamps.
    """
    from rb.figures.studies.stress import stress_figure

    settings = check(config["study"], _SETTINGS, "study")
    by = read(Strength, config["study"]["strength"] or {}, "study.strength")
    names = settings["perturbations"] or tuple(PERTURBATIONS)
    scored = score_runs(config | {"timing": False}, tracking, console)
    runs = [one for one in scored if sees_stamps(one.chosen.model.inputs)]
    if not runs:
        raise UserError("study=stress perturbs stamps, and none of the runs looks at any")
    tables, scores = {}, {}
    for name, run in zip(unique_names([r.result for r in runs]), runs, strict=True):
        scores[name], labels = _scores(run, names, by, settings)
        tables[name] = _table(scores[name], labels, run.result.threshold)
        console.print(frame_table(tables[name], title=name))
    what = pd.DataFrame(
        {"perturbation": list(names), "what it is": [PERTURBATIONS[n].what for n in names]}
    )
    left_out = [one.result.name for one in scored if one not in runs]
    notes = [
        "Each candidate is scored as it is and perturbed. Changed side: called real before and "
        "bogus after, or the other way round, at the run's threshold. A perturbation that leaves "
        "nothing to see should give no high scores."
    ]
    if left_out:
        notes.append(f"Left out, because they do not look at stamps: {', '.join(left_out)}.")
    caption = (
        "Median and 5 to 95 % of p_real, undisturbed and perturbed; the line is the threshold."
    )
    picture = Picture(
        "stress",
        stress_figure(scores, {n: r.result.threshold for n, r in zip(scores, runs, strict=True)}),
        caption,
    )
    return [
        Section("stress", "Scores of perturbed stamps", notes, [picture], tables),
        Section("perturbations", "What was done", (), (), {"Perturbations": what}),
    ]


def _scores(
    run: ScoredRun, names: tuple[str, ...], by: Strength, settings: dict[str, Any]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """p_real by perturbation, the undisturbed first, and the labels of those candidates."""
    rng = np.random.default_rng(settings["seed"])
    n = min(len(run.rows), settings["candidates"])
    picked = np.sort(rng.choice(len(run.rows), n, replace=False))
    model = run.chosen.model
    assert sees_stamps(model.inputs)
    stamps = run.stamp_set.read(run.rows[picked], model.inputs)
    found = {UNDISTURBED: model.p_real(stamps)}
    found |= {name: model.p_real(PERTURBATIONS[name].make(stamps, by)) for name in names}
    return found, run.result.labels[picked]


def _table(scores: dict[str, np.ndarray], labels: np.ndarray, threshold: float) -> pd.DataFrame:
    """A row a perturbation: how the scores moved, and what is called real of each class."""
    before = scores[UNDISTURBED]
    rows = []
    for name, p_real in scores.items():
        low, middle, high = np.quantile(p_real, (0.05, 0.5, 0.95))
        row: dict[str, Any] = {
            "perturbation": name,
            "candidates": len(p_real),
            "median shift": float(np.median(p_real - before)),
            "changed side": float(np.mean((p_real >= threshold) != (before >= threshold))),
            "p_real 5 %": low,
            "median": middle,
            "95 %": high,
        }
        for label, what in ((REAL, "real"), (BOGUS, "bogus")):
            these = p_real[labels == label]
            if len(these):
                row[f"{what} called real"] = float(np.mean(these >= threshold))
        rows.append(row)
    return pd.DataFrame(rows).round(3)
