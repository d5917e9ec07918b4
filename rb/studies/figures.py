"""The paper's data figures: 1, 2, 3, 12 and 13.

They show what the stamps are like and what the networks get to see of them; no network has to
be trained. Where one is, Figure 3 shows the inputs of that network and what it says.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from rb.errors import UserError
from rb.evaluation.choose import ChosenModel, select
from rb.figures.style import LABEL_WORDS, label_color
from rb.models.contract import Scorer, sees_stamps
from rb.paper.values import NETWORKS
from rb.report.sections import Picture, Section
from rb.sources import open_stamps
from rb.stamps import StampSet
from rb.stamps.inputs import InputSpec
from rb.stamps.splits import make_split
from rb.stamps.stampset import BOGUS, CHANNELS, REAL
from rb.studies.examples import example_rows
from rb.tracking import Tracking

_SUBSTITUTE = {"srch": "three_sigma", "tmpl": "three_sigma"}


@dataclass(frozen=True)
class _Network:
    """What is fed to a network, and the network itself where one was trained."""

    name: str
    inputs: InputSpec
    model: Scorer | None = None


@dataclass(frozen=True)
class _Examples:
    """The candidates of the figures."""

    stamp_set: StampSet
    rows: list[int]
    stamps: np.ndarray

    @property
    def labels(self) -> list[int]:
        return [int(self.stamp_set.labels[row]) for row in self.rows]

    def titles(self, gap: str = "   ") -> list[str]:
        """Letter, ID and label of each."""
        return [
            gap.join([letter, str(self.stamp_set.ids[row]), _label(label)])
            for letter, row, label in zip(
                string.ascii_uppercase, self.rows, self.labels, strict=False
            )
        ]

    @property
    def colors(self) -> list[str]:
        return [label_color(label) for label in self.labels]


def sections(config: Mapping[str, Any], tracking: Tracking, console: Console) -> list[Section]:
    """The data figures, a section each.

    The stamps are those of ``data=…``; with ``data=as_trained`` those of the runs that
    ``runs`` names, of which the test subset is drawn from.

    Parameters
    ----------
    config : mapping
        As composed from ``conf/evaluate.yaml`` with ``conf/study/figures.yaml``.
    tracking : Tracking
        Where the runs are.
    console : Console
        Where progress goes.

    Raises
    ------
    UserError
        If there are no stamps to draw, or a candidate in ``study.ids`` is not among them.
    """
    settings = config["study"]
    trained = _trained(config, tracking)
    stamp_set, rows = _stamps(config, trained)
    chosen = example_rows(stamp_set, rows, settings["ids"], int(settings["seed"]))
    if not chosen:
        raise UserError(f"study=figures: {stamp_set.path} has no candidate to draw")
    examples = _Examples(stamp_set, chosen, np.stack([stamp_set[row] for row in chosen]))
    networks = _networks(settings, trained, stamp_set)
    console.print(
        f"{stamp_set.name}: {', '.join(str(i) for i in stamp_set.ids[chosen])} out of "
        f"{len(stamp_set):,} candidates"
    )
    return [
        _figure_1(examples),
        _figure_2(examples),
        _figure_3(examples, networks),
        _figure_12(examples),
        _figure_13(examples, networks),
    ]


def _trained(config: Mapping[str, Any], tracking: Tracking) -> list[ChosenModel]:
    """The networks that `runs` names, the best by validation of each kind of input."""
    try:
        found = select(tracking, config["runs"])
    except UserError:
        if config["runs"] != "latest":
            raise
        return []
    best: dict[str, ChosenModel] = {}
    for chosen in sorted(found, key=lambda c: (c.metrics or {}).get("best/val_acc", 0.0)):
        if chosen.model.network is not None:
            best[chosen.model.inputs.kind] = chosen
    return [best[kind] for kind in sorted(best)]


def _stamps(config: Mapping[str, Any], trained: list[ChosenModel]) -> tuple[StampSet, np.ndarray]:
    """The stamp set, and the rows to choose examples from."""
    if config["data"]["name"]:
        stamp_set = open_stamps(config["data"])
        return stamp_set, np.arange(len(stamp_set))
    known = [chosen for chosen in trained if chosen.config]
    if not known:
        raise UserError(
            "study=figures: nothing was trained yet whose stamps could be drawn; name some: "
            "data=simulated, data=des data.root=FOLDER, or data=stamps data.path=FOLDER"
        )
    settings = known[0].config
    assert settings is not None
    stamp_set = open_stamps(settings["data"])
    test = make_split(stamp_set.labels, stamp_set.groups, **settings["split"]).test
    return stamp_set, np.sort(test) if len(test) else np.arange(len(stamp_set))


def _networks(
    settings: Mapping[str, Any], trained: list[ChosenModel], stamp_set: StampSet
) -> list[_Network]:
    """One network with and one without the difference image, as far as the stamps feed them."""
    found = {
        inputs.kind: _Network(chosen.name, inputs, chosen.model)
        for chosen in trained
        if sees_stamps(inputs := chosen.model.inputs)
    }
    for name in NETWORKS:
        default = settings[name]
        found.setdefault(name, _Network(default["name"], InputSpec(**default["inputs"])))
    return [
        found[name]
        for name in NETWORKS
        if set(found[name].inputs.channels) <= set(stamp_set.channels)
    ]


def _figure_1(examples: _Examples) -> Section:
    from rb.figures.data.triplets import triplets_figure

    figure = triplets_figure(examples.stamps, examples.titles(), examples.colors)
    caption = (
        f"Template, search and difference of {len(examples.rows)} candidates of "
        f"{examples.stamp_set.name}. Template and search share a colour range (asinh stretch "
        "between zscale limits) unless their sky levels lie too far apart; the difference runs "
        "from blue (negative) to red."
    )
    return Section(
        "figure-1",
        "Figure 1: triplets",
        [
            "The paper shows two artefacts, a dipole and a column of bad pixels, and two real "
            "transients; above each its ID and label (0 real, 1 bogus).",
        ],
        [Picture("figure_1_triplets", figure, caption, pixels=True)],
        {"The candidates": _table(examples)},
    )


def _figure_2(examples: _Examples) -> Section:
    from rb.figures.data.pixels import histograms_figure

    caption = (
        "Pixel values over their full range, logarithmic counts. Dashed: mean ± 3σ of the stamp, "
        "by which search and template are scaled; the difference is brought to mean 0 and σ 1."
    )
    figure = histograms_figure(examples.stamps, examples.titles())
    return Section(
        "figure-2",
        "Figure 2: pixel values",
        [
            "Differences are bell-shaped; search and template are skewed by the sources in them, "
            "whether the candidate is real or bogus, so the label cannot be read off.",
        ],
        [Picture("figure_2_pixels", figure, caption)],
    )


def _figure_3(examples: _Examples, networks: list[_Network]) -> Section:
    from rb.figures.data.composites import Composites, composites_figure, side_by_side

    columns = {}
    for network in networks:
        height, width = network.inputs.shape[1:]
        depth = network.inputs.shape[0]
        shape = f"{height}x{width}" + (f"x{depth}" if depth > 1 else "")
        titles, colors = _predictions(examples, network)
        columns[f"{network.name}, {shape}"] = Composites(
            side_by_side(network.inputs.prepare(examples.stamps).numpy()),
            network.inputs.channels,
            titles,
            colors,
        )
    scalings = "; ".join(
        f"{network.name}: " + ", ".join(f"{c} {s}" for c, s in network.inputs.scaling.items())
        for network in networks
    )
    predicting = [network.name for network in networks if network.model is not None]
    caption = (
        f"The scaled images as the networks get them ({scalings}). Purple is negative, green "
        "positive; the colours are linear up to 1 and logarithmic beyond."
    )
    if predicting:
        caption += (
            f" Above each: its label and the prediction of {' and '.join(predicting)} (0 real, "
            "1 bogus); blue where it is right, orange where it is wrong."
        )
    return Section(
        "figure-3",
        "Figure 3: what the networks see",
        [
            "The images are put side by side, so that a saliency map can tell which of them "
            "decides; no pixel is clipped.",
        ],
        [Picture("figure_3_composites", composites_figure(columns), caption, pixels=True)]
        if columns
        else [],
    )


def _predictions(examples: _Examples, network: _Network) -> tuple[list[str], list[str]]:
    """Titles with the prediction of a trained network, coloured by whether it is right."""
    from rb.figures.style import INK, RIGHT_COLOR, WRONG_COLOR

    names = [title.rpartition("   ")[0] for title in examples.titles()]
    if network.model is None:
        return examples.titles(), [INK] * len(names)
    channels = [CHANNELS.index(c) for c in network.inputs.channels]
    p_real = network.model.p_real(examples.stamps)
    titles, colors = [], []
    for k, label in enumerate(examples.labels):
        text = f"{names[k]}   label {label if label in LABEL_WORDS else '–'}"
        color = INK
        if np.isfinite(examples.stamps[k, channels]).any((1, 2)).all():
            said = REAL if p_real[k] >= network.model.threshold else BOGUS
            text += f", pred {said}"
            if label in LABEL_WORDS:
                color = RIGHT_COLOR if said == label else WRONG_COLOR
        titles.append(text)
        colors.append(color)
    return titles, colors


def _figure_12(examples: _Examples) -> Section:
    from rb.figures.data.pixels import raw_violins_figure

    caption = (
        "Pixels of search (left halves, purple) and template (right halves, green) within mean "
        "± 3σ, before scaling; lines at the quartiles."
    )
    figure = raw_violins_figure(examples.stamps, examples.titles(" "))
    return Section(
        "figure-12",
        "Figure 12: search and template before scaling",
        [
            "Search and template differ in sky level and noise from candidate to candidate, real "
            "or bogus: what a network without the difference image has to see through.",
        ],
        [Picture("figure_12_before_scaling", figure, caption)],
    )


def _figure_13(examples: _Examples, networks: list[_Network]) -> Section:
    from rb.figures.data.pixels import scaled_violins_figure

    scaling = networks[-1].inputs.scaling if networks else _SUBSTITUTE
    pair = InputSpec(
        channels=("srch", "tmpl"),
        stacking="depth",
        scaling={c: scaling.get(c, "three_sigma") for c in ("srch", "tmpl")},
    )
    caption = (
        "The same, all pixels, after scaling ("
        + ", ".join(f"{c} {s}" for c, s in pair.scaling.items())
        + "). Dashed at 0 and 1, between which the pixels of Figure 12 come to lie; what is "
        "beyond, mostly bright sources, is kept. The axis is logarithmic far from zero."
    )
    figure = scaled_violins_figure(pair.prepare(examples.stamps).numpy(), examples.titles(" "))
    return Section(
        "figure-13",
        "Figure 13: search and template after scaling",
        [
            "Scaling brings the core of all stamps to the same range and leaves the shape, tails "
            "included.",
        ],
        [Picture("figure_13_after_scaling", figure, caption)],
    )


def _table(examples: _Examples) -> pd.DataFrame:
    """The candidates with what the catalogue knows of them."""
    catalogue = examples.stamp_set.catalogue.iloc[examples.rows]
    table = pd.DataFrame(
        {
            "id": [str(i) for i in catalogue["id"]],
            "label": [_label(label) for label in examples.labels],
        },
        index=pd.Index(list(string.ascii_uppercase[: len(examples.rows)]), name=""),
    )
    for column, name in (("snr", "SNR"), ("mag", "magnitude"), ("band", "band")):
        if column in catalogue and catalogue[column].notna().any():
            table[name] = catalogue[column].to_numpy()
    return table


def _label(label: int) -> str:
    return f"{LABEL_WORDS[label]} (label {label})" if label in LABEL_WORDS else "no label"
