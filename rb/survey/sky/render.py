"""Draw point sources and galaxies onto a frame.

Two renderers make the same picture: ``mixture`` (sums of Gaussians, the default) and ``galsim``
(Moffat and Sersic profiles drawn by FFT). `benchmarks/simulation.py` times one against the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from rb.survey.sky.profiles import SERSIC_GRID, moffat_mixture, sersic_mixture

PIXEL_VARIANCE = 1.0 / 12.0
"""Variance in px^2 that integrating over a square pixel adds to each axis."""

MERGED_LOG_VARIANCE = 0.05
"""Gaussians of one source whose variances lie in the same interval of this width are one."""

_BOXES = np.rint(6.0 * 1.5 ** np.arange(18)).astype(np.int64)
"""Half sides in px of the boxes that Gaussians are drawn in: few, so that many share one size."""

_INVISIBLE = 0.2
"""Gaussians whose peak is below this share of the floor are not drawn."""

_CHUNK_PIXELS = 1 << 18
"""Pixels drawn at once: a batch that stays in the processor's cache."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sources:
    """What is drawn onto one frame: points where `radius` is 0, Sersic profiles elsewhere.

    Attributes
    ----------
    x, y : ndarray of shape (n,)
        Positions in px.
    flux : ndarray of shape (n,)
        Total fluxes in ADU.
    radius : ndarray of shape (n,)
        Half-light radii in px, of the round profile of the same area.
    index : ndarray of shape (n,)
        Sersic indices.
    e1, e2 : ndarray of shape (n,)
        Distortion (a^2-b^2)/(a^2+b^2) along the axes and the diagonals.
    """

    x: Floats
    y: Floats
    flux: Floats
    radius: Floats
    index: Floats
    e1: Floats
    e2: Floats

    @classmethod
    def points(cls, x: Floats, y: Floats, flux: Floats) -> Sources:
        """Point sources."""
        zero = np.zeros(len(x))
        return cls(x, y, flux, zero, zero + 1.0, zero, zero)

    @classmethod
    def joined(cls, parts: list[Sources]) -> Sources:
        """Several lists of sources as one."""
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))

    def select(self, rows: NDArray) -> Sources:
        """The sources of these rows."""
        return Sources(*(getattr(self, f.name)[rows] for f in fields(self)))


@dataclass(frozen=True)
class Shapes:
    """The PSF at the position of each source.

    Attributes
    ----------
    fwhm : ndarray of shape (n,)
        Full width at half maximum in px.
    e1, e2 : ndarray of shape (n,)
        Distortion (a^2-b^2)/(a^2+b^2) along the axes and the diagonals.
    beta : float
        Moffat exponent.
    """

    fwhm: Floats
    e1: Floats
    e2: Floats
    beta: float


@dataclass(frozen=True)
class _Gaussians:
    """Gaussians, each of one source: `owner` (row), `weight` (flux share), `covariance` (px^2)."""

    owner: NDArray[np.int64]
    weight: Floats
    covariance: Floats

    def merged(self) -> _Gaussians:
        """Replace Gaussians of nearly the same size that belong to one source by their mean."""
        area = self.covariance[:, 0] * self.covariance[:, 1] - self.covariance[:, 2] ** 2
        size = np.floor(0.5 * np.log(area) / MERGED_LOG_VARIANCE).astype(np.int64)
        key, group = np.unique(self.owner * 256 + size + 64, return_inverse=True)
        weight = np.bincount(group, self.weight).astype(np.float64)
        means = [np.bincount(group, self.weight * self.covariance[:, i]) / weight for i in range(3)]
        return _Gaussians(key // 256, weight, np.stack(means, axis=-1))


def _covariances(variance: Floats, e1: Floats, e2: Floats) -> Floats:
    """Covariances (xx, yy, xy), shape (n, k, 3), of round variances (n, k) under a shear."""
    # The shear keeps the area.
    area = variance / np.sqrt(1.0 - e1**2 - e2**2)[:, None]
    return np.stack(
        [area * (1.0 + e1)[:, None], area * (1.0 - e1)[:, None], area * e2[:, None]], axis=-1
    )


def _seen(sources: Sources, shapes: Shapes) -> _Gaussians:
    """All sources, seen through the PSF and integrated over pixels, as Gaussians."""
    psf_weight, psf_variance = moffat_mixture(shapes.beta)
    psf = _covariances(psf_variance * shapes.fwhm[:, None] ** 2, shapes.e1, shapes.e2)
    psf[..., :2] += PIXEL_VARIANCE
    grid = np.log(SERSIC_GRID)
    nearest = np.abs(np.log(sources.index)[:, None] - grid).argmin(axis=1)
    profile = np.where(sources.radius > 0.0, nearest, -1)
    parts = []
    for kind in np.unique(profile):
        rows = np.flatnonzero(profile == kind)
        weight, covariance = psf_weight[None, :], psf[rows]
        if kind >= 0:
            fraction, variance = sersic_mixture(SERSIC_GRID[kind])
            galaxy = _covariances(
                variance * sources.radius[rows, None] ** 2, sources.e1[rows], sources.e2[rows]
            )
            # A sum of Gaussians convolved with another: variances add, fluxes multiply.
            weight = np.multiply.outer(fraction, psf_weight).reshape(1, -1)
            covariance = galaxy[:, :, None, :] + covariance[:, None, :, :]
            covariance = covariance.reshape(len(rows), -1, 3)
        parts.append(
            _Gaussians(
                np.repeat(rows, covariance.shape[1]),
                np.tile(weight[0], len(rows)),
                covariance.reshape(-1, 3),
            )
        )
    every = (np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(_Gaussians))
    return _Gaussians(*every).merged()


def _boxes(
    sources: Sources, shapes: Shapes, floor: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Batches of boxes of one size: the sources that they show (m,) and the pixels (m, w, w)."""
    seen = _seen(sources, shapes)
    xx, yy, xy = seen.covariance.T
    determinant = xx * yy - xy**2
    peak = sources.flux[seen.owner] * seen.weight / (2.0 * np.pi * np.sqrt(determinant))
    # Out to where the component sinks under the floor, at least 2 sigma so that faint flux is kept.
    extent = np.sqrt(2.0 * np.log(np.maximum(np.abs(peak) / floor, np.e**2)))
    reach = np.sqrt(np.maximum(xx, yy)) * extent
    size = np.minimum(np.searchsorted(_BOXES, reach), len(_BOXES) - 1)
    # exp of -(yy x^2 + xx y^2 - 2 xy x y)/2, a product of columns in y with rows in x.
    inverse = (np.array([-0.5, -0.5, 1.0]) * seen.covariance / determinant[:, None]).astype("f4")
    dx, dy = ((c - np.rint(c)).astype("f4") for c in (sources.x, sources.y))
    # Gaussians that share box size and source stand together; so do sources that have as many.
    order = np.lexsort((seen.owner, size))
    order = order[np.abs(peak[order]) > _INVISIBLE * floor]
    group = np.flatnonzero(np.diff(size[order] * len(sources.x) + seen.owner[order], prepend=-1))
    count = np.diff(group, append=len(order))
    box = size[order[group]]
    for kind in np.unique(box * len(seen.owner) + count):
        half, together = int(_BOXES[kind // len(seen.owner)]), int(kind % len(seen.owner))
        u = np.arange(-half, half + 1, dtype=np.float32)
        rows = group[(box == kind // len(seen.owner)) & (count == together)]
        step = max(1, _CHUNK_PIXELS // (together * len(u) ** 2))
        for start in range(0, len(rows), step):
            part = order[rows[start : start + step, None] + np.arange(together)].ravel()
            owner = seen.owner[part]
            x, y = u - dx[owner, None], u - dy[owner, None]
            down = np.empty((len(part), len(u), 3), dtype=np.float32)
            along = np.empty((len(part), 3, len(u)), dtype=np.float32)
            down[:, :, 0] = inverse[part, :1] * y**2
            down[:, :, 1], down[:, :, 2] = 1.0, y
            along[:, 0], along[:, 1] = 1.0, inverse[part, 1:2] * x**2
            along[:, 2] = inverse[part, 2:] * x
            pixels = np.matmul(down, along)
            np.exp(pixels, out=pixels)
            weight = peak[part].astype(np.float32).reshape(-1, 1, together)
            total = np.matmul(weight, pixels.reshape(len(weight), together, -1))
            yield owner[::together], total.reshape(len(weight), len(u), len(u))


def _draw_mixtures(
    image: NDArray[np.float32], sources: Sources, shapes: Shapes, floor: float
) -> None:
    column, row = np.rint(sources.x).astype(int), np.rint(sources.y).astype(int)
    height, width = image.shape
    for owner, boxes in _boxes(sources, shapes, floor):
        half = boxes.shape[1] // 2
        x0, y0 = column[owner] - half, row[owner] - half
        x1, y1 = x0 + 2 * half + 1, y0 + 2 * half + 1
        whole = (x0 >= 0) & (y0 >= 0) & (x1 <= width) & (y1 <= height)
        for i in np.flatnonzero(whole):
            image[y0[i] : y1[i], x0[i] : x1[i]] += boxes[i]
        for i in np.flatnonzero(~whole & (x1 > 0) & (y1 > 0) & (x0 < width) & (y0 < height)):
            left, top = max(-x0[i], 0), max(-y0[i], 0)
            target = image[y0[i] + top : y1[i], x0[i] + left : x1[i]]
            target += boxes[i, top : top + target.shape[0], left : left + target.shape[1]]


def _draw_galsim(
    image: NDArray[np.float32],
    sources: Sources,
    shapes: Shapes,
) -> None:
    import galsim

    height, width = image.shape
    # GalSim counts pixels from 1; bounds keep the two conventions apart.
    canvas = galsim.Image(image, xmin=0, ymin=0, scale=1.0)
    for i in range(len(sources.x)):
        if sources.flux[i] == 0.0:
            continue
        profile = galsim.Moffat(beta=shapes.beta, fwhm=shapes.fwhm[i]).shear(
            galsim.Shear(e1=shapes.e1[i], e2=shapes.e2[i])
        )
        if sources.radius[i] > 0.0:
            n = min(SERSIC_GRID, key=lambda grid: abs(np.log(grid / sources.index[i])))
            galaxy = galsim.Sersic(
                n=n,
                half_light_radius=sources.radius[i],
                trunc=8 * sources.radius[i],
                flux_untruncated=True,
            )
            shear = galsim.Shear(e1=sources.e1[i], e2=sources.e2[i])
            profile = galsim.Convolve(galaxy.shear(shear), profile)
        profile = profile.withFlux(sources.flux[i])
        position = galsim.PositionD(float(sources.x[i]), float(sources.y[i]))
        size = min(profile.getGoodImageSize(1.0), 2 * max(height, width))
        centre = position.round()
        bounds = (
            galsim.BoundsI(
                centre.x - size // 2,
                centre.x + size // 2,
                centre.y - size // 2,
                centre.y + size // 2,
            )
            & canvas.bounds
        )
        if not bounds.isDefined():
            continue
        profile.drawImage(image=canvas[bounds], center=position, add_to_image=True)


def draw_sources(
    image: NDArray[np.float32],
    sources: Sources,
    shapes: Shapes,
    renderer: str = "mixture",
    floor: float = 0.5,
) -> None:
    """Add sources, seen through the PSF and integrated over pixels, to an image in place.

    Parameters
    ----------
    image : ndarray of shape (height, width)
        Float32 image in ADU.
    sources : Sources
        What to draw; positions in px, fluxes in ADU.
    shapes : Shapes
        The PSF at each source.
    renderer : {"mixture", "galsim"}
        Sums of Gaussians, or GalSim's FFT of the exact profiles.
    floor : float
        For ``mixture``: surface brightness in ADU per px below which nothing is drawn.
    """
    if not len(sources.x):
        return
    if renderer == "galsim":
        _draw_galsim(image, sources, shapes)
    else:
        _draw_mixtures(image, sources, shapes, floor)
