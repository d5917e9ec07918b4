"""Does a classifier need the difference image? The same recipe with it and without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from rb.evaluation.repeats import Repeats, from_folder, from_runs
from rb.evaluation.scored_run import score_runs
from rb.figures.studies.learning import learning_figure
from rb.metrics.classification import BOGUS, REAL
from rb.metrics.intervals import Estimate
from rb.metrics.repeated import MEASURES, Trainings, estimates, measure, measure_together
from rb.report.sections import Picture, Section
from rb.studies.nodia_trust import (
    FEWEST,
    calibration,
    conditions,
    operating_points,
    shown,
)
from rb.tracking import Tracking

FAINT_SNR = (5.0, 7.0)
EQUAL = 0.003
"""Differences of accuracy within which a network counts as not worse."""

_WORDS = {
    "accuracy": "accuracy",
    "auc": "AUC",
    "mdr_at_fpr_0.01": "missed at FPR .01",
    "mdr_at_fpr_0.05": "missed at FPR .05",
    "completeness": "completeness at purity .95",
}


def sections(config: dict[str, Any], tracking: Tracking, console: Console) -> list[Section]:
    """Table, differences, learning curves, and where each network fails.

    Parameters
    ----------
    config : dict
        As composed from ``conf/evaluate.yaml`` with ``study=nodia``.
    tracking : Tracking
        Where the runs are.
    console : Console
        Where progress goes.

    Raises
    ------
    UserError
        If there are no runs, they were tested on different candidates, or a setting makes no sense.
    """
    study = config["study"]
    if study["scores"]:
        repeats = from_folder(Path(study["scores"]))
    else:
        repeats = from_runs(score_runs(config | {"timing": False}, tracking, console))
    confidence = config["confidence"]
    measured = _measure(repeats, study["draws"])
    best = repeats.best("dia")
    table = _quality(repeats, measured, confidence)
    found = [
        Section(
            "quality",
            "With and without the difference image",
            [
                f"{len(repeats.candidates):,} test candidates of "
                f"{repeats.candidates['group'].nunique():,} exposures, which no network was "
                "trained on. Each number is the mean over trainings that differ in their seed; "
                "its interval holds the scatter of the trainings as well as that of the test set "
                "(whole exposures resampled). A model that was trained once has the latter alone."
            ],
            [_learning(table)],
            {"Quality": _shown(table)},
        ),
        _differences(repeats, measured, best, confidence),
        _treatments(repeats, best, study["draws"], confidence),
        _faint(repeats, study["draws"], confidence),
        _kinds(repeats),
        conditions(repeats, study["draws"], confidence),
        calibration(repeats, confidence),
        operating_points(repeats, study["draws"], confidence),
    ]
    return [section for section in found if section.tables]


def _kinds_of(repeats: Repeats) -> list[tuple[str, int]]:
    rows = repeats.table[["model", "n_train"]].drop_duplicates()
    return [(str(model), int(n)) for model, n in rows.to_numpy()]


def _measure(
    repeats: Repeats, draws: int, rows: np.ndarray | None = None
) -> dict[tuple[str, int], Trainings]:
    candidates = repeats.candidates
    rows = np.ones(len(candidates), dtype=bool) if rows is None else rows
    labels, groups = (candidates[name].to_numpy()[rows] for name in ("label", "group"))
    return {
        (model, n): measure(labels, repeats.of(model, n)[:, rows], groups, draws=draws)
        for model, n in _kinds_of(repeats)
    }


def _quality(
    repeats: Repeats, measured: dict[tuple[str, int], Trainings], confidence: float
) -> pd.DataFrame:
    rows = []
    for (model, n), one in measured.items():
        row: dict[str, Any] = {"model": model, "n_train": n, "trainings": len(one.values)}
        for name, estimate in estimates(one, confidence=confidence).items():
            row |= {name: estimate.value, f"{name}_low": estimate.low}
            row |= {f"{name}_high": estimate.high}
        rows.append(row)
    return pd.DataFrame(rows).sort_values(["n_train", "accuracy"], ascending=False)


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    out = table[["model", "n_train", "trainings"]].copy()
    for name in MEASURES:
        low, high = table[f"{name}_low"], table[f"{name}_high"]
        out[_WORDS[name]] = [
            f"{v:.4f} ± {(b - a) / 2:.4f}" for v, a, b in zip(table[name], low, high, strict=True)
        ]
    return out


def _learning(table: pd.DataFrame) -> Picture:
    shown = {name: _WORDS[name] for name in ("accuracy", "mdr_at_fpr_0.01")}
    return Picture(
        "learning",
        learning_figure(table, shown),
        "Quality against the size of the training set; bars are the intervals of the table.",
    )


def _differences(
    repeats: Repeats,
    measured: dict[tuple[str, int], Trainings],
    best: str | None,
    confidence: float,
) -> Section:
    title = "Differences to the best network with the difference image"
    if best is None:
        return Section("differences", title)
    rows = []
    for (model, n), one in measured.items():
        if model == best or (best, n) not in measured:
            continue
        found = estimates(one, measured[best, n], confidence)
        accuracy = found["accuracy"]
        row: dict[str, Any] = {"model": model, "n_train": n}
        row |= {_WORDS[name]: shown(found[name], "+") for name in MEASURES}
        row["verdict"] = _verdict(accuracy)
        rows.append(row)
    paragraph = (
        f"Minus {best}, which of the networks with the difference image has the best validation "
        "accuracy; candidate by candidate, in the same units as above. A network is not worse if "
        f"the interval of its accuracy lies above −{EQUAL}."
    )
    tables = {f"Minus {best}": pd.DataFrame(rows)} if rows else {}
    return Section("differences", title, [paragraph], (), tables)


def _verdict(accuracy: Estimate) -> str:
    if accuracy.low > 0:
        return "better"
    if accuracy.low >= -EQUAL:
        return "not worse"
    return "worse" if accuracy.high < 0 else "open"


def _treatments(repeats: Repeats, best: str | None, draws: int, confidence: float) -> Section:
    """One look or eight, one network or all seeds together: what it costs, and what is gained."""
    title = "Cheaper and dearer"
    if repeats.plain is None or best is None:
        return Section("treatments", title)
    labels, groups = (repeats.candidates[name].to_numpy() for name in ("label", "group"))
    rows = []
    for n in sorted(repeats.table["n_train"].unique(), reverse=True):
        found: dict[tuple[str, str], Trainings] = {}
        costs: dict[tuple[str, str], float] = {}
        of_size = repeats.table[repeats.table["n_train"] == n]
        for looks, scores in ((1, repeats.plain), (8, repeats)):
            for model, group in of_size.groupby("model", sort=False):
                own, mflop = scores.of(model, n), np.nan
                if "mflop" in group:
                    mflop = looks * float(group["mflop"].iloc[0])
                each, together = (f"{how}, {looks}" for how in ("each", "together"))
                found[each, model] = measure(labels, own, groups, draws=draws)
                costs[each, model] = mflop
                if len(own) > 1:
                    found[together, model] = measure_together(labels, own, groups, draws)
                    costs[together, model] = mflop * len(own)
        for (treatment, model), one in found.items():
            networks, looks_shown = treatment.split(", ")
            row: dict[str, Any] = {"n_train": n, "looks": looks_shown, "model": model}
            row["networks"] = len(repeats.of(model, n)) if networks == "together" else 1
            row["MFLOP"] = f"{costs[treatment, model]:.0f}"
            row["accuracy"] = shown(estimates(one, None, confidence)["accuracy"])
            for words, key in (
                (f"minus {best}, treated alike", (treatment, best)),
                (f"minus {best}, one network", ("each, 8", best)),
            ):
                other = found.get(key)
                difference = None
                if other is not None and key != (treatment, model):
                    difference = estimates(one, other, confidence)["accuracy"]
                row[words] = "" if difference is None else shown(difference, "+")
                if words.endswith("alike"):
                    row["verdict"] = "" if difference is None else _verdict(difference)
            rows.append(row)
    paragraph = (
        "The trunk of a network looks at a stamp once, or at its eight turned and mirrored copies; "
        "the probabilities of the trainings of a kind are averaged, or each stands alone. The "
        "scatter of such a mean by training is estimated by leaving out each of its members. MFLOP "
        "a candidate, at most. The verdict is on networks that are treated alike."
    )
    return Section("treatments", title, [paragraph], (), {"Treatments": pd.DataFrame(rows)})


def _faint(repeats: Repeats, draws: int, confidence: float) -> Section:
    low, high = FAINT_SNR
    title = f"Faint candidates, SNR {low:g} to {high:g}"
    if "snr" not in repeats.candidates:
        return Section("faint", title)
    snr = repeats.candidates["snr"].to_numpy(dtype=float)
    rows = (snr >= low) & (snr < high)
    labels = repeats.candidates["label"].to_numpy()[rows]
    if min((labels == REAL).sum(), (labels == BOGUS).sum()) < FEWEST:
        return Section("faint", title)
    table = _quality(repeats, _measure(repeats, draws, rows), confidence)
    paragraph = f"{(labels == REAL).sum():,} real and {(labels == BOGUS).sum():,} bogus ones."
    return Section("faint", title, [paragraph], (), {title: _shown(table)})


def _kinds(repeats: Repeats) -> Section:
    title = "Where they are right"
    if "kind" not in repeats.candidates:
        return Section("kinds", title)
    candidates = repeats.candidates
    most = repeats.largest
    real = candidates["label"].to_numpy() == REAL
    rows = []
    for kind, members in candidates.groupby("kind").indices.items():
        if len(members) < FEWEST:
            continue
        row: dict[str, Any] = {"kind": kind, "candidates": len(members)}
        for model in repeats.repeated:
            right = (repeats.of(model, most)[:, members] >= 0.5) == real[members]
            row[model] = f"{100 * right.mean():.1f} %"
        rows.append(row)
    paragraph = f"Share of candidates of each kind classified correctly, {most:,} to train."
    tables = {"Right, by what it is": pd.DataFrame(rows)} if rows else {}
    return Section("kinds", title, [paragraph], (), tables)
