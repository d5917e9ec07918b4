"""Table 10: kernel sizes and batch size of noDIA, row by row, as a grid and as a random search."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rb.metrics.intervals import Estimate
from rb.metrics.numbers import percent
from rb.paper.parts import Line, Part, Topic, section, share
from rb.paper.runs import Experiment, PaperRuns
from rb.paper.values import TABLE_1, TABLE_10
from rb.report.page import COMMAND
from rb.report.sections import Picture, Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Setting = tuple[int, int, int, int]

_PAPER = {(r.kernel_1, r.kernel_2, r.kernel_3, r.batch_size): r.accuracy for r in TABLE_10}
_TOPIC = Topic(
    "table-10",
    "Table 10: kernel and batch sizes",
    f"The paper tried {len(TABLE_10)} combinations of the kernels of noDIA's three convolutions "
    f"and the batch size; the test accuracy went from {100 * min(_PAPER.values()):.2f} to "
    f"{100 * max(_PAPER.values()):.2f} %, below the {share(TABLE_1['nodia'].test)} of Table 1.",
    "table10",
    "noDIA over Table 10",
    f"{100 * min(_PAPER.values()):.2f} to {100 * max(_PAPER.values()):.2f} %",
)
_SEARCHES = {"table10_grid": "The full grid", "table10_random": "Random search"}


def table10_part(runs: PaperRuns) -> Part:
    """Our rows beside the paper's, a heat map, and the wider searches where they were run."""
    found = runs.experiment(_TOPIC.experiment)
    extra, more = _searches(runs)
    if found is None:
        missing = _TOPIC.missing()
        return Part([*missing.sections, *extra], missing.lines)
    ours = _accuracies(runs, found)
    rows = [*_PAPER, *(s for s in ours if s not in _PAPER)]
    ranks = _ranks(_PAPER), _ranks({s: e.value for s, e in ours.items()})
    table = _settings(rows)
    table["paper (DES)"] = [f"{100 * _PAPER[s]:.2f} %" if s in _PAPER else "–" for s in rows]
    table["here"] = [percent(ours[s]) if s in ours else "–" for s in rows]
    table["rank, paper"] = [str(ranks[0].get(s, "–")) for s in rows]
    table["rank, here"] = [str(ranks[1].get(s, "–")) for s in rows]
    values = {s: e.value for s, e in ours.items() if e.defined}
    paragraphs = _agreement(ours)
    if more:
        commands = [f"{COMMAND}python train.py experiment={name} size=small" for name in more]
        paragraphs += ["Wider searches, not made yet:", *commands]
    picture = Picture(
        "table_10_heat_map",
        _heat_map({"Paper, DES": _PAPER, "Here": values}),
        "Test accuracy of noDIA by kernel sizes and batch size, each row in its own colour "
        "range; crossed out: not tried.",
    )
    first = _TOPIC.section(found, paragraphs, [picture], {"Table 10": table})
    reached = [v for v in values.values() if not math.isnan(v)]
    ours_text = f"{100 * min(reached):.2f} to {100 * max(reached):.2f} %" if reached else "–"
    what = f"noDIA over {len(reached)} rows of Table 10"
    line = Line(what, _TOPIC.paper, ours_text, found.data)
    return Part([first, *extra], [line])


def _accuracies(runs: PaperRuns, experiment: Experiment) -> dict[Setting, Estimate]:
    found: dict[Setting, Estimate] = {}
    for job in experiment.jobs:
        kernels = job.kernels
        if len(kernels) == 3:
            setting = (kernels[0], kernels[1], kernels[2], job.number("trainer.batch_size"))
            found[setting] = runs.accuracy(job)
    return found


def _ranks(accuracies: dict[Setting, float]) -> dict[Setting, int]:
    """1 for the best; among the paper's rows only."""
    known = {s: a for s, a in accuracies.items() if s in _PAPER and not math.isnan(a)}
    order = sorted(known, key=lambda s: -known[s])
    return {setting: position for position, setting in enumerate(order, 1)}


def _agreement(ours: dict[Setting, Estimate]) -> list[str]:
    """Whether the same settings are good here as in the paper, and what luck could do."""
    from scipy.stats import spearmanr

    common = [s for s in _PAPER if s in ours and ours[s].defined]
    if len(common) < 4:
        return []
    here = np.array([ours[s].value for s in common])
    if np.ptp(here) == 0:
        return []
    found = spearmanr(here, [_PAPER[s] for s in common])
    half = float(np.mean([ours[s].half_width for s in common]))
    return [
        f"Rank correlation of ours with the paper's over {len(common)} rows: Spearman "
        f"{found.statistic:.2f} (p = {found.pvalue:.2g}). Ours spread over "
        f"{100 * np.ptp(here):.2f} points, with intervals of ± {100 * half:.2f} points each from "
        "the size of the test set alone, the same for all rows; a single training of each adds "
        "its own scatter."
    ]


def _searches(runs: PaperRuns) -> tuple[list[Section], list[str]]:
    """Sections of the wider searches that were run, and the names of those that were not."""
    sections, left = [], []
    for name, title in _SEARCHES.items():
        found = runs.experiment(name)
        accuracies = _accuracies(runs, found) if found else {}
        if found is None or not accuracies:
            left.append(name)
            continue
        order = sorted(accuracies, key=lambda s: -accuracies[s].value)
        table = _settings(order)
        table["test accuracy"] = [percent(accuracies[s]) for s in order]
        table["paper (DES)"] = [f"{100 * _PAPER[s]:.2f} %" if s in _PAPER else "–" for s in order]
        values = {s: e.value for s, e in accuracies.items() if e.defined}
        picture = Picture(
            f"{name}_heat_map",
            _heat_map({title: values}),
            "Test accuracy of noDIA by kernel sizes and batch size.",
        )
        says = (
            f"Beyond the paper's rows: {len(order)} combinations, best first. The best of many "
            "on a test set is better than it would be on another one."
        )
        sections.append(
            section(name, f"{title} around Table 10", found, [says], [picture], {title: table})
        )
    return sections, left


def _settings(rows: list[Setting]) -> pd.DataFrame:
    names = ("kernel 1", "kernel 2", "kernel 3", "batch size")
    return pd.DataFrame([list(map(str, row)) for row in rows], columns=list(names))


def _heat_map(grids: dict[str, dict[Setting, float]]) -> Figure:
    from rb.figures.studies.kernels import kernels_figure

    return kernels_figure(grids)
