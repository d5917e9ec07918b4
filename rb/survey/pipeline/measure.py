"""What a pipeline knows of one exposure by itself: sky, noise, and the PSF from its stars.

Nothing here looks at the truth. Stars are told from galaxies by their size: bright sources that are
alone and not saturated have half-light radii that crowd at the PSF's, to which galaxies add. Each
star is moved to the middle of a pixel, brought to unit flux, and the stack of them is the PSF
image; its width and shape come from a Moffat profile fitted to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import sep
from numpy.typing import NDArray
from scipy.optimize import least_squares

from rb.survey.camera.exposures import Exposure
from rb.survey.pipeline.detection import Reference

PSF_SIZE = 25
"""Pixels along a side of a PSF image."""

_MARGIN = 4  # px round it, which take the edges of what is moved
_BRIGHTEST = 60  # sources that are looked at, and at most so many stars
_STARS = 25
_ALONE_PX = 13.0
_FAINT = 0.03  # neighbours of this share of the flux do not count
_LOCUS = 1.12  # largest over smallest half-light radius of stars
_SNR, _LEAST = 40.0, 5  # fainter stars are left out, but for so many
STEP = 2
"""Every second pixel along each axis tells the sky as well."""


@dataclass(frozen=True)
class Measured:
    """What is known of one exposure.

    Attributes
    ----------
    psf : ndarray of shape (PSF_SIZE, PSF_SIZE)
        The PSF as the pixels see it, centred, of sum 1; NaN if there was no star.
    fwhm, e1, e2 : float
        Its full width at half maximum in px, and its distortion (a^2-b^2)/(a^2+b^2) along the
        axes and the diagonals.
    sky_noise : float
        Standard deviation of the sky, ADU per px.
    zero_point : float
        Magnitude of 1 ADU, as calibrated.
    variance : ndarray of shape (height, width), or None
        Variance of each pixel in ADU^2: that of the sky, and the shot noise of what is in the
        image; NaN where it is masked.
    """

    psf: NDArray[np.float32]
    fwhm: float
    e1: float
    e2: float
    sky_noise: float
    zero_point: float
    variance: NDArray[np.float32] | None

    def side(self) -> dict[str, float]:
        """Side information as a stamp set's catalogue names it, without the image's name."""
        return {
            "psf_fwhm": self.fwhm,
            "psf_e1": self.e1,
            "psf_e2": self.e2,
            "sky_noise": self.sky_noise,
            "zero_point": self.zero_point,
        }


def find_stars(
    image: NDArray[np.float32], usable: NDArray[np.bool_], reference: Reference
) -> NDArray[np.float64]:
    """Positions of stars that are bright, alone and not saturated, the brightest first.

    Parameters
    ----------
    image : ndarray of shape (height, width)
        The deeper image, its sky removed.
    usable : ndarray of bool, shape (height, width)
        Pixels that are saturated in no image.
    reference : Reference
        Sources of the image.

    Returns
    -------
    ndarray of shape (n, 2)
        x and y in px.
    """
    x, y, flux = reference.x, reference.y, reference.flux
    half = PSF_SIZE // 2 + _MARGIN + 1
    height, width = image.shape
    chosen: list[int] = []
    for i in np.argsort(-flux, kind="stable"):
        if flux[i] < _SNR * reference.flux_err[i]:
            break
        column, row = round(float(x[i])), round(float(y[i]))
        if not (half <= column < width - half and half <= row < height - half):
            continue
        if not usable[row - half : row + half + 1, column - half : column + half + 1].all():
            continue
        near = (np.hypot(x - x[i], y - y[i]) < _ALONE_PX) & (flux > _FAINT * flux[i])
        if near.sum() == 1:
            chosen.append(i)
        if len(chosen) == _BRIGHTEST:
            break
    if not chosen:
        return np.empty((0, 2))
    radius = _half_light_radius(image, x[chosen], y[chosen])
    members = (radius >= radius[:, None]) & (radius <= _LOCUS * radius[:, None])
    # Nothing is more compact than a star, but one source alone may be anything.
    crowded = members.sum(axis=1) >= max(2.0, 0.4 * members.sum(axis=1).max())
    best = int(np.argmin(np.where(crowded, radius, np.inf)))
    stars = np.array(chosen)[members[best]][:_STARS]
    return np.stack([x[stars], y[stars]], axis=1)


def _half_light_radius(image: NDArray[np.float32], x: NDArray, y: NDArray) -> NDArray[np.float64]:
    radius, _ = sep.flux_radius(image, x, y, np.full(len(x), 8.0), 0.5, subpix=3)
    return np.maximum(radius, 0.3)


def measure_exposure(
    exposure: Exposure,
    stars: NDArray[np.float64],
    reference: Reference,
    with_variance: bool = False,
) -> Measured:
    """Measure one exposure.

    Parameters
    ----------
    exposure : Exposure
        Its image and masked pixels; of its conditions only the gain and the calibrated zero
        point are looked at.
    stars : ndarray of shape (n, 2)
        Positions from `find_stars`, px.
    reference : Reference
        Known sources, which are left out of the sky.
    with_variance : bool
        Whether the variance of each pixel is wanted.

    Returns
    -------
    Measured
    """
    image = exposure.image
    sky, psf = measure_image(image, exposure.masked, stars, reference)
    fwhm, e1, e2 = _shape(psf)
    noise = float(sky.globalrms)
    variance = None
    if with_variance:
        level, rms = (
            np.kron(part, np.ones((STEP, STEP)))[: image.shape[0], : image.shape[1]]
            for part in (sky.back(), sky.rms())
        )
        light = np.maximum(image - level, 0.0)
        variance = (rms**2 + exposure.conditions.shot_noise * light).astype(np.float32)
        variance[exposure.masked] = np.nan
    zero_point = exposure.conditions.zero_point_measured
    return Measured(psf.astype(np.float32), fwhm, e1, e2, noise, zero_point, variance)


def measure_image(
    image: NDArray[np.float32],
    masked: NDArray[np.bool_],
    stars: NDArray[np.float64],
    reference: Reference,
) -> tuple[Any, NDArray[np.float64]]:
    """Measure the sky and the PSF of one image.

    Parameters
    ----------
    image, masked : ndarray of shape (height, width)
        Pixels, and whether they are left out.
    stars : ndarray of shape (n, 2)
        Positions from `find_stars`, px.
    reference : Reference
        Known sources, which are left out of the sky.

    Returns
    -------
    sky : sep.Background
        Of every `STEP`-th pixel along each axis.
    psf : ndarray of shape (PSF_SIZE, PSF_SIZE)
        As in `Measured`.
    """
    thin = np.ascontiguousarray(image[::STEP, ::STEP])
    mask = masked[::STEP, ::STEP].copy()
    reach = (3.0 * reference.a + 2.0) / STEP
    sep.mask_ellipse(mask, reference.x / STEP, reference.y / STEP, reach, reach, 0.0 * reach, 1.0)
    sky = sep.Background(thin, mask=mask, bw=64 // STEP, bh=64 // STEP)
    return sky, _stack(image, sky.back(), stars, float(sky.globalrms))


def _stack(
    image: NDArray[np.float32],
    sky: NDArray[np.float32],
    stars: NDArray[np.float64],
    noise: float,
) -> NDArray[np.float64]:
    """The sum of the stars, each moved to the middle of a pixel, brought to unit flux."""
    unknown = np.full((PSF_SIZE, PSF_SIZE), np.nan)
    if not len(stars):
        return unknown
    x, y = stars.T
    sigma = 2.0 / 2.3548 * float(np.median(_half_light_radius(image, x, y)))
    x, y, _ = sep.winpos(image, x, y, sigma)
    lost = np.hypot(x - stars[:, 0], y - stars[:, 1]) > 1.5
    x, y = np.where(lost, stars[:, 0], x), np.where(lost, stars[:, 1], y)
    u = np.arange(PSF_SIZE + 2 * _MARGIN) - PSF_SIZE // 2 - _MARGIN
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    cuts = image[row[:, None, None] + u[:, None], column[:, None, None] + u].astype(np.float64)
    cuts -= sky[row // STEP, column // STEP, None, None]
    cuts = moved(cuts, column - x, row - y)[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    flux = cuts.sum(axis=(1, 2))
    bright = flux > _SNR * noise * np.sqrt(4.0 * np.pi) * sigma
    bright[:_LEAST] = flux[:_LEAST] > 0.0
    if not bright.any():
        return unknown
    cuts, flux = cuts[bright], flux[bright]
    # A star with a companion that nobody listed, or with a cosmic ray, is unlike the others.
    unit = cuts / flux[:, None, None]
    unlike = np.abs(unit - np.median(unit, axis=0)).sum(axis=(1, 2)) * np.sqrt(flux)
    total = cuts[unlike <= 3.0 * np.median(unlike)].sum(axis=0)
    return np.asarray(total / total.sum())


def moved(images: NDArray, dx: NDArray, dy: NDArray) -> NDArray[np.float64]:
    """Move each of (n, size, size) images by (dx, dy) px in Fourier space; nothing is smoothed."""
    size = images.shape[1]
    along_x = np.exp(-2j * np.pi * np.fft.rfftfreq(size) * dx[:, None])[:, None, :]
    along_y = np.exp(-2j * np.pi * np.fft.fftfreq(size) * dy[:, None])[:, :, None]
    return np.fft.irfft2(np.fft.rfft2(images) * along_x * along_y, s=(size, size))


def _shape(psf: NDArray[np.float64]) -> tuple[float, float, float]:
    """FWHM and distortion of an elliptical Moffat profile fitted to a PSF image."""
    if not np.isfinite(psf).all():
        return np.nan, np.nan, np.nan
    u = np.arange(PSF_SIZE) - PSF_SIZE // 2
    y, x = u[:, None], u[None, :]
    top = float(psf.max())

    def residual(p: NDArray[np.float64]) -> NDArray[np.float64]:
        peak, alpha, beta, e1, e2 = p
        # The radius on ellipses of these distortions, which keep their area.
        area = np.sqrt(np.maximum(1.0 - e1**2 - e2**2, 1e-2))
        r2 = ((1.0 - e1) * x**2 + (1.0 + e1) * y**2 - 2.0 * e2 * x * y) / area
        base = 1.0 + np.maximum(r2, 0.0) / alpha**2
        return np.asarray(peak * base ** -np.abs(beta) - psf / top).ravel()

    fit = least_squares(residual, [1.0, np.sqrt(0.7 / top), 3.0, 0.0, 0.0], method="lm")
    _, alpha, beta, e1, e2 = fit.x
    with np.errstate(over="ignore", divide="ignore"):  # a fit to noise may end anywhere
        fwhm = 2.0 * abs(alpha) * np.sqrt(2.0 ** (1.0 / abs(beta)) - 1.0)
    return float(fwhm), float(e1), float(e2)
