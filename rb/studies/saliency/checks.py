"""Sections of the saliency study on other methods, and on whether the maps mean anything."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rich.console import Console
from torch import Tensor

from rb.explain.deletion import area_table, curve_areas, deletion_curves
from rb.explain.examples import balanced
from rb.explain.randomisation import randomisation
from rb.explain.settings import SaliencySettings
from rb.explain.shares import panel_shares
from rb.explain.summaries import (
    bands,
    likeness_curves,
    likeness_table,
    method_share_table,
    method_shares,
)
from rb.report.sections import Picture, Section
from rb.studies.saliency.explained import ExplainedRun, progress, titles


def methods_and_checks(
    run: ExplainedRun, settings: SaliencySettings, confidence: float, console: Console
) -> list[Section | None]:
    """The methods beside each other, parameter randomisation, deletion and insertion."""
    called_real = (run.table["p_real"] >= run.threshold).to_numpy()
    index = balanced(called_real, settings.n_methods, settings.seed)
    if not index.size or not settings.methods:
        return []
    panels = run.explainer.panels(run.stamps(index))
    found = {}
    with progress(console, f"{run.name}: methods", len(index) * len(settings.methods)) as tick:
        for method in settings.methods:
            found[method] = run.explainer.attribute(panels, method, tick=tick)
    few = {method: maps[: settings.n_sanity] for method, maps in found.items()}
    interval = settings.bootstrap, confidence, settings.seed
    checked = _Checked(run, settings, panels[: settings.n_sanity], few, interval, console)
    checks = [_randomised(checked), _deleted(checked)] if settings.n_sanity else []
    return [_methods(run, settings, index, found, interval), *checks]


@dataclass(frozen=True)
class _Checked:
    """The candidates that the checks are made with, and their maps by each method."""

    run: ExplainedRun
    settings: SaliencySettings
    panels: Tensor
    maps: dict[str, np.ndarray]
    interval: tuple[int, float, int]
    console: Console


def _methods(
    run: ExplainedRun,
    settings: SaliencySettings,
    index: np.ndarray,
    maps: dict[str, np.ndarray],
    interval: tuple[int, float, int],
) -> Section:
    from rb.figures.saliency.checks import method_maps_figure
    from rb.figures.saliency.shares import method_share_figure

    channels = run.explainer.channels
    shares = {method: panel_shares(values) for method, values in maps.items()}
    means = method_shares(shares, channels, *interval)
    shown = slice(0, settings.method_examples)
    pictures = [
        Picture(
            f"saliency_method_shares_{run.key}",
            method_share_figure(means, channels),
            f"Mean share of each image over {len(index)} candidates; bars are bootstrap intervals.",
        )
    ]
    if settings.method_examples:
        some = {method: values[shown] for method, values in maps.items()}
        figure = method_maps_figure(
            run.stamps(index[shown]), some, channels, titles(run, index[shown])
        )
        caption = (
            "Images (left) and their maps by each method; absolute values, the most important "
            "pixel of a candidate being 1. The shares in the headings are those of Saliency."
        )
        pictures.insert(0, Picture(f"saliency_methods_{run.key}", figure, caption, pixels=True))
    table = method_share_table(shares, channels, means, *interval)
    return Section(
        f"saliency-methods-{run.key}",
        f"Other methods: {run.name}",
        [
            f"{len(index)} candidates, half of them called real where there are enough. Saliency "
            "and SmoothGrad ask how the score would change with a pixel; Integrated Gradients and "
            "Occlusion, how much of the score is owed to it being there instead of empty sky."
        ],
        pictures,
        {f"{run.name}: shares by method": table},
    )


def _randomised(checked: _Checked) -> Section:
    from rb.figures.saliency.checks import randomisation_figure

    run, settings, n = checked.run, checked.settings, len(checked.panels)
    with progress(checked.console, f"{run.name}: randomised layers", None) as tick:
        rows = randomisation(
            run.explainer,
            checked.panels,
            settings.methods,
            settings.randomisation_stages,
            settings.seed,
            checked.maps,
            tick,
        )
    figure = randomisation_figure(*likeness_curves(rows, *checked.interval))
    caption = (
        "Likeness of absolute maps to those of the trained network while layers become random, "
        f"from the last to the first; means over {n} candidates with bootstrap "
        "intervals. Bars at the right: the trained network's maps of different candidates."
    )
    table = likeness_table(rows, *checked.interval)
    return Section(
        f"saliency-randomised-{run.key}",
        f"Check, random weights: {run.name}",
        [
            "A map that shows what was learnt must change when the weights become random (Adebayo "
            "et al. 2018). Measured against the likeness of the maps of two different candidates, "
            "which have in common what the architecture and the typical candidate impose."
        ],
        [Picture(f"saliency_randomised_{run.key}", figure, caption)],
        {f"{run.name}: likeness to the trained network's maps": table},
    )


def _deleted(checked: _Checked) -> Section:
    from rb.figures.saliency.checks import deletion_figure

    run, settings, maps = checked.run, checked.settings, checked.maps
    steps = 2 * len(checked.panels) * (len(maps) + 1)
    with progress(checked.console, f"{run.name}: deletion", steps) as tick:
        curves = deletion_curves(
            run.explainer, checked.panels, maps, settings.deletion_steps, settings.seed, tick
        )
    figure = deletion_figure(*bands(curves, *checked.interval))
    what = "the median of their panel" if settings.attribution.baseline == "median" else "zero"
    caption = (
        f"Probability of the predicted class while the most important pixels become {what} "
        "(deletion: lower is better) or come back (insertion: higher is better), the most "
        "important ones first; means over the candidates with bootstrap intervals."
    )
    areas = area_table(curve_areas(curves), *checked.interval)
    return Section(
        f"saliency-deletion-{run.key}",
        f"Check, deletion and insertion: {run.name}",
        [
            "Pixels that a map calls important should decide the score (Petsiuk et al. 2018); a "
            "random order is what a map has to beat. Integrated Gradients and Occlusion know which "
            "pixels speak against the call and take those last; Saliency and SmoothGrad have no "
            "sign. Calls are apart, for an empty stamp has a class of its own: where that is the "
            "predicted one, deletion cannot change it."
        ],
        [Picture(f"saliency_deletion_{run.key}", figure, caption)],
        {f"{run.name}: area under the curves": areas.round(3)},
    )
