"""Do the pixels that a map marks matter? Deletion and insertion curves.

After Petsiuk et al. 2018 (arXiv 1806.07421): the most important pixels are taken away first, or put
back first, and the score of the predicted class is followed. A good map makes it fall quickly, or
rise quickly. A random order is what any map has to beat.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from rb.explain.attribution import Explainer
from rb.explain.intervals import bootstrap_mean

RANDOM = "random order"


def fractions(steps: int) -> np.ndarray:
    """Fractions of the pixels, from 0 to 1, denser at the beginning where curves fall."""
    return np.linspace(0, 1, steps) ** 2


def deletion_curves(
    explainer: Explainer,
    panels: Tensor,
    attributions: Mapping[str, np.ndarray],
    steps: int,
    seed: int,
    tick: Callable[[int], Any] = lambda n: None,
) -> pd.DataFrame:
    """Score of the predicted class while pixels are replaced by the baseline, or come back.

    All panels of a stamp share one order. Pixels that speak against the class come last.

    Parameters
    ----------
    explainer
        The network and the baseline.
    panels
        Prepared panels (N, C, S, S).
    attributions
        By method: (N, C, S, S). A random order is added.
    steps
        Points of a curve.
    seed
        Of the random order.
    tick
        Called with the number of curves done since the last call.

    Returns
    -------
    DataFrame
        A row a method, kind (`deletion`, `insertion`), stamp and fraction, with the
        probability `score` and the class `called` (real or bogus).
    """
    shape = (len(panels), int(np.prod(panels.shape[1:])))
    classes = explainer.classes(panels)
    called = np.where(classes.cpu().numpy() == 0, "real", "bogus")
    baseline = explainer.baseline(panels).expand_as(panels)
    at = fractions(steps)
    counts = np.round(at * shape[1]).astype(int)
    random = np.random.default_rng(seed).random(shape)
    everything = {**attributions, RANDOM: random}
    tables = []
    for method, values in everything.items():
        order = np.argsort(-np.asarray(values).reshape(shape), axis=1, kind="stable")
        rank = np.empty_like(order)
        np.put_along_axis(rank, order, np.arange(shape[1])[None], axis=1)
        ranks = torch.from_numpy(rank.reshape(panels.shape)).to(panels.device)
        scores = {"deletion": np.empty((steps, shape[0])), "insertion": np.empty((steps, shape[0]))}
        for step, count in enumerate(counts):
            chosen = ranks < int(count)
            for kind, curve in scores.items():
                first, then = (baseline, panels) if kind == "deletion" else (panels, baseline)
                probability = explainer.probabilities(torch.where(chosen, first, then))
                curve[step] = probability.gather(1, classes[:, None])[:, 0].cpu().numpy()
        for kind, curve in scores.items():
            tables.append(
                pd.DataFrame(
                    {
                        "method": method,
                        "kind": kind,
                        "stamp": np.tile(np.arange(shape[0]), steps),
                        "called": np.tile(called, steps),
                        "fraction": np.repeat(at, shape[0]),
                        "score": curve.ravel(),
                    }
                )
            )
            tick(shape[0])
    return pd.concat(tables, ignore_index=True)


def curve_areas(curves: pd.DataFrame) -> pd.DataFrame:
    """Area under each stamp's curve, by the trapezoidal rule over the fraction of pixels.

    Returns
    -------
    DataFrame
        Columns `method`, `kind`, `called`, `stamp`, `area`.
    """
    keys = ["method", "kind", "called", "stamp"]
    ordered = curves.sort_values("fraction", kind="stable")
    rows = [
        (*key, float(np.trapezoid(part["score"], part["fraction"])))
        for key, part in ordered.groupby(keys, sort=False)
    ]
    return pd.DataFrame(rows, columns=[*keys, "area"])


def area_table(
    areas: pd.DataFrame, draws: int = 1000, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Mean areas and how they differ from a random order on the same stamps.

    Intervals are percentile bootstraps over stamps. For deletion a difference below zero
    is good, for insertion one above zero.
    """
    rows = []
    for (kind, called), part in areas.groupby(["kind", "called"], sort=False):
        by_method = part.pivot(index="stamp", columns="method", values="area")
        for method in part["method"].unique():
            mean = bootstrap_mean(by_method[method].to_numpy(), draws, confidence, seed)
            change = (by_method[method] - by_method[RANDOM]).to_numpy()
            against = bootstrap_mean(change, draws, confidence, seed)
            rows.append(
                {
                    "curve": kind,
                    "called": called,
                    "method": method.replace("_", " "),
                    "stamps": len(by_method),
                    "area": mean.value,
                    "low": mean.low,
                    "high": mean.high,
                    "minus random": np.nan if method == RANDOM else against.value,
                    "minus random, low": np.nan if method == RANDOM else against.low,
                    "minus random, high": np.nan if method == RANDOM else against.high,
                }
            )
    return pd.DataFrame(rows)
