"""Where networks look in a candidate's images, and whether the maps that show it mean anything.

Saliency maps and panel importance as in sections 4.4 and 5.1 of the paper (Acero-Cuellar et al.,
arXiv 2203.07390), other attribution methods beside them, and two checks: parameter randomisation
and deletion.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from rb.errors import UserError
from rb.evaluation.results import unique_names
from rb.evaluation.scored_run import ScoredRun, score_runs
from rb.explain.attribution import Explainer
from rb.explain.examples import pick
from rb.explain.settings import SaliencySettings, read_settings
from rb.explain.shares import CALLS, share_columns, shares_table
from rb.explain.winners import win_counts, winner_table
from rb.io.files import safe_name, write_whole
from rb.paper.values import DES_SHARES, WINNER_PERCENT, winner_percents
from rb.report.examples import QUADRANTS
from rb.report.sections import SMALL, Picture, Section
from rb.studies.saliency.checks import methods_and_checks
from rb.studies.saliency.explained import ExplainedRun, colors, distribution, progress, titles
from rb.tracking import Tracking

_GALLERIES = {  # figure numbers of the paper: with and without the difference image
    "TN": (15, 16),
    "TP": (17, 18),
    "FN": (19, 20),
    "FP": (21, 22),
}


def sections(config: dict[str, Any], tracking: Tracking, console: Console) -> list[Section]:
    """The sections of the report.

    Parameters
    ----------
    config
        As composed from ``conf/evaluate.yaml`` with ``study=saliency``. The shares of every
        candidate are kept as ``data/saliency_<run>.parquet`` in the folder ``report``.

    Raises
    ------
    UserError
        If a setting cannot work, or no run is a network.
    """
    settings = read_settings(config["study"])
    evaluated = score_runs(config | {"timing": False}, tracking, console)
    names = unique_names([one.result for one in evaluated])
    runs = []
    for name, one in zip(names, evaluated, strict=True):
        if one.chosen.model.network is None:
            console.print(f"{name}: left out, for it is no network and has no derivatives")
            continue
        runs.append(_measure(name, one, settings, config, console))
    if not runs:
        raise UserError("runs: none of them is a network, so there is nothing to differentiate")
    found = [_winners(runs, config["confidence"]), _distributions(runs), _single(runs)]
    for run in runs:
        found.append(_maps(run, settings))
        found.append(_galleries(run, settings))
        found += methods_and_checks(run, settings, config["confidence"], console)
    return [section for section in found if section is not None]


def _measure(
    name: str,
    one: ScoredRun,
    settings: SaliencySettings,
    config: Mapping[str, Any],
    console: Console,
) -> ExplainedRun:
    """Panel shares of the run's candidates, also written beside the report."""
    explainer = Explainer.of(one.chosen.model, settings.attribution)
    index = np.arange(one.result.n)
    if settings.n_shares is not None and settings.n_shares < index.size:
        index = np.random.default_rng(settings.seed).permutation(index)[: settings.n_shares]
        index.sort()
    rows = one.rows[index]
    started = time.perf_counter()
    with progress(console, f"{name}: saliency", len(rows)) as tick:
        table = shares_table(
            explainer, one.stamp_set, rows, one.result.p_real[index], one.result.threshold, tick
        )
    elapsed = time.perf_counter() - started
    console.print(f"{name}: panel shares of {len(rows):,} saliency maps in {elapsed:.1f} s")
    key = safe_name(name)
    if config["report"]:
        stream = io.BytesIO()
        table.to_parquet(stream, index=False)
        file = Path(config["report"]) / "data" / f"saliency_{key}.parquet"
        write_whole(file, stream.getvalue(), "the table of panel shares")
    inputs, threshold = explainer.inputs.kind, one.result.threshold
    return ExplainedRun(name, key, inputs, threshold, explainer, one, rows, table)


def _winners(runs: list[ExplainedRun], confidence: float) -> Section:
    from rb.figures.saliency.winners import treemap_figure, winners_figure

    paragraphs = [
        "A saliency map is the absolute derivative of the predicted class's score with respect to "
        "each pixel that the network sees (Eq. 3). The importance of an image is its share of the "
        "map's sum (Eq. 4); the shares of a candidate add up to 1. The winner is the image with "
        "the largest share; above 1/C, for C images, there may be several."
    ]
    paragraphs += [_in_words(run) for run in runs]
    tables = {
        f"{run.name}: the image that decides": winner_table(
            run.table, run.explainer.channels, winner_percents(run.inputs), confidence
        )
        for run in runs
    }
    wins = {
        run.name: win_counts(run.table, run.explainer.channels) for run in runs if distribution(run)
    }
    pictures = []
    if wins:
        published = {r.name: WINNER_PERCENT[r.inputs] for r in runs if _as_published(r)}
        pictures = [
            Picture(
                "saliency_winners",
                winners_figure(wins, published),
                "Share of the candidates whose map has its largest share in each image, by "
                "quadrant of the confusion matrix (paper, Figure 10). Right in blue, wrong in "
                "orange. Diamonds: what the paper found on DES.",
            ),
            Picture(
                "saliency_treemap",
                treemap_figure(wins),
                "The same as areas: each field is divided among the images in proportion to the "
                "candidates that they win.",
            ),
        ]
    return Section("saliency-winners", "Which image decides", paragraphs, pictures, tables)


def _as_published(run: ExplainedRun) -> bool:
    return tuple(run.explainer.channels) == tuple(WINNER_PERCENT[run.inputs]["TP"])


def _in_words(run: ExplainedRun) -> str:
    """A sentence on the winners of a run, others on candidates without shares."""
    table = run.table
    known = table["winner"].notna()
    counts = table.loc[known, "winner"].value_counts()
    text = f"{run.name}: no candidate has shares."
    if len(counts):
        share = 100 * counts.iloc[0] / known.sum()
        text = (
            f"{run.name}: in {counts.iloc[0]:,} of {known.sum():,} maps ({share:.0f} %) the "
            f"largest share lies in {counts.index[0]}."
        )
    missing, zero = int(table["missing"].sum()), int((~known & ~table["missing"]).sum())
    if zero:
        text += f" Maps that are zero everywhere, without shares: {zero:,}."
    if missing:
        text += f" Candidates one of whose images is missing, left out: {missing:,}."
    if table["saturated"].any() and run.explainer.settings.score == "softmax":
        text += (
            f" For {table['saturated'].sum():,} candidates the softmax rounds to 1 in single "
            "precision, where its derivative would vanish; theirs is taken through the log-odds."
        )
    return text


def _distributions(runs: list[ExplainedRun]) -> Section | None:
    from rb.figures.saliency.shares import RunShares, share_distribution_figure

    of_run = {
        run.name: RunShares(
            run.explainer.channels,
            run.table["quadrant"].to_numpy(),
            run.table[share_columns(run.explainer.channels)].to_numpy(),
        )
        for run in runs
        if distribution(run)
    }
    if not of_run:
        return None
    pairs = [dict(list(of_run.items())[i : i + 2]) for i in range(0, len(of_run), 2)]
    caption = (
        "Share of each image in the saliency maps by quadrant (paper, Figure 11): right calls in "
        "blue, wrong ones in orange, darker for truly real; the number of candidates beside. "
        "Dotted: equal shares."
    )
    pictures = [
        Picture(
            f"saliency_shares{'' if i == 0 else f'_{i + 1}'}", share_distribution_figure(p), caption
        )
        for i, p in enumerate(pairs)
    ]
    return Section("saliency-shares", "Distribution of the shares", pictures=pictures)


def _single(runs: list[ExplainedRun]) -> Section | None:
    """Every candidate of a small set, beside what the authors printed for it."""
    tables = {}
    for run in runs:
        if len(run.table) > SMALL:
            continue
        table = run.table.drop(columns=["principal", "saturated", "missing"]).set_index("id")
        columns = share_columns(run.explainer.channels)
        table[["p_real", *columns]] = table[["p_real", *columns]].round(4)
        if run.inputs == "dia" and table.index.isin(list(DES_SHARES)).any():
            for number, column in enumerate(columns):
                printed = {one: shares[number] for one, shares in DES_SHARES.items()}
                table[f"{column}, authors' later DIA"] = table.index.map(printed)
        tables[f"{run.name}: shares of each candidate"] = table
    return Section("saliency-each", "Each candidate", tables=tables) if tables else None


def _page(run: ExplainedRun, index: np.ndarray, **how: Any) -> Any:
    from rb.figures.saliency.maps import saliency_page

    stamps = run.stamps(index)
    maps = run.explainer.attribute(run.explainer.panels(stamps))
    return saliency_page(
        stamps, maps, run.explainer.channels, titles(run, index), colors=colors(run, index), **how
    )


def _maps(run: ExplainedRun, settings: SaliencySettings) -> Section:
    if len(run.table) <= SMALL:
        index = np.arange(len(run.table))
    else:
        wanted = {"TN": 2, "TP": 2, CALLS[1]: 2, CALLS[0]: 2}
        index = pick(run.table["quadrant"].to_numpy(), wanted, settings.seed)[:4]
    number = 8 if run.inputs == "dia" else 9
    caption = (
        "Left, the images in their natural flux with the limits of their grey scales below; "
        "right, the saliency map of the same panels, its most important pixel being 1 (paper, "
        f"Figure {number})."
    )
    picture = Picture(f"saliency_maps_{run.key}", _page(run, index), caption, pixels=True)
    return Section(f"saliency-maps-{run.key}", f"Maps: {run.name}", pictures=[picture])


def _galleries(run: ExplainedRun, settings: SaliencySettings) -> Section | None:
    if not settings.examples or len(run.table) <= SMALL:
        return None
    groups = run.table["quadrant"].to_numpy()
    pictures = []
    for group in (*_GALLERIES, *CALLS):
        index = pick(groups, {group: settings.examples}, settings.seed)
        if not index.size:
            continue
        of = int((groups == group).sum())
        title = f"{group}: {QUADRANTS[group][2]}" if group in QUADRANTS else group
        figure = _page(run, index, contours=True, title=f"{title} ({of:,})")
        paper = ""
        if group in _GALLERIES:
            paper = f" (paper, Figure {_GALLERIES[group][run.inputs != 'dia']})"
        pictures.append(
            Picture(
                f"saliency_{run.key}_{group.replace(' ', '_')}",
                figure,
                f"{index.size} of {of:,} candidates at random{paper}. Contours over the maps: "
                "light of the images at 5, 25 and 125 times the noise of the smoothed sky, dashed "
                "where negative.",
                pixels=True,
            )
        )
    return Section(f"saliency-gallery-{run.key}", f"Galleries: {run.name}", pictures=pictures)
