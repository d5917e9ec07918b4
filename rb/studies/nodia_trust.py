"""When the networks of the study can be trusted: by what a candidate is, and how probable."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from rb.evaluation.repeats import Repeats
from rb.figures.classification.scores import calibration_figure
from rb.metrics.binned import calibration_bins
from rb.metrics.classification import REAL, calibration_error, known
from rb.metrics.intervals import Estimate
from rb.metrics.repeated import CALLED, estimates, measure_calls
from rb.report.sections import Picture, Section
from rb.uncertainty.calibration import at_temperature, fit_temperature
from rb.uncertainty.operating_points import threshold_for

BINS: dict[str, tuple[str, tuple[float, ...]]] = {
    "snr": ("SNR", (0, 5, 7, 10, 20, 40, np.inf)),
    "mag": ("magnitude", (0, 21, 22, 23, 24, np.inf)),
    "host_sep_arcsec": ("host separation, arcsec", (0, 0.2, 0.5, 1, 2, np.inf)),
    "seeing_ratio": ("seeing of search over template", (0, 0.8, 1, 1.25, 1.5, np.inf)),
}
"""By property: its name, and edges of its bins."""
POINTS = (
    ("fpr", 0.01), ("fpr", 0.05), ("purity", 0.95), ("purity", 0.99),
    ("completeness", 0.9), ("completeness", 0.99),
)  # fmt: skip
FEWEST = 20
"""Candidates of a bin or kind that get a row."""


def shown(estimate: Estimate, sign: str = "") -> str:
    """Value and half its interval, four digits."""
    if not estimate.defined:
        return "–"
    value = round(estimate.value, 4) + 0.0  # no -0.0000
    return f"{value:{sign}.4f} ± {estimate.half_width:.4f}"


def conditions(repeats: Repeats, draws: int, confidence: float) -> Section:
    """Accuracy by SNR, magnitude, host separation and seeing, and its difference to the best."""
    best, candidates = repeats.best("dia"), repeats.candidates
    if {"seeing_srch", "seeing_tmpl"} <= set(candidates):
        ratio = candidates["seeing_srch"] / candidates["seeing_tmpl"]
        candidates = candidates.assign(seeing_ratio=ratio)
    tables = {}
    for column, (words, edges) in BINS.items():
        if column not in candidates:
            continue
        bins = pd.cut(candidates[column], list(edges), right=False)
        rows = [
            {words: f"{bin.left:g} to {bin.right:g}".replace("to inf", "and more")} | row
            for bin in bins.cat.categories
            for row in _of_bin(repeats, (bins == bin).to_numpy(), best, draws, confidence)
        ]
        if rows:
            tables[f"By {words}"] = pd.DataFrame(rows)
    paragraph = (
        f"Trained on {repeats.largest:,} candidates, called real at p_real of one half, which "
        "nothing was tuned for. Where all are right, resampling cannot give an interval. Only "
        "real candidates with a host have a separation. Differences are to "
        f"{best}, candidate by candidate."
    )
    return Section("conditions", "What a candidate is like", [paragraph], (), tables)


def _of_bin(
    repeats: Repeats, rows: np.ndarray, best: str | None, draws: int, confidence: float
) -> list[dict[str, Any]]:
    if rows.sum() < FEWEST:
        return []
    labels, groups = (repeats.candidates[name].to_numpy()[rows] for name in ("label", "group"))
    found = {
        model: measure_calls(
            labels, repeats.of(model, repeats.largest)[:, rows] >= 0.5, groups, draws
        )
        for model in repeats.repeated
    }
    out = []
    for model, one in found.items():
        own = estimates(one, None, confidence, CALLED)
        row: dict[str, Any] = {
            "real": int((labels == REAL).sum()),
            "bogus": int((labels != REAL).sum()),
        }
        row |= {"model": model, "accuracy": shown(own["accuracy"])}
        if best is not None:
            same = model == best
            against = estimates(one, found[best], confidence, CALLED)["accuracy"]
            row[f"minus {best}"] = "" if same else shown(against, "+")
        out.append(row | {name: shown(own[name]) for name in ("completeness", "fpr")})
    return out


def calibration(repeats: Repeats, confidence: float) -> Section:
    """A temperature for each training, and the calibration error before and after."""
    title = "Are the scores probabilities?"
    validation = repeats.validation
    if validation is None:
        return Section("calibration", title)
    labels, n = repeats.candidates["label"].to_numpy(), repeats.largest
    rows, diagrams = [], {}
    shown_models = {repeats.best("dia"), repeats.best("nodia")}
    for model in repeats.table[repeats.table["n_train"] == n]["model"].unique():
        tested = repeats.of(model, n)
        fitted = [
            fit_temperature(validation.candidates["label"].to_numpy(), one)
            for one in validation.of(model, n)
        ]
        after = [at_temperature(one, t) for one, t in zip(tested, fitted, strict=True)]
        for i, (before, calibrated) in enumerate(zip(tested, after, strict=True)):
            row: dict[str, Any] = {
                "model": model,
                "training": i + 1,
                "temperature": f"{fitted[i]:.3f}",
            }
            for when, scores in (("before", before), ("after", calibrated)):
                error = calibration_error(*known(labels, scores), confidence=confidence)
                row[f"ECE {when}"] = f"{error.value:.4f} ({error.low:.4f} to {error.high:.4f})"
                row[f"log loss {when}"] = f"{_log_loss(labels, scores):.4f}"
            rows.append(row)
        if model in shown_models:
            diagrams[f"{model}, as trained"] = calibration_bins(labels, tested[0])
            diagrams[f"{model}, calibrated"] = calibration_bins(labels, after[0])
    paragraph = (
        "One temperature for each training, fitted to the validation candidates, and the expected "
        "calibration error on the test candidates, 15 bins; its interval holds the scatter of "
        "candidates. Labels are smoothed in training, so "
        "that networks say less than they know."
    )
    picture = Picture(
        "calibration",
        calibration_figure(diagrams),
        "Share of real candidates against p_real, of the first training of each.",
    )
    return Section(
        "calibration", title, [paragraph], [picture], {"Calibration": pd.DataFrame(rows)}
    )


def _log_loss(labels: np.ndarray, scores: np.ndarray) -> float:
    real, p = known(labels, scores)
    return float(-np.log(np.clip(np.where(real, p, 1 - p), 1e-9, 1)).mean())


def operating_points(repeats: Repeats, draws: int, confidence: float) -> Section:
    """What thresholds that validation candidates promise give on test candidates, by SNR."""
    title = "Operating points"
    validation, candidates = repeats.validation, repeats.candidates
    models = [m for m in (repeats.best("dia"), repeats.best("nodia")) if m is not None]
    if validation is None or "snr" not in candidates:
        return Section("points", title)
    for_choice, n = validation.candidates["label"].to_numpy(), repeats.largest
    labels, groups = (candidates[name].to_numpy() for name in ("label", "group"))
    bins = pd.cut(candidates["snr"], [0, 5, 7, 10, 20, np.inf], right=False)
    parts = {"all": np.ones(len(candidates), dtype=bool)}
    for bin in bins.cat.categories:
        name = f"{bin.left:g} to {bin.right:g}".replace("to inf", "and more")
        parts[name] = (bins == bin).to_numpy()
    rows = []
    for target, value in POINTS:
        for model in models:
            thresholds = np.array(
                [threshold_for(target, value, for_choice, one) for one in validation.of(model, n)]
            )
            called = repeats.of(model, n) >= thresholds[:, None]
            for part, chosen in parts.items():
                if chosen.sum() < FEWEST:
                    continue
                found = measure_calls(labels[chosen], called[:, chosen], groups[chosen], draws)
                own = estimates(found, None, confidence, CALLED)
                rows.append(
                    {"wanted": f"{target} {value:g}", "model": model, "SNR": part,
                     "threshold": f"{thresholds.mean():.3f}"}
                    | {name: shown(own[name]) for name in ("completeness", "purity", "fpr")}
                )  # fmt: skip
    paragraph = (
        "A threshold for each training, which keeps its promise on all validation candidates "
        "together and loses least, and what it gives on test candidates; one threshold for all SNR."
    )
    tables = {"Operating points": pd.DataFrame(rows)}
    return Section("points", title, [paragraph], (), tables)
