"""Draw point sources and galaxies onto a frame.

Two renderers make the same picture: ``mixture`` (sums of Gaussians, the default) and ``galsim``
(Moffat and Sersic profiles drawn by FFT). `benchmarks/simulation.py` times one against the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rb.survey.sky.profiles import SERSIC_GRID, Mixture, moffat_mixture, sersic_mixture

PIXEL_VARIANCE = 1.0 / 12.0
"""Variance in px^2 that integrating over a square pixel adds to each axis."""


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

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    flux: NDArray[np.float64]
    radius: NDArray[np.float64]
    index: NDArray[np.float64]
    e1: NDArray[np.float64]
    e2: NDArray[np.float64]


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

    fwhm: NDArray[np.float64]
    e1: NDArray[np.float64]
    e2: NDArray[np.float64]
    beta: float


def _covariances(variance: NDArray[np.float64], e1: float, e2: float) -> NDArray[np.float64]:
    """Covariances (xx, yy, xy), shape (k, 3), of round variances under an area-keeping shear."""
    area = variance / np.sqrt(1.0 - e1**2 - e2**2)
    return np.stack([area * (1.0 + e1), area * (1.0 - e1), area * e2], axis=-1)


def _convolve(
    first: tuple[NDArray, NDArray], second: tuple[NDArray, NDArray]
) -> tuple[NDArray, NDArray]:
    """Convolve two mixtures given as (weights, covariances)."""
    weights = (first[0][:, None] * second[0][None, :]).ravel()
    covariances = (first[1][:, None, :] + second[1][None, :, :]).reshape(-1, 3)
    return weights, covariances


def _merge_unresolved(profile: Mixture, limit: float) -> Mixture:
    """Replace the components narrower than `limit` (a variance) by one of their mean variance."""
    weights, variances = profile
    narrow = variances < limit
    if np.count_nonzero(narrow) < 2:
        return profile
    core = weights[narrow].sum()
    mean = weights[narrow] @ variances[narrow] / core
    return (
        np.concatenate([[core], weights[~narrow]]),
        np.concatenate([[mean], variances[~narrow]]),
    )


def draw_gaussians(
    image: NDArray[np.float32],
    x: float,
    y: float,
    flux: float,
    weights: NDArray[np.float64],
    covariances: NDArray[np.float64],
    floor: float,
) -> None:
    """Add one source to an image, in place.

    Parameters
    ----------
    image : ndarray of shape (height, width)
        Float32 image; pixel centres have integer coordinates.
    x, y : float
        Position in px (x along columns).
    flux : float
        Total flux in ADU.
    weights, covariances : ndarray of shape (k,) and (k, 3)
        Flux fractions and (xx, yy, xy) in px^2.
    floor : float
        Surface brightness in ADU per px below which a component is not drawn.
    """
    determinant = covariances[:, 0] * covariances[:, 1] - covariances[:, 2] ** 2
    peak = np.abs(flux) * weights / (2.0 * np.pi * np.sqrt(determinant))
    # Out to where the component sinks under the floor, at least 2 sigma so that faint flux is kept.
    extent = np.sqrt(2.0 * np.log(np.maximum(peak / floor, np.e**2)))
    half_x = np.sqrt(covariances[:, 0]) * extent
    half_y = np.sqrt(covariances[:, 1]) * extent
    height, width = image.shape
    inverse = covariances / determinant[:, None]
    amplitude = np.sign(flux) * peak
    for k in range(len(weights)):
        x0, x1 = max(0, int(x - half_x[k])), min(width, int(x + half_x[k]) + 2)
        y0, y1 = max(0, int(y - half_y[k])), min(height, int(y + half_y[k]) + 2)
        if x0 >= x1 or y0 >= y1:
            continue
        dx = np.arange(x0 - x, x1 - x - 0.5)
        dy = np.arange(y0 - y, y1 - y - 0.5)
        # exp(-(yy dx^2 + xx dy^2 - 2 xy dx dy)/2): only the cross term does not factorise.
        along_x = (np.exp(-0.5 * inverse[k, 1] * dx**2) * amplitude[k]).astype(np.float32)
        along_y = np.exp(-0.5 * inverse[k, 0] * dy**2).astype(np.float32)
        box = np.multiply.outer(along_y, along_x)
        cross = inverse[k, 2]
        if abs(cross) * half_x[k] * half_y[k] > 1e-4:
            tilt = np.multiply.outer((cross * dy).astype(np.float32), dx.astype(np.float32))
            box *= np.exp(tilt, out=tilt)
        image[y0:y1, x0:x1] += box


def _draw_mixtures(
    image: NDArray[np.float32],
    sources: Sources,
    shapes: Shapes,
    floor: float,
) -> None:
    psf = moffat_mixture(shapes.beta)
    for i in range(len(sources.x)):
        if sources.flux[i] == 0.0:
            continue
        weights = psf[0]
        covariances = _covariances(psf[1] * shapes.fwhm[i] ** 2, shapes.e1[i], shapes.e2[i])
        if sources.radius[i] > 0.0:
            fractions, variances = sersic_mixture(float(sources.index[i]))
            # What is a quarter as wide as the PSF's core cannot be told from a point.
            profile = _merge_unresolved(
                (fractions, variances * sources.radius[i] ** 2), 0.02 * shapes.fwhm[i] ** 2
            )
            galaxy = _covariances(profile[1], sources.e1[i], sources.e2[i])
            weights, covariances = _convolve((profile[0], galaxy), (weights, covariances))
        covariances = covariances + np.array([PIXEL_VARIANCE, PIXEL_VARIANCE, 0.0])
        draw_gaussians(
            image, sources.x[i], sources.y[i], sources.flux[i], weights, covariances, floor
        )


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
    if renderer == "galsim":
        _draw_galsim(image, sources, shapes)
    else:
        _draw_mixtures(image, sources, shapes, floor)
