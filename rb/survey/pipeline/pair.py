"""What can be said of a pair of images by themselves: registration, sky, noise, PSFs, flux ratio.

Nothing is subtracted here, and nothing looks at the truth: simulated frames and images of an
observer are measured alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import sep
from numpy.typing import NDArray

from rb.errors import UserError
from rb.survey.pipeline.detection import Reference, find_reference
from rb.survey.pipeline.measure import STEP, find_stars, measure_image
from rb.survey.settings import DetectionSettings, settings_from_config

_BRIGHT = 30.0  # SNR of the template's sources that registration and flux ratio come from
_MOST = 400
_APERTURE = 6.0  # px
_WINDOW = 2.0  # px, sigma of the window of positions
_FAR, _OFF = 2.0, 0.1  # px: larger offsets are not of one source; smaller ones are left as they are
_CUT = 5  # px round unknown pixels: a source that is cut looks different in each image
_LEAST, _TELLING = 8, 100  # sources that tell an affine map
_RAYLEIGH = 1.1774  # median distance of two coordinates that scatter by 1
_ROUNDS, _CLIP = 4, 4.0  # fits, and medians of what is left that may lie off

VERSION = 3
"""Of what is measured here; what was built with another one is built again."""


@dataclass(frozen=True)
class MeasuredPair:
    """Two images of one sky.

    Attributes
    ----------
    search, template : ndarray of shape (height, width)
        float32, without their sky, in units of the search image; unknown pixels are 0.
    masked : ndarray of bool, shape (height, width)
        Pixels that are unknown or saturated in either, and those near unknown ones.
    psf : ndarray of shape (2, PSF_SIZE, PSF_SIZE)
        Of search and template, each of sum 1; NaN where no star told.
    noise : tuple of float
        Standard deviation of the sky of each, in units of the search image.
    ratio : float
        Flux in the search image over flux in the template.
    sources : Reference
        Those of the template.
    registration : float
        Scatter of sources between the images along each axis, px; 0 where too few tell.
    """

    search: NDArray[np.float32]
    template: NDArray[np.float32]
    masked: NDArray[np.bool_]
    psf: NDArray[np.float32]
    noise: tuple[float, float]
    ratio: float
    sources: Reference
    registration: float = 0.0


def measure_pair(
    search: NDArray,
    template: NDArray,
    masked: NDArray[np.bool_],
    settings: DetectionSettings | None = None,
    where: str = "the pair",
    psf: NDArray | None = None,
) -> MeasuredPair:
    """Measure a pair.

    Parameters
    ----------
    search, template : ndarray of shape (height, width)
        The images, registered to a pixel or two; what is left is measured from bright sources,
        and the template moved. NaN and infinite pixels are masked.
    masked : ndarray of bool, shape (height, width)
        Pixels to leave out.
    settings : DetectionSettings, optional
        How deep the template's sources are looked for; by default as in the simulated survey.
    where : str
        How messages call the pair.
    psf : ndarray of shape (2, PSF_SIZE, PSF_SIZE), optional
        PSFs of search and template, each of sum 1; measured from stars without them.

    Raises
    ------
    UserError
        If an image is blank, or too few sources lie in both to compare their fluxes.
    """
    settings = settings or settings_from_config({}).detection
    unknown = ~np.isfinite(search) | ~np.isfinite(template)
    masked = masked | unknown
    clean = []
    for name, image in (("search image", search), ("template", template)):
        pixels = np.where(masked & ~np.isfinite(image), 0.0, image)
        pixels = np.ascontiguousarray(pixels, dtype=np.float32)
        if masked.all() or pixels[~masked].min() == pixels[~masked].max():
            raise UserError(f"{where}: the {name} is blank, there is nothing to look for")
        clean.append(pixels)
    first = sep.Background(clean[1], mask=masked, bw=64, bh=64)
    if not first.globalrms > 0:
        raise UserError(f"{where}: the template's sky has no noise; give unprocessed pixels")
    flat = np.ascontiguousarray(clean[1] - first.back())
    sources = find_reference(flat, float(first.globalrms), settings)
    offset, scatter = registration(clean[0], flat, masked, sources)
    move = _move(offset, masked.shape)
    if move is not None:
        flat[~np.isfinite(template)] = 0.0
        clean[1] = flat = _moved(flat, move)
        outside = _outside(masked.shape, move)
        masked, unknown = (_moved_map(p, move) | outside | p for p in (masked, unknown))
        x, y = _moved_places(sources.x, sources.y, move)
        sources = replace(sources, x=x, y=y)
    stars = np.empty((0, 2)) if psf is not None else find_stars(flat, ~masked, sources)
    psfs, noise = [], []
    for number, image in enumerate(clean):
        sky, found = measure_image(image, masked, stars, sources)
        level = np.kron(sky.back(), np.ones((STEP, STEP), np.float32))
        clean[number] = image - level[: image.shape[0], : image.shape[1]]
        psfs.append(found)
        noise.append(float(sky.globalrms))
    known = np.stack(psfs) if psf is None else psf
    ratio = _flux_ratio(clean, known, masked, sources, where)
    for image in clean:
        image[unknown] = 0.0
    if unknown.any():
        masked |= _near(unknown)
    return MeasuredPair(
        clean[0],
        clean[1] * np.float32(ratio),
        masked,
        known.astype(np.float32),
        (noise[0], noise[1] * ratio),
        ratio,
        sources,
        scatter,
    )


def registration(
    search: NDArray[np.float32],
    template: NDArray[np.float32],
    masked: NDArray[np.bool_],
    sources: Reference,
) -> tuple[NDArray[np.float64] | None, float]:
    """Where in the template the pixels of the search image lie, from bright sources.

    Parameters
    ----------
    search, template : ndarray of shape (height, width)
        The images, the template without its sky.
    masked : ndarray of bool, shape (height, width)
        Pixels to leave out.
    sources : Reference
        Those of the template.

    Returns
    -------
    offset : ndarray of shape (3, 2), or None
        Affine map: (1, x, y) of a place of the search image, times this, is its (x, y) in the
        template less that in the search image. None where too few sources tell.
    scatter : float
        What is left after it along each axis, px; 0 where too few sources tell.
    """
    bright, free = _bright(masked, sources)
    bright = bright[free][:_TELLING]
    x, y = sources.x[bright], sources.y[bright]
    near = np.stack(sep.winpos(search - np.median(search), x, y, _WINDOW)[:2], 1)
    offset = np.stack(sep.winpos(template, x, y, _WINDOW)[:2], 1) - near
    place = np.column_stack([np.ones(len(near)), near])
    good = np.hypot(*offset.T) < _FAR
    for _ in range(_ROUNDS):
        if good.sum() < _LEAST:
            return None, 0.0
        found, *_ = np.linalg.lstsq(place[good], offset[good], rcond=None)
        rest = np.hypot(*(offset - place @ found).T)
        good &= rest <= _CLIP * np.median(rest[good])
    # Of the brightest, whose places have hardly an error of their own.
    return found, float(np.median(rest[good][: _LEAST * 3])) / _RAYLEIGH


def _move(offset: NDArray[np.float64] | None, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    """The map from the search image into the template, if they do not lie on each other."""
    if offset is None:
        return None
    height, width = shape
    corners = np.array([[1, x, y] for x in (0, width - 1) for y in (0, height - 1)])
    if np.hypot(*(corners @ offset).T).max() < _OFF:
        return None
    return offset + np.eye(3)[:, 1:]


def _moved(image: NDArray[np.float32], move: NDArray[np.float64]) -> NDArray[np.float32]:
    """An image of the template on the search image's grid, through cubic splines."""
    from scipy.ndimage import affine_transform

    matrix, start = move[1:].T[::-1, ::-1], move[0, ::-1]
    return np.asarray(affine_transform(image, matrix, start, order=3, mode="mirror"))


def _moved_map(plane: NDArray[np.bool_], move: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Pixels of the search image near those that are set in the template."""
    from scipy.ndimage import binary_dilation

    height, width = plane.shape
    row, column = np.nonzero(plane)
    x, y = (np.rint(v).astype(int) for v in _moved_places(column, row, move))
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    near = np.zeros_like(plane)
    near[y[inside], x[inside]] = True
    return np.asarray(binary_dilation(near, np.ones((3, 3))))


def _near(unknown: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels whose source would be cut by pixels that are unknown."""
    from scipy.ndimage import maximum_filter

    return np.asarray(maximum_filter(unknown, 2 * _CUT + 1))


def _outside(shape: tuple[int, ...], move: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Pixels of the search image that lie outside of the template."""
    height, width = shape
    x, y = (a + b * np.arange(width) + c * np.arange(height)[:, None] for a, b, c in move.T)
    return np.asarray((x < 0) | (x > width - 1) | (y < 0) | (y > height - 1))


def _moved_places(x: NDArray, y: NDArray, move: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places (2, n) in the search image of those of the template."""
    return np.asarray(np.linalg.solve(move[1:].T, np.stack([x, y]) - move[0][:, None]))


def _bright(
    masked: NDArray[np.bool_], sources: Reference
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The brightest sources, and which of them have no masked pixel near."""
    bright = np.flatnonzero(sources.flux > _BRIGHT * sources.flux_err)
    bright = bright[np.argsort(-sources.flux[bright], kind="stable")][:_MOST]
    x, y = sources.x[bright], sources.y[bright]
    blocked, _, _ = sep.sum_circle(masked.astype(np.float32), x, y, _APERTURE + 4.0, subpix=1)
    return bright, blocked == 0


def _flux_ratio(
    images: list[NDArray[np.float32]],
    psf: NDArray[np.float64],
    masked: NDArray[np.bool_],
    sources: Reference,
    where: str,
) -> float:
    """Median of the ratios of aperture fluxes of bright sources, most of which do not vary.

    Each image is convolved with the other's PSF before, so that apertures lose the same of both.
    """
    from scipy.signal import oaconvolve

    if np.isfinite(psf).all():
        images = [
            oaconvolve(image, other.astype(np.float32), mode="same").astype(np.float32)
            for image, other in zip(images, psf[::-1], strict=True)
        ]
    bright, free = _bright(masked, sources)
    x, y = sources.x[bright], sources.y[bright]
    (above, _, _), (below, _, _) = (
        sep.sum_circle(np.ascontiguousarray(image), x, y, _APERTURE, subpix=5) for image in images
    )
    good = free & (above > 0) & (below > 0)
    if good.sum() < 3:
        raise UserError(
            f"{where}: only {good.sum()} bright sources lie in both images, at least 3 are needed "
            "to compare their fluxes; are they of the same field, and registered?"
        )
    # Bright ones say more: each counts as its signal does.
    order = np.argsort(above[good] / below[good])
    weight = np.sqrt(below[good])[order].cumsum()
    middle = int(np.searchsorted(weight, 0.5 * weight[-1]))
    return float((above[good] / below[good])[order][middle])
