"""What a search finds in simulated frames, as labelled stamps: what a second look is trained on."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rb.errors import UserError
from rb.models.checkpoint import load_checkpoint
from rb.models.dense import DenseNetwork
from rb.models.pretrained import published_file
from rb.scan.judge import find_stamps
from rb.scan.photometry import measure
from rb.scan.search import find_peaks, heat_map
from rb.scan.task import LEAST_SNR, MATCH_PX
from rb.stamps.layout import BOGUS, REAL
from rb.stamps.resumable import Part
from rb.survey.camera.observation import observe
from rb.survey.pipeline.pair import measure_pair
from rb.survey.settings import SurveySettings
from rb.survey.tiles import true_events

if TYPE_CHECKING:
    import pandas as pd

LEAST_LOGIT = -4.0
"""From which on a find is worth a second look."""

_FINDS_PER_FRAME = 10000  # that the identifiers of a frame leave room for


@cache
def searcher(search: str) -> DenseNetwork:
    """The dense network of a file, or of that name in the package.

    Raises
    ------
    UserError
        If it cannot be read, or does not search images.
    """
    network = load_checkpoint(published_file(search) or Path(search)).network
    if not isinstance(network, DenseNetwork):
        raise UserError(f"{search}: judges stamps, but does not search images")
    return network


def frame_finds(settings: SurveySettings, search: str, number: int) -> Part:
    """Simulate one frame and search it.

    Parameters
    ----------
    settings : SurveySettings
        The survey, with its seed and the size of stamps.
    search : str
        See `searcher`.
    number : int
        Frame number.

    Returns
    -------
    Part
        Stamps round the finds with a difference image that is NaN, PSFs, rows of the catalogue
        with the logit of the search. A find on something new that is too faint to be asked for is
        left out.
    """
    import pandas as pd

    observation = observe(settings, number)
    search_image, template = observation.search.image, observation.template.image
    pair = measure_pair(search_image, template, observation.mask, settings.detection)
    logits = heat_map(searcher(search), pair)
    column, row = find_peaks(logits, pair.masked, LEAST_LOGIT)
    found = measure(pair, column, row)
    events = true_events(observation, pair)
    event = matched(found.x, found.y, events)
    snr = np.where(event >= 0, events["snr"].to_numpy()[event], np.nan) if len(events) else event
    kept = np.flatnonzero((event < 0) | (snr >= LEAST_SNR))
    stamps = find_stamps(pair, found.x[kept], found.y[kept], settings.detection.stamp_size)
    rows: dict[str, Any] = {
        "id": number * _FINDS_PER_FRAME + np.arange(len(kept)),
        "label": np.where(event[kept] >= 0, REAL, BOGUS),
        "group": f"{observation.pointing.field}-{number:05d}",
        "frame": number,
        "x": found.x[kept],
        "y": found.y[kept],
        "logit": logits[row, column][kept],
        **stamps.side,
    }
    return Part(stamps.arrays(), pd.DataFrame(rows), {})


def matched(x: np.ndarray, y: np.ndarray, events: pd.DataFrame) -> np.ndarray:
    """Row of the nearest event within 2.5 px of each find, -1 for a false positive."""
    if not len(events) or not len(x):
        return np.full(len(x), -1)
    distance = np.hypot(
        np.asarray(x)[:, None] - events["x"].to_numpy(),
        np.asarray(y)[:, None] - events["y"].to_numpy(),
    )
    nearest = distance.argmin(1)
    return np.where(distance.min(1) <= MATCH_PX, nearest, -1)
