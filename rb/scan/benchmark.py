"""One frame of known truth, searched in every way: with and without difference imaging."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rb.scan.finds import LEAST_LOGIT, matched
from rb.scan.judge import both, judge, logit
from rb.scan.photometry import Photometry, measure, score_map
from rb.scan.search import find_peaks, heat_map
from rb.stamps.batch import Stamps
from rb.stamps.layout import SIDE_COLUMNS
from rb.stamps.resumable import Part
from rb.survey.camera.observation import Observation, observe
from rb.survey.frame import Stopwatch, simulate_frame
from rb.survey.pipeline.pair import MeasuredPair, measure_pair
from rb.survey.settings import SurveySettings
from rb.survey.tiles import true_events

if TYPE_CHECKING:
    import pandas as pd

    from rb.survey.sky.scene import Scene

_MOST = 150  # peaks a frame that are kept of each search
_LEAST_SCORE = 3.0  # SNR
_LEAST_PEAK = -7.0  # logit
_BRIGHT_MAG = 19.0  # of stars: five magnitudes above what is just found
VERSION = 3
"""Of what is kept of a frame; what was searched with another one is searched again."""

IMAGING = "DIA"
"""Name of the difference imaging by itself; its candidates are ranked by SNR."""

PROPER = "matched filter"
"""Name of the search of both images by the filters of `rb.scan.photometry` alone."""


def search_frame(
    settings: SurveySettings,
    dense: Mapping[str, Any],
    stamps: Mapping[str, Any],
    number: int,
    spoil: Callable[[Observation], Observation] | None = None,
) -> Part:
    """Search one frame.

    Parameters
    ----------
    settings : SurveySettings
        The survey, its detection threshold as low as DIA's candidates are wanted.
    dense : mapping of str to DenseNetwork
        Searches without difference imaging.
    stamps : mapping of str to Scorer
        What judges DIA's candidates.
    number : int
        Frame number.
    spoil : callable, optional
        Done to the images before; difference imaging, which makes its own, is left out then.

    Returns
    -------
    Part
        Rows: a row for each find of each search: `search`, `x`, `y`, `score`, `flux`,
        `flux_err`, and `event`, the row of the matched event or -1. The note has `events`, the
        columns of `true_events`, and CPU seconds by step in `cpu`.
    """
    observation = observe(settings, number)
    if spoil:
        observation = spoil(observation)
    clock = Stopwatch()  # what is booked without a name is not counted
    gain = 1.0 / max(observation.search.conditions.shot_noise, 1e-9)
    pair = measure_pair(
        observation.search.image, observation.template.image, observation.mask, settings.detection
    )
    clock.lap("measuring the pair")
    events = true_events(observation, pair)
    events["star_sep_px"] = _star_separation(observation.scene, events)
    clock.lap("")
    # Where difference imaging looks, and where anything new is put.
    edge = settings.detection.stamp_size // 2
    found = []
    for name, network in dense.items():
        logits = heat_map(network, pair)
        x, y = find_peaks(logits, pair.masked, _LEAST_PEAK, edge)
        clock.lap(name)
        x, y = x[:_MOST], y[:_MOST]
        sources = measure(pair, x, y, gain)
        clock.lap(f"photometry of {name}")
        odds = logits[y, x]
        found.append(find_rows(name, sources, odds))
        # The highest come first; `rb scan` has no others judged.
        worth = Photometry(*(v[odds >= LEAST_LOGIT] for v in vars(sources).values()))
        for other, scorer in stamps.items():
            if scorer.inputs.kind == "nodia":
                clock.lap("")
                second = logit(judge(scorer, pair, worth.x, worth.y))
                clock.lap(f"{other} on the finds of {name}")
                found.append(
                    find_rows(f"{name} + {other}", worth, both(odds[: len(second)], second))
                )
    found.append(filter_rows(PROPER, pair, gain, edge))
    clock.lap(PROPER)
    if not spoil:
        found += _by_imaging(settings, stamps, number, clock)
    return frame_part(observation, pair, found, events, clock)


def frame_part(
    observation: Observation,
    pair: MeasuredPair,
    found: list[pd.DataFrame],
    events: pd.DataFrame,
    clock: Stopwatch,
) -> Part:
    """What was found in a frame, with the truth behind it, see `search_frame`."""
    import pandas as pd

    table = pd.concat(found, ignore_index=True)
    table["event"] = matched(table["x"].to_numpy(), table["y"].to_numpy(), events)
    conditions = {
        "fwhm_search": observation.search.conditions.psf.fwhm,
        "fwhm_template": observation.template.conditions.psf.fwhm,
        "noise_search": pair.noise[0],
        "noise_template": pair.noise[1],
    }
    note = {
        "events": events.to_dict("list"),
        "cpu": {k: v for k, v in clock.seconds.items() if k},
        "conditions": conditions,
    }
    return Part({"number": np.array([observation.number])}, table, note)


def filter_rows(name: str, pair: MeasuredPair, gain: float, edge: int) -> pd.DataFrame:
    """Peaks of the filters of `rb.scan.photometry`, as `find_rows` has them."""
    scores = score_map(pair, gain)
    x, y = (v[:_MOST] for v in find_peaks(scores, pair.masked, _LEAST_SCORE, edge))
    none = np.full(len(x), np.nan)
    places = Photometry(x.astype(float), y.astype(float), none, none)
    return find_rows(name, places, scores[y, x])


def _by_imaging(
    settings: SurveySettings, stamps: Mapping[str, Any], number: int, clock: Stopwatch
) -> list[pd.DataFrame]:
    """What difference imaging finds, ranked by SNR and by each network of stamps."""
    frame = simulate_frame(dataclasses.replace(settings, planes=("psf",)), number)
    steps = ("psf_matching", "subtraction", "detection")
    clock.seconds[IMAGING] = sum(frame.summary[f"cpu_{step}_s"] for step in steps)
    rows = frame.catalogue
    clock.lap("")
    by_name = {IMAGING: rows["snr"]}
    side = {name: rows[name] for name in SIDE_COLUMNS}
    candidates = Stamps(frame.stamps.images, None, frame.stamps.psf, side)
    for name, scorer in stamps.items():
        p = scorer.p_real(candidates).astype(np.float64) if len(candidates) else np.zeros(0)
        by_name[name] = logit(p)
        clock.lap(name)
    imaged = Photometry(*(np.asarray(rows[name], float) for name in ("x", "y", "flux", "flux_err")))
    return [find_rows(name, imaged, score) for name, score in by_name.items()]


def _star_separation(scene: Scene, events: pd.DataFrame) -> np.ndarray:
    """Distance of each event from the nearest bright star in px, infinite without one."""
    bright = scene.star_mag < _BRIGHT_MAG
    across = events["x"].to_numpy()[:, None] - np.asarray(scene.stars.x)[bright]
    along = events["y"].to_numpy()[:, None] - np.asarray(scene.stars.y)[bright]
    return np.asarray(np.hypot(across, along).min(axis=1, initial=np.inf))


def find_rows(name: str, found: Photometry, score: np.ndarray) -> pd.DataFrame:
    """Finds of one search of a frame: `search`, `x`, `y`, `score`, `flux`, `flux_err`."""
    import pandas as pd

    columns = {"x": found.x, "y": found.y, "score": score}
    columns |= {"flux": found.flux, "flux_err": found.flux_err}
    return pd.DataFrame({"search": name} | {k: np.asarray(v, float) for k, v in columns.items()})
