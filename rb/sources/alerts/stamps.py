"""From a packet's cutouts to a stamp of three channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from rb.sources.alerts.cutouts import CutoutError, centre_index, decode_cutout, place, resample
from rb.sources.alerts.packets import Packet
from rb.sources.alerts.settings import AlertSettings
from rb.stamps import CHANNELS


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
        float32, (3, S, S); a channel that the packet lacks is NaN. S is
        ``settings.stamp_size``, or what a whole cutout of the packet has.
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
    regular = settings.cutout_sizes.get(packet.survey)
    full = regular if settings.edges == "chip" else None
    images = _decoded(packet, settings)
    size = settings.stamp_size or max(
        [regular or 0, *(n for image in images.values() for n in image.shape)]
    )
    stamp = np.full((len(CHANNELS), size, size), np.nan, dtype=np.float32)
    present: list[str] = []
    shape: tuple[int, ...] = (0, 0)
    padded = missing = 0
    for channel, image in images.items():
        needed = channel in settings.require
        centre = (
            centre_index(image.shape[0], full, ypos),
            centre_index(image.shape[1], full, xpos),
        )
        if ratio is None:
            part, outside = place(image, size, centre)
        else:
            part, outside = resample(image, ratio, size, centre)
        nan = int(np.isnan(part).sum())
        if nan == part.size and not needed:
            continue
        if nan == part.size or nan > settings.max_nan * part.size:
            raise CutoutError("too many missing pixels", f"{channel}: {nan:,} of {part.size:,}")
        stamp[CHANNELS.index(channel)] = part
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


def _decoded(packet: Packet, settings: AlertSettings) -> dict[str, np.ndarray]:
    """The images that a packet has, by channel."""
    images = {}
    for channel in CHANNELS:
        if channel in packet.cutouts:
            try:
                images[channel] = decode_cutout(packet.cutouts[channel])
            except CutoutError as error:
                raise CutoutError(error.reason, f"{channel} {error.detail}".strip()) from error
        elif channel in settings.require:
            raise CutoutError(f"no {channel} cutout")
    return images
