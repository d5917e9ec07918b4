"""A frame as tiles of its two images with the truth, before anything is subtracted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rb.stamps.layout import BOGUS, IMAGES, REAL
from rb.survey.camera.observation import Observation, observe
from rb.survey.pipeline.detection import psf_flux
from rb.survey.pipeline.pair import MeasuredPair, measure_pair
from rb.survey.settings import SurveySettings

if TYPE_CHECKING:
    import pandas as pd

    from rb.stamps.resumable import Part

_TILES_PER_FRAME = 10000  # that the identifiers of a frame leave room for


def frame_tiles(settings: SurveySettings, tile: int, number: int) -> Part:
    """Simulate one frame, measure the pair, and cut it.

    Parameters
    ----------
    settings : SurveySettings
        The survey, with its seed.
    tile : int
        Side of a tile in px; divides the frame's.
    number : int
        Frame number.

    Returns
    -------
    Part
        Tiles (n, 3, tile, tile) with a difference image that is NaN, PSFs, rows of the catalogue,
        where a tile counts as real when something new is in it; the note has the columns of
        ``events``.
    """
    import pandas as pd

    from rb.stamps.resumable import Part

    observation = observe(settings, number)
    search, template = observation.search.image, observation.template.image
    pair = measure_pair(search, template, observation.mask, settings.detection)
    side = {f"sky_noise_{image}": noise for image, noise in zip(IMAGES, pair.noise, strict=True)}
    truth = true_events(observation, pair)
    starts = range(0, settings.scene.frame_size, tile)
    stamps, rows, events = [], [], []
    for index, (top, left) in enumerate((y, x) for y in starts for x in starts):
        cut = (slice(top, top + tile), slice(left, left + tile))
        both = np.stack([pair.search[cut], pair.template[cut]])
        stamps.append(np.concatenate([np.full((1, tile, tile), np.nan, np.float32), both]))
        identity = number * _TILES_PER_FRAME + index
        rows.append(
            {
                "id": identity,
                "group": f"{observation.pointing.field}-{number:05d}",
                "frame": number,
                "left": left,
                "top": top,
                **side,
            }
        )
        column, row = truth["x"].round() - left, truth["y"].round() - top
        inside = (column >= 0) & (column < tile) & (row >= 0) & (row < tile)
        here = truth[inside]
        # In a tile with nothing new, a column of all events would become rows.
        events.append(here.assign(id=identity, x=here["x"] - left, y=here["y"] - top))
        rows[-1]["label"] = REAL if inside.any() else BOGUS
    note = pd.concat(events).to_dict("list")
    psf = np.broadcast_to(pair.psf, (len(stamps), *pair.psf.shape))
    arrays = {"stamps": np.stack(stamps), "psf": np.ascontiguousarray(psf)}
    return Part(arrays, pd.DataFrame(rows), {"events": note})


def true_events(observation: Observation, pair: MeasuredPair) -> pd.DataFrame:
    """What differs between the images of a frame.

    Returns
    -------
    DataFrame
        `kind`, `x` and `y` (px, pixel centres from 0), `flux` (of the change, ADU of the search
        image), `mag`, `snr` (flux over the error of a PSF fit with the true noise of both
        images), `masked`, and of the host `host_mag` and `host_sep_px` (NaN without one).
    """
    import pandas as pd

    scene = observation.scene
    events, galaxies = scene.events, scene.galaxies
    flux = events.change * observation.flux_scale
    variance = observation.search.variance + observation.template.variance * pair.ratio**2
    height, width = variance.shape
    fwhm = observation.search.conditions.psf.fwhm
    reach = int(np.ceil(1.5 * fwhm))
    x, y = np.asarray(events.x), np.asarray(events.y)
    inside = (x > reach) & (x < width - 1 - reach) & (y > reach) & (y < height - 1 - reach)
    error = np.full(len(x), np.inf)
    blank = np.zeros_like(observation.mask)
    _, error[inside] = psf_flux(pair.search, variance, blank, x[inside], y[inside], fwhm, reach)
    column = np.clip(x.round().astype(int), 0, width - 1)
    row = np.clip(y.round().astype(int), 0, height - 1)
    host, hosted = np.maximum(events.host, 0), events.host >= 0
    whole = galaxies.whole
    found: dict[str, Any] = {
        "kind": events.kind,
        "x": x,
        "y": y,
        "flux": flux,
        "mag": scene.event_mag,
        "snr": flux / error,
        "masked": observation.mask[row, column],
        "host_mag": np.where(hosted, galaxies.mag[host], np.nan),
        "host_sep_px": np.where(hosted, np.hypot(x - whole.x[host], y - whole.y[host]), np.nan),
    }
    return pd.DataFrame(found)
