"""Means and intervals over candidates of what the methods and checks gave for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from rb.explain.intervals import bootstrap_mean
from rb.explain.shares import share_columns

MEASURES = {"spearman": "Spearman", "ssim": "SSIM"}

Band = tuple[np.ndarray, np.ndarray, np.ndarray]
MeanShares = dict[str, dict[str, tuple[float, float, float]]]


def method_shares(
    shares: Mapping[str, np.ndarray],
    channels: Sequence[str],
    draws: int,
    confidence: float,
    seed: int,
) -> MeanShares:
    """Mean share and its limits by method and panel, from shares (n, C) by method."""
    found: MeanShares = {}
    for method, values in shares.items():
        found[method] = {}
        for column, channel in enumerate(channels):
            mean = bootstrap_mean(values[:, column], draws, confidence, seed)
            found[method][channel] = (mean.value, mean.low, mean.high)
    return found


def method_share_table(
    shares: Mapping[str, np.ndarray],
    channels: Sequence[str],
    means: MeanShares,
    draws: int,
    confidence: float,
    seed: int,
) -> pd.DataFrame:
    """Mean shares by method, and how often its winner is that of the first method."""
    first = next(iter(shares))
    rows = []
    for method, values in shares.items():
        row: dict[str, object] = {"method": method.replace("_", " "), "candidates": len(values)}
        for channel, column in zip(channels, share_columns(channels), strict=True):
            mean, low, high = means[method][channel]
            row |= {column: round(mean, 3), f"{column}, limits": f"{low:.3f} – {high:.3f}"}
        known = np.isfinite(values).all(1) & np.isfinite(shares[first]).all(1)
        same = (values[known].argmax(1) == shares[first][known].argmax(1)).astype(float)
        agree = bootstrap_mean(same, draws, confidence, seed)
        row[f"winner as by {first.replace('_', ' ')}, %"] = round(100 * agree.value, 1)
        row["without a map"] = int((~np.isfinite(values).all(1)).sum())
        rows.append(row)
    return pd.DataFrame(rows)


def likeness_curves(
    rows: pd.DataFrame, draws: int, confidence: float, seed: int
) -> tuple[dict[str, dict[str, Band]], list[str], dict[str, dict[str, float]]]:
    """Curves for a figure from `rb.explain.randomisation.randomisation`.

    Returns
    -------
    curves
        By measure and method: mean, lower and upper limit at each stage.
    layers
        Names of the stages.
    floors
        By measure and method: likeness of different candidates' maps.
    """
    stages = rows[rows["stage"] >= 0]
    order = stages.drop_duplicates("stage").sort_values("stage")
    curves: dict[str, dict[str, Band]] = {}
    floors: dict[str, dict[str, float]] = {}
    for column, measure in MEASURES.items():
        curves[measure], floors[measure] = {}, {}
        for method, part in stages.groupby("method", sort=False):
            means = [
                bootstrap_mean(
                    part.loc[part["stage"] == stage, column].to_numpy(), draws, confidence, seed
                )
                for stage in order["stage"]
            ]
            curves[measure][str(method)] = (
                np.array([m.value for m in means]),
                np.array([m.low for m in means]),
                np.array([m.high for m in means]),
            )
            others = rows.loc[(rows["method"] == method) & (rows["stage"] == -1), column]
            floors[measure][str(method)] = float(others.mean()) if len(others) else np.nan
    return curves, order["layer"].tolist(), floors


def likeness_table(rows: pd.DataFrame, draws: int, confidence: float, seed: int) -> pd.DataFrame:
    """Mean likeness with intervals by method and stage."""
    found = []
    for (method, stage, layer), part in rows.groupby(["method", "stage", "layer"], sort=False):
        row: dict[str, object] = {
            "method": str(method).replace("_", " "),
            "random layers": "none" if stage == -1 else int(stage),
            "compared with": "another candidate's map"
            if stage == -1
            else f"random from {layer} on",
            "candidates": len(part),
        }
        if stage == 0:
            continue
        for column, measure in MEASURES.items():
            mean = bootstrap_mean(part[column].to_numpy(), draws, confidence, seed)
            row |= {
                measure: round(mean.value, 3),
                f"{measure}, limits": f"{mean.low:.3f} – {mean.high:.3f}",
            }
        found.append(row)
    return pd.DataFrame(found)


def bands(
    curves: pd.DataFrame, draws: int, confidence: float, seed: int
) -> tuple[dict[tuple[str, str], dict[str, Band]], np.ndarray]:
    """Curves for a figure from `rb.explain.deletion.deletion_curves`.

    Returns
    -------
    bands
        By kind and call, then by method: mean, lower and upper limit at each fraction.
    fractions
        Where.
    """
    found: dict[tuple[str, str], dict[str, Band]] = {}
    for (kind, called, method), part in curves.groupby(["kind", "called", "method"], sort=False):
        table = part.pivot(index="fraction", columns="stamp", values="score").sort_index()
        means = [bootstrap_mean(row, draws, confidence, seed) for row in table.to_numpy()]
        found.setdefault((str(kind), str(called)), {})[str(method)] = (
            np.array([m.value for m in means]),
            np.array([m.low for m in means]),
            np.array([m.high for m in means]),
        )
    ordered = {
        (kind, call): found[kind, call]
        for kind in ("deletion", "insertion")
        for call in ("real", "bogus")
        if (kind, call) in found
    }
    return ordered, np.sort(curves["fraction"].unique())
