"""From a packet's cutouts to a stamp of three channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from rb.sources.alerts.cutouts import CutoutError, centre_index, decode_cutout, place, resample
from rb.sources.alerts.packets import Packet
from rb.sources.alerts.settings import AlertSettings
from rb.stamps import CHANNELS, STAMP_SIZE

_PIXELS = STAMP_SIZE**2


def triplet(
    packet: Packet, settings: AlertSettings, xpos: float | None, ypos: float | None
) -> tuple[np.ndarray, list[str], dict[str, Any]]:
    """Stamp of a packet, and what is known of its edges.

    Parameters
    ----------
    packet : Packet
        The alert with undecoded cutouts.
    settings : AlertSettings
        Which channels are needed, the pixel scale, how edges and NaN are treated.
    xpos, ypos : float or None
        Position of the candidate on the chip [px, first pixel = 1].

    Returns
    -------
    stamp : ndarray
        float32, (3, 51, 51); a channel that the packet lacks is NaN.
    present : list of str
        The channels that it has. An image without any measured pixel counts as lacking.
    image : dict
        Catalogue columns ``has_diff``, ``cutout_rows`` and ``cutout_columns`` (of the search
        image, before cutting), ``n_padded`` (pixels outside the cutouts) and ``n_nan`` (NaN
        pixels inside them), both over the channels that are present.

    Raises
    ------
    CutoutError
        If a channel of ``settings.require`` is missing, unreadable or has too many NaN pixels,
        or any other image is damaged.
    UserError
        If stamps are to be resampled and the survey's pixel scale is not known.
    """
    ratio = settings.ratio(packet.survey)
    full = settings.cutout_sizes.get(packet.survey) if settings.edges == "chip" else None
    stamp = np.full((len(CHANNELS), STAMP_SIZE, STAMP_SIZE), np.nan, dtype=np.float32)
    present: list[str] = []
    shape: tuple[int, ...] = (0, 0)
    padded = missing = 0
    for i, channel in enumerate(CHANNELS):
        needed = channel in settings.require
        if channel not in packet.cutouts:
            if needed:
                raise CutoutError(f"no {channel} cutout")
            continue
        try:
            image = decode_cutout(packet.cutouts[channel])
        except CutoutError as error:
            raise CutoutError(error.reason, f"{channel} {error.detail}".strip()) from error
        centre = (
            centre_index(image.shape[0], full, ypos),
            centre_index(image.shape[1], full, xpos),
        )
        part, outside = place(image, centre) if ratio is None else resample(image, ratio, centre)
        nan = int(np.isnan(part).sum())
        if nan == _PIXELS and not needed:
            continue
        if nan == _PIXELS or nan > settings.max_nan * _PIXELS:
            raise CutoutError("too many missing pixels", f"{channel}: {nan:,} of {_PIXELS:,}")
        stamp[i] = part
        present.append(channel)
        padded += outside
        missing += nan - outside
        if channel == "srch" or not any(shape):
            shape = image.shape
    if not present:
        raise CutoutError("no cutouts")
    return (
        stamp,
        present,
        {
            "has_diff": "diff" in present,
            "cutout_rows": shape[0],
            "cutout_columns": shape[1],
            "n_padded": padded,
            "n_nan": missing,
        },
    )
