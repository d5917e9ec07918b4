"""From a packet's cutouts to a stamp of three channels, and what is known of its images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rb.sources.alerts.cutouts import (
    Cutout,
    CutoutError,
    centre_index,
    centred_psf,
    decode_cutout,
    nearest,
    open_cutout,
    place,
    resample,
)
from rb.sources.alerts.names import CUTOUTS
from rb.sources.alerts.packets import Packet
from rb.sources.alerts.settings import AlertSettings
from rb.stamps import CHANNELS
from rb.stamps.layout import IMAGES

# Who sends the difference of a negative source turned over, so that it is positive in it, and who
# sends search − template whatever its sign. Of other surveys it is not known.
_TURNED, _SUBTRACTED = {"ztf"}, {"rubin"}
_FINER = 5


@dataclass
class Candidate:
    """What the cutouts of a packet have become.

    Parameters
    ----------
    stamp : ndarray
        float32, (3, S, S); a channel that the packet lacks is NaN. S is ``settings.stamp_size``,
        or what a whole cutout of the packet has.
    variance : ndarray or None
        float32, (3, S, S), NaN where unknown; None if the packet has none, or it is not wanted.
    psf : ndarray or None
        float32, (2, P, P), of search image and template; likewise.
    present : list of str
        The channels that the packet has. An image without any measured pixel counts as lacking.
    columns : dict
        For the catalogue: ``has_diff``, ``cutout_rows`` and ``cutout_columns`` (of the search
        image, before cutting), ``n_padded`` (pixels outside the cutouts), ``n_nan`` (NaN pixels
        inside them), both over the channels that are present; ``n_nan_rows`` (rows and columns
        without any pixel, in the worst channel); ``dx`` and ``dy`` (the candidate's place minus
        the middle of the stamp [px]); and, where headers say it, ``rotation``, ``mirrored`` and the
        side information that `rb.stamps` knows.
    """

    stamp: np.ndarray
    variance: np.ndarray | None = None
    psf: np.ndarray | None = None
    present: list[str] = field(default_factory=list)
    columns: dict[str, Any] = field(default_factory=dict)

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that there are, by their names in a stamp set."""
        found = {"stamps": self.stamp, "variance": self.variance, "psf": self.psf}
        return {name: array for name, array in found.items() if array is not None}


def candidate(packet: Packet, settings: AlertSettings, row: Mapping[str, Any]) -> Candidate:
    """Stamp of a packet, and what is known of its images.

    Parameters
    ----------
    packet : Packet
        The alert with undecoded cutouts.
    settings : AlertSettings
        Which channels are needed, the pixel scale, how edges, signs and NaN are treated.
    row : mapping
        What the catalogue says of it: ``xpos`` and ``ypos``, its place on the chip [px, first
        pixel = 1], and ``isdiffpos``.

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
        [regular or 0, *(n for image in images.values() for n in image.pixels.shape)]
    )
    stamp = np.full((len(CHANNELS), size, size), np.nan, dtype=np.float32)
    found = Candidate(stamp, np.full_like(stamp, np.nan))
    shape: tuple[int, ...] = (0, 0)
    padded = missing = empty = 0
    for channel, image in images.items():
        pixels, needed = image.pixels, channel in settings.require
        at: tuple[float, ...] = tuple(
            centre_index(n, full, row[axis])
            for n, axis in zip(pixels.shape, ("ypos", "xpos"), strict=True)
        )
        middle = at
        if image.place is not None:
            at = image.place
            as_it_comes = settings.stamp_size is None and pixels.shape == (size, size)
            middle = at if ratio else tuple(nearest(p, size) for p in at)
            middle = (size // 2, size // 2) if as_it_comes else middle
        part, outside = _cut(pixels, size, middle, ratio)
        nan = int(np.isnan(part).sum())
        if nan == part.size and not needed:
            continue
        if nan == part.size or nan > settings.max_nan * part.size:
            raise CutoutError("too many missing pixels", f"{channel}: {nan:,} of {part.size:,}")
        index = CHANNELS.index(channel)
        stamp[index] = part
        if image.variance is not None:
            found.variance[index] = _cut(image.variance, size, middle, ratio, True)[0]  # type: ignore[index]
        found.present.append(channel)
        padded += outside
        missing += nan - outside
        empty = max(empty, sum(int(np.isnan(part).all(axis).sum()) for axis in (0, 1)))
        if channel == "srch" or not any(shape):
            shape = pixels.shape
            off = [p - (m - size // 2) - (size - 1) / 2 for p, m in zip(at, middle, strict=True)]
            found.columns |= {"dy": off[0], "dx": off[1]}
    if not found.present:
        raise CutoutError("no cutouts")
    if _to_turn(packet.survey, settings.sign, row["isdiffpos"]):
        stamp[CHANNELS.index("diff")] *= -1
    found.columns |= {
        "has_diff": "diff" in found.present,
        "cutout_rows": shape[0],
        "cutout_columns": shape[1],
        "n_padded": padded,
        "n_nan": missing,
        "n_nan_rows": empty,
    }
    _keep_planes(found, images, settings, ratio)
    return found


def _cut(
    image: np.ndarray,
    size: int,
    middle: tuple[float, ...],
    ratio: float | None,
    variance: bool = False,
) -> tuple[np.ndarray, int]:
    row, column = middle
    if ratio is None:
        return place(image, size, (int(row), int(column)))
    return resample(image, ratio, size, (row, column), variance)


def _to_turn(survey: str, sign: str, positive: bool | None) -> bool:
    """Whether the difference image has to be turned over to have the sign asked for."""
    negative = positive is False
    return negative and (
        (sign == "positive" and survey in _SUBTRACTED)
        or (sign == "difference" and survey in _TURNED)
    )


def _keep_planes(
    found: Candidate, images: Mapping[str, Cutout], settings: AlertSettings, ratio: float | None
) -> None:
    """Variances and PSFs as wanted, and the numbers that follow from them."""
    if not any(image.place or image.variance is not None for image in images.values()):
        found.variance = None
    variances = found.variance
    if variances is None:
        return
    psf = np.full((len(IMAGES), settings.psf_size, settings.psf_size), np.nan, np.float32)
    for i, name in enumerate(IMAGES):
        image = images.get(name)
        if image is not None and image.psf is not None:
            psf[i] = centred_psf(image.psf, settings.psf_size, ratio)
        variance = variances[CHANNELS.index(name)]
        known = np.isfinite(variance)
        found.columns |= {f"{key}_{name}": value for key, value in _shape(psf[i]).items()} | {
            f"sky_noise_{name}": float(np.sqrt(np.median(variance[known])))
            if known.any()
            else None,
            f"zero_point_{name}": image and image.zero_point,
        }
    oriented = images.get("srch") or next(iter(images.values()))
    found.columns |= {
        "rotation": oriented.rotation if math.isfinite(oriented.rotation) else None,
        "mirrored": oriented.mirrored,
    }
    has = {"psf": np.isfinite(psf).any(), "variance": np.isfinite(variances).any()}
    wanted = {name for name in settings.planes if has[name]}
    found.psf = psf if "psf" in wanted else None
    found.variance = found.variance if "variance" in wanted else None


def _shape(psf: np.ndarray) -> dict[str, float | None]:
    """Full width at half maximum [px] and ellipticity of a PSF; None if there is none.

    The width is that of a circle as large as the part above half of the maximum; the ellipticity is
    that of the second moments weighted by the PSF itself, which noise in its wings leaves alone.
    """
    if not np.isfinite(psf).all():
        return dict.fromkeys(("psf_fwhm", "psf_e1", "psf_e2"))
    from scipy.ndimage import zoom

    fine = zoom(psf.astype(np.float64), _FINER, order=3)
    above = np.count_nonzero(fine >= fine.max() / 2) * (psf.size / fine.size)
    weight = psf.astype(np.float64) ** 2
    weight /= weight.sum()
    y, x = (g - g.mean() for g in np.mgrid[: len(psf), : len(psf)].astype(np.float64))
    x, y = x - (weight * x).sum(), y - (weight * y).sum()
    xx, yy, xy = ((weight * product).sum() for product in (x * x, y * y, x * y))
    return {
        "psf_fwhm": 2 * math.sqrt(above / math.pi),
        "psf_e1": float((xx - yy) / (xx + yy)),
        "psf_e2": float(2 * xy / (xx + yy)),
    }


def _decoded(packet: Packet, settings: AlertSettings) -> dict[str, Cutout]:
    """The images that a packet has, by channel."""
    whole = packet.survey in settings.header_places
    images = {}
    for channel in CUTOUTS:
        if channel in packet.cutouts:
            data = packet.cutouts[channel]
            try:
                images[channel] = open_cutout(data) if whole else Cutout(decode_cutout(data))
            except CutoutError as error:
                raise CutoutError(error.reason, f"{channel} {error.detail}".strip()) from error
        elif channel in settings.require:
            raise CutoutError(f"no {channel} cutout")
    return images
