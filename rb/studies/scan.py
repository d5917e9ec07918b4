"""Whole images searched without difference imaging and with it, side by side."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from rb.errors import UserError
from rb.evaluation.choose import select
from rb.figures.studies.scan import completeness_figure, photometry_figure
from rb.io.progress import bar
from rb.models.dense import DenseNetwork
from rb.report.sections import Picture, Report, Section
from rb.report.terminal import frame_table
from rb.scan.benchmark import IMAGING, search_frame
from rb.scan.benchmark import VERSION as SEARCHED
from rb.scan.tables import SearchTables
from rb.scan.task import TOLD_SNR
from rb.scoring.export import network_scorer, weights_digest
from rb.settings import Items, Number, Rule, Text, Whole, check
from rb.stamps.resumable import Part, Parts
from rb.survey.pipeline.pair import VERSION
from rb.survey.settings import SurveySettings, settings_from_config
from rb.tracking import Tracking

SETTINGS: dict[str, Rule] = {
    "frames": Whole(2, 100000),
    "seed": Whole(0),
    "rates": Items(Number(above=0), least=1),
    "draws": Whole(10, 100000),
    "bar": Text("a model that judges stamps"),
}


def sections(config: dict[str, Any], tracking: Tracking, console: Console) -> Report:
    """Search the frames by everything that ``config["runs"]`` names, and compare.

    Networks that search images stand for themselves; those that judge stamps are given the
    candidates of difference imaging with a low threshold.

    Raises
    ------
    UserError
        If no run is found, or none searches images.
    """
    study = check({key: config["study"][key] for key in SETTINGS}, SETTINGS, "study")
    dense, stamps, digests = models_of(config["runs"], tracking)
    if study["bar"] not in stamps:
        raise UserError(
            f"study.bar is '{study['bar']}', which is not among the runs that judge stamps "
            f"({', '.join(stamps) or 'there is none'}); add it to runs"
        )
    simulated = config["data"].get("name") in ("simulated", "frames")
    given = config["data"] if simulated else {}
    settings = survey_of(given, study | {"detection": config["study"]["detection"]})
    cache = Path(config["paths"]["cache"])
    parts = search_frames(cache, settings, study["frames"], dense, stamps, digests)
    tables = SearchTables(parts, study, settings)
    names = tables.names
    result = tables.by_rate(names)
    console.print(frame_table(_named(result), f"completeness, true SNR >= {TOLD_SNR:g}"))
    kinds = tables.by_kind(names, 1.0)
    thresholds = dict.fromkeys(dense, 0.5)
    flux = tables.photometry([*dense, IMAGING])
    console.print(frame_table(flux, "photometry of what was found"))
    about = (
        f"{study['frames']} simulated frames of seed {study['seed']}, "
        f"{len(tables.told)} supernovae of true SNR {TOLD_SNR:g} and more on unmasked pixels, "
        f"{tables.area:.2f} square degrees. A false positive is a find more than 2.5 px from "
        f"everything that was put in. Intervals: bootstrap over frames, {study['draws']} draws. "
        f"'{IMAGING}' is difference imaging with the settings study.detection, ranked by SNR; "
        f"networks of stamps judge its candidates."
    )
    found = [
        Section(
            "rates",
            "Completeness at a rate of false positives",
            [about],
            [
                Picture(
                    "completeness",
                    completeness_figure(tables.curves(names), kinds["SNR"]),
                    "Left: completeness against false positives a frame. Right: at one false "
                    "positive a frame, against true SNR.",
                )
            ],
            {
                "completeness": _named(result),
                "minus the bar, paired": _named(tables.against(names, study["bar"])),
                **{
                    f"at one false positive a frame, by {what}": _named(table)
                    for what, table in kinds.items()
                },
                "found among the k surest of a frame, k the number that is there": _named(
                    tables.rank(names)
                ),
            },
        ),
        Section(
            "operating",
            "Operating points",
            [
                "Rubin asks a classifier for a completeness of 0.9 and a purity of 0.95 at a "
                "signal-to-noise ratio of 6 (DMTN-337)."
            ],
            [],
            {
                "SNR of 6 and more": _named(tables.purity(names)),
                "at the model's own threshold": _named(tables.at_threshold(thresholds)),
            },
        ),
        Section(
            "photometry",
            "Photometry of what was found",
            ["Flux against the truth, of supernovae that both found at their matched places."],
            [
                Picture(
                    "photometry",
                    photometry_figure(tables.pulls([*dense, IMAGING])),
                    "(flux - truth) / error against true SNR.",
                )
            ],
            {"photometry": flux},
        ),
        Section("cost", "Cost", [], [], {"CPU seconds, one thread": tables.cost()}),
    ]
    value = float(tables.scores(next(iter(dense)), (1.0,))[0, 0])
    return Report(found, value=value)


def models_of(
    runs: Any, tracking: Tracking
) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """What `runs` names: networks that search, what judges stamps, and digests of all weights.

    Raises
    ------
    UserError
        If none of them searches images.
    """
    dense: dict[str, Any] = {}
    stamps: dict[str, Any] = {}
    digests: dict[str, str] = {}
    for chosen in select(tracking, runs):
        name, number = chosen.name, 2
        while name in digests:
            name, number = f"{chosen.name} {number}", number + 1
        network = chosen.model.network
        scorer = None if network is None else network_scorer(chosen.model)
        digests[name] = weights_digest(scorer) if scorer else chosen.run_id
        if isinstance(network, DenseNetwork):
            dense[name] = network.eval()
        else:
            stamps[name] = chosen.model
    if not dense:
        raise UserError(
            "runs: none of them searches images; train one with `train.py experiment=scan`, or add "
            "scan, the one of the package"
        )
    return dense, stamps, digests


def survey_of(given: dict[str, Any], study: dict[str, Any]) -> SurveySettings:
    """The survey that is searched: `given` groups of settings, the study's seed and detection."""
    groups = ("scene", "events", "exposure", "artefacts", "subtraction", "detection")
    values = {key: dict(given[key]) for key in groups if key in given}
    values["detection"] = values.get("detection", {}) | study["detection"]
    return settings_from_config(values | {"seed": study["seed"]})


def search_frames(
    cache: Path,
    settings: SurveySettings,
    n_frames: int,
    dense: dict[str, Any],
    stamps: dict[str, Any],
    digests: dict[str, str],
) -> list[Part]:
    """Search all frames; what was searched before by the same models is read."""
    about = json.dumps([settings.digest(), VERSION, SEARCHED, digests])
    key = hashlib.sha256(about.encode()).hexdigest()[:16]
    kept = Parts(cache / f"scan-study-{key}")
    found = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with bar(True, "searching", n_frames, "frames") as step, threadpool_limits(1):
            for number in range(n_frames):
                part = kept.read(number)
                if part is None:
                    part = search_frame(settings, dense, stamps, number)
                    kept.write(number, part)
                found.append(part)
                step.advance()
    finally:
        torch.set_num_threads(threads)
    return found


def _named(table: pd.DataFrame) -> pd.DataFrame:
    return table.reset_index(names="search")
