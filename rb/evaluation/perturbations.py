"""What has gone wrong with stamps in surveys, done to stamps on purpose.

Each perturbation takes the stamps of a set and gives others of the same shape. Rows of NaN and
negative sources made false peaks of scores in Rubin's first year; swapped images, wrong units and
wrong pixel scales are what happens when a network meets another survey's files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple

import numpy as np

from rb.settings import Number, Share, Whole, check_fields
from rb.sources.alerts.cutouts import resample
from rb.stamps.batch import Stamps
from rb.stamps.layout import CHANNELS

_DIFF, _SRCH, _TMPL = (CHANNELS.index(c) for c in ("diff", "srch", "tmpl"))


@dataclass(frozen=True)
class Strength:
    """How hard stamps are hit.

    Parameters
    ----------
    nan_rows : float
        Share of the rows that are NaN.
    shift : int
        Pixels that the candidate lies off the middle, in both directions.
    unit : float
        Factor between the units.
    template_unit : float
        Factor between search image and template.
    finer, coarser : float
        Size of the other pixels, in those of the set.
    star : float
        Peak of a bright star, in standard deviations of the sky.
    fwhm : float
        Its full width at half maximum [px].
    residual : float
        Share of a bright star that is left in the difference.
    """

    nan_rows: Share = 0.2
    shift: Annotated[int, Whole(1)] = 4
    unit: Annotated[float, Number(above=0)] = 1000.0
    template_unit: Annotated[float, Number(above=0)] = 3.0
    finer: Annotated[float, Number(above=0, below=1)] = 0.5
    coarser: Annotated[float, Number(above=1)] = 1.5
    star: Annotated[float, Number(above=0)] = 300.0
    fwhm: Annotated[float, Number(above=0)] = 5.0
    residual: Share = 0.03

    def __post_init__(self) -> None:
        check_fields(self, "study.strength")


class Perturbation(NamedTuple):
    """A perturbation with what it stands for."""

    what: str
    make: Callable[[Stamps, Strength], Stamps]


def _nan_rows(stamps: Stamps, by: Strength) -> Stamps:
    images = stamps.images.copy()
    images[:, :, : round(by.nan_rows * images.shape[2])] = np.nan
    return replace(stamps, images=images)


def _negative(stamps: Stamps, by: Strength) -> Stamps:
    return _signed(_swapped(stamps, by), by)


def _signed(stamps: Stamps, by: Strength) -> Stamps:
    images = stamps.images.copy()
    images[:, _DIFF] *= -1
    return replace(stamps, images=images)


def _swapped(stamps: Stamps, by: Strength) -> Stamps:
    return replace(stamps, images=stamps.images[:, [_DIFF, _TMPL, _SRCH]])


def _turned(stamps: Stamps, by: Strength) -> Stamps:
    return replace(stamps, images=np.ascontiguousarray(np.rot90(stamps.images, axes=(2, 3))))


def _turned_template(stamps: Stamps, by: Strength) -> Stamps:
    images = stamps.images.copy()
    images[:, _TMPL] = np.rot90(images[:, _TMPL], axes=(1, 2))
    return replace(stamps, images=images)


def _off_centre(stamps: Stamps, by: Strength) -> Stamps:
    size, n = stamps.images.shape[-1], by.shift
    # What comes in at the edge is the sky there once more, mirrored.
    margins = ((0, 0), (0, 0), (n, 0), (n, 0))
    shifted = np.pad(stamps.images, margins, "symmetric")[:, :, :size, :size]
    return replace(stamps, images=shifted)


def _variable(stamps: Stamps, by: Strength) -> Stamps:
    return _with_star(stamps, by, place=(0.5, 0.5), peak=by.star / 10)


def _bright_star(stamps: Stamps, by: Strength) -> Stamps:
    return _with_star(stamps, by, place=(0.2, 0.25), peak=by.star, residual=by.residual)


def _saturated(stamps: Stamps, by: Strength) -> Stamps:
    return _with_star(stamps, by, place=(0.2, 0.25), peak=50 * by.star, ceiling=by.star)


def _with_star(
    stamps: Stamps,
    by: Strength,
    place: tuple[float, float],
    peak: float,
    ceiling: float = np.inf,
    residual: float = 0.0,
) -> Stamps:
    """The same star in search image and template; in the difference what is left of it."""
    size = stamps.images.shape[-1]
    y, x = np.mgrid[:size, :size] - np.array(place)[:, None, None] * (size - 1)
    profile = np.exp(-4 * np.log(2) * (x**2 + y**2) / by.fwhm**2)
    images = stamps.images.copy()
    for channel in (_SRCH, _TMPL):
        level, noise = _sky(images[:, channel])
        star = np.minimum(peak * profile, ceiling) * noise
        images[:, channel] = np.where(
            peak * profile >= ceiling, level + ceiling * noise, images[:, channel] + star
        )
    # A star that is a little off in one of the images leaves the derivative of its profile.
    _, noise = _sky(images[:, _DIFF])
    images[:, _DIFF] += peak * residual * noise * (2 * x / by.fwhm) * profile
    if np.isfinite(ceiling):
        images[:, _DIFF] = np.where(peak * profile >= ceiling, 0, images[:, _DIFF])
    return replace(stamps, images=images)


def _sky(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median and scaled absolute deviation of images (n, S, S), each (n, 1, 1); 0, 1 of none."""
    values = np.where(np.isfinite(images), images, np.nan).reshape(len(images), -1)
    empty = np.isnan(values).all(1)
    values[empty] = 0
    level = np.nanmedian(values, axis=1)
    noise = 1.4826 * np.nanmedian(np.abs(values - level[:, None]), axis=1)
    noise[noise == 0] = 1
    return level[:, None, None].astype("f4"), noise[:, None, None].astype("f4")


def _constant(stamps: Stamps, by: Strength) -> Stamps:
    n, channels, *_ = stamps.images.shape
    level, _ = _sky(stamps.images.reshape(n * channels, *stamps.images.shape[2:]))
    images = np.broadcast_to(level.reshape(n, channels, 1, 1), stamps.images.shape)
    return replace(stamps, images=images.copy())


def _empty(stamps: Stamps, by: Strength) -> Stamps:
    return replace(stamps, images=np.full_like(stamps.images, np.nan))


def _unit(stamps: Stamps, by: Strength) -> Stamps:
    variance = None if stamps.variance is None else stamps.variance * np.float32(by.unit**2)
    return replace(stamps, images=stamps.images * np.float32(by.unit), variance=variance)


def _template_unit(stamps: Stamps, by: Strength) -> Stamps:
    images = stamps.images.copy()
    images[:, _TMPL] *= np.float32(by.template_unit)
    return replace(stamps, images=images)


def _finer(stamps: Stamps, by: Strength) -> Stamps:
    return _resampled(stamps, by.finer)


def _coarser(stamps: Stamps, by: Strength) -> Stamps:
    return _resampled(stamps, by.coarser)


def _resampled(stamps: Stamps, ratio: float) -> Stamps:
    size = stamps.images.shape[-1]
    flat = stamps.images.reshape(-1, size, size)
    return replace(
        stamps,
        images=np.stack([resample(i, ratio, size)[0] for i in flat]).reshape(stamps.images.shape),
    )


PERTURBATIONS = {
    "nan rows": Perturbation("the first rows of all images are NaN, as at an edge", _nan_rows),
    "negative source": Perturbation(
        "a source that has faded: search image and template change places, the difference its sign",
        _negative,
    ),
    "wrong sign": Perturbation("the difference has the other sign", _signed),
    "swapped": Perturbation("search image and template are taken for each other", _swapped),
    "variable": Perturbation("a star at the candidate's place in both images", _variable),
    "turned": Perturbation("all images turned by 90 degrees", _turned),
    "turned template": Perturbation("the template alone turned by 90 degrees", _turned_template),
    "off centre": Perturbation("the candidate is not in the middle", _off_centre),
    "bright star": Perturbation("a bright star near it, not quite subtracted", _bright_star),
    "saturated star": Perturbation(
        "a saturated star near it, its core cut off and masked by 0 in the difference", _saturated
    ),
    "constant": Perturbation("all pixels of an image have its median", _constant),
    "empty": Perturbation("no pixel is measured", _empty),
    "other unit": Perturbation("all images in another unit", _unit),
    "template's unit": Perturbation("the template alone in another unit", _template_unit),
    "finer pixels": Perturbation("resampled to smaller pixels", _finer),
    "coarser pixels": Perturbation("resampled to larger pixels; NaN beyond the stamp", _coarser),
}  # fmt: skip
"""By name, in the order of the page."""
