"""Find candidates in a difference image and measure them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import sep
from numpy.typing import NDArray

from rb.errors import UserError
from rb.survey.settings import DetectionSettings

Array = NDArray[np.float64]

_LATTICE = 20
"""Places along a side where the scatter of PSF fluxes is measured."""

_DIPOLE_BOX = 17
"""Side in px of the box in which the negative pixels of dipoles are counted."""


@dataclass(frozen=True)
class Detections:
    """Candidates of one frame, in the order in which they were found (by row, then column).

    Attributes
    ----------
    x, y : ndarray of shape (n,)
        Isophotal barycentres, px.
    a, b : ndarray of shape (n,)
        rms axes of the pixels above threshold, px.
    flux, flux_err : ndarray of shape (n,)
        PSF flux in ADU of the search image, with the noise of sky and sources.
    flags : ndarray of int, shape (n,)
        Extraction flags of SExtractor (Bertin & Arnouts 1996).
    """

    x: Array
    y: Array
    a: Array
    b: Array
    flux: Array
    flux_err: Array
    flags: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.x)

    def select(self, keep: NDArray[np.bool_]) -> Detections:
        """The candidates for which `keep` is true."""
        return Detections(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Reference:
    """Sources of the template: what a deep catalogue knows of the sky before the search image.

    Attributes
    ----------
    x, y, a, b : ndarray of shape (n,)
        Barycentres and rms axes, px.
    flux, flux_err : ndarray of shape (n,)
        Kron-like fluxes in ADU of the template.
    """

    x: Array
    y: Array
    a: Array
    b: Array
    flux: Array
    flux_err: Array


def moffat_stamp(fwhm: float, beta: float, dx: Array, dy: Array, half: int) -> Array:
    """Unit-flux Moffat PSFs centred (dx, dy) px off the middle pixel, shape (n, side, side)."""
    alpha = fwhm / (2.0 * np.sqrt(2.0 ** (1.0 / beta) - 1.0))
    u = np.arange(-half, half + 1, dtype=np.float64)
    r2 = (u[None, None, :] - dx[:, None, None]) ** 2 + (u[None, :, None] - dy[:, None, None]) ** 2
    profile = (1.0 + r2 / alpha**2) ** -beta
    return profile / profile.sum(axis=(1, 2), keepdims=True)


def _extract(key: str, *args: Any, **options: Any) -> NDArray[Any]:
    """Call `sep.extract`; where its buffers overflow, say which threshold was too low."""
    try:
        return sep.extract(*args, **options)
    except Exception as error:  # sep raises nothing more specific
        raise UserError(f"detection failed ({error}): raise {key}") from error


def find_reference(
    template: NDArray[np.float32], noise: float, settings: DetectionSettings
) -> Reference:
    """Find the sources of the template.

    Parameters
    ----------
    template : ndarray of shape (height, width)
        The template, sky removed.
    noise : float
        Sky noise, ADU per px.
    settings : DetectionSettings
        ``reference_threshold`` in units of the noise.

    Returns
    -------
    Reference
        Sources in the order found.

    Raises
    ------
    UserError
        The threshold is so low that too many pixels lie above it.
    """
    image = np.ascontiguousarray(template, dtype=np.float32)
    found = _extract(
        "data.detection.reference_threshold",
        image,
        settings.reference_threshold,
        err=noise,
        minarea=4,
        deblend_nthresh=16,
        deblend_cont=0.002,
    )
    x, y = found["x"], found["y"]
    a = np.maximum(found["a"], 0.3)
    # Single precision can carry an angle of 90 degrees over the bound that sep accepts.
    theta = np.clip(found["theta"].astype(np.float64), -np.pi / 2, np.pi / 2)
    b = np.clip(found["b"], 0.3, a)
    # An ellipse of 3 rms axes (at least 3 px) holds nearly all the light, as a Kron aperture does.
    scale = 3.0 * np.maximum(1.0, 1.0 / a)
    flux, error, _ = sep.sum_ellipse(image, x, y, a, b, theta, scale, err=noise, subpix=3)
    return Reference(x, y, a, b, flux, error)


def detect(
    difference: NDArray[np.float32],
    variance: NDArray[np.float32],
    mask: NDArray[np.bool_],
    fwhm: float,
    settings: DetectionSettings,
) -> Detections:
    """Find sources in the difference image and measure them.

    The image is filtered and thresholded in units of the sky's noise, which knows of the
    correlation between pixels but not of the shot noise of bright sources, so their cores yield
    spurious peaks; the PSF flux's error does know, and a cut on the ratio follows. Another cut, on
    the number of deeply negative pixels round the source, takes out the worst dipoles.

    Parameters
    ----------
    difference, variance : ndarray of shape (height, width)
        Difference image and its variance, ADU.
    mask : ndarray of bool, shape (height, width)
        Pixels to leave out.
    fwhm : float
        Measured FWHM of the search image, px.
    settings : DetectionSettings
        Thresholds, and whether what has become fainter is looked for as well.

    Returns
    -------
    Detections
        Candidates whose stamp lies within the image; those that have become fainter at the end.

    Raises
    ------
    UserError
        The threshold is so low that too many pixels lie above it.
    """
    image = np.ascontiguousarray(difference, dtype=np.float32)
    background = sep.Background(image, mask=mask, bw=64, bh=64)
    clean = image - background.back()
    edge = settings.stamp_size // 2
    excess = noise_excess(clean, variance, mask, fwhm, edge)
    found = [
        _detect(sign * clean, background.rms() * excess, mask, settings)
        for sign in ((1, -1) if settings.negative else (1,))
    ]
    sign = np.repeat([1.0, -1.0][: len(found)], [len(f) for f in found])
    every = np.concatenate(found)
    height, width = image.shape
    column, row = np.rint(every["x"]).astype(int), np.rint(every["y"]).astype(int)
    inside = (column >= edge) & (column < width - edge) & (row >= edge) & (row < height - edge)
    every, sign = every[inside], sign[inside]
    flux, error = psf_flux(clean, variance, mask, every["x"], every["y"], fwhm, edge)
    error = error * excess
    detections = Detections(
        x=every["x"],
        y=every["y"],
        a=every["a"],
        b=every["b"],
        flux=flux,
        flux_err=error,
        flags=every["flag"].astype(np.int64),
    )
    depth = settings.dipole_depth * background.globalrms
    opposite = _opposite_pixels(clean, mask, detections.x, detections.y, sign, depth)
    with np.errstate(invalid="ignore", divide="ignore"):
        good = (
            (sign * flux / error >= settings.snr_min)
            & (1.0 - detections.b / detections.a <= settings.max_ellipticity)
            & (opposite <= settings.dipole_pixels)
        )
    return detections.select(good)


def _detect(
    image: NDArray[np.float32],
    noise: NDArray[np.float32],
    mask: NDArray[np.bool_],
    settings: DetectionSettings,
) -> NDArray[Any]:
    """Positive sources of the filtered image, as `sep` lists them."""
    half = max(1, round(settings.filter_fwhm_px))
    u = np.arange(-half, half + 1)
    sigma = settings.filter_fwhm_px / 2.3548
    kernel = np.exp(-0.5 * (u[:, None] ** 2 + u[None, :] ** 2) / sigma**2)
    kernel /= kernel.sum()
    return _extract(
        "data.detection.threshold",
        image,
        settings.threshold,
        err=noise,
        mask=mask,
        minarea=settings.min_area,
        filter_kernel=kernel.astype(np.float32),
        filter_type="conv",
        deblend_cont=settings.deblend_contrast,
    )


def noise_excess(
    image: NDArray[np.float32],
    variance: NDArray[np.float32],
    mask: NDArray[np.bool_],
    fwhm: float,
    edge: int,
) -> float:
    """By how much PSF fluxes scatter more than the variance says, because noise is correlated.

    Parameters
    ----------
    image, variance : ndarray of shape (height, width)
        Difference image and its variance, pixel by pixel.
    mask : ndarray of bool, shape (height, width)
        Pixels to leave out.
    fwhm : float
        Of the PSF, px.
    edge : int
        How far inside the image fluxes are measured, px.

    Returns
    -------
    float
        Robust scatter of flux over error on a lattice of places, at least 1.
    """
    height, width = image.shape
    x, y = np.meshgrid(
        np.linspace(edge, width - 1.0 - edge, _LATTICE),
        np.linspace(edge, height - 1.0 - edge, _LATTICE),
    )
    flux, error = psf_flux(image, variance, mask, x.ravel(), y.ravel(), fwhm, edge)
    pull = flux[np.isfinite(error)] / error[np.isfinite(error)]
    if not len(pull):
        return 1.0
    return max(1.0, float(1.4826 * np.median(np.abs(pull - np.median(pull)))))


def _opposite_pixels(
    image: NDArray[np.float32],
    mask: NDArray[np.bool_],
    x: Array,
    y: Array,
    sign: Array,
    depth: float,
) -> NDArray[np.int64]:
    """How many unmasked pixels near each position are `depth` ADU beyond 0 in the other sense."""
    u = np.arange(_DIPOLE_BOX) - _DIPOLE_BOX // 2
    height, width = image.shape
    rows = np.clip(np.rint(y).astype(int)[:, None, None] + u[None, :, None], 0, height - 1)
    columns = np.clip(np.rint(x).astype(int)[:, None, None] + u[None, None, :], 0, width - 1)
    deep = sign[:, None, None] * image[rows, columns] < -depth
    return np.asarray(np.sum(deep & ~mask[rows, columns], axis=(1, 2)))


def psf_flux(
    image: NDArray[np.float32],
    variance: NDArray[np.float32],
    mask: NDArray[np.bool_],
    x: Array,
    y: Array,
    fwhm: float,
    reach: int,
    beta: float = 3.0,
) -> tuple[Array, Array]:
    """PSF flux and its error at given positions, by weighted least squares.

    Parameters
    ----------
    image, variance : ndarray of shape (height, width)
        Image and its variance, ADU.
    mask : ndarray of bool, shape (height, width)
        Pixels to leave out.
    x, y : ndarray of shape (n,)
        Positions, px, at least `reach` from the edge.
    fwhm, beta : float
        Moffat PSF.
    reach : int
        Pixels farther from a position than this, or than 1.5 FWHM, are left out.

    Returns
    -------
    flux, error : ndarray of shape (n,)
        ADU. The error is infinite where every pixel is masked.
    """
    half = min(int(np.ceil(1.5 * fwhm)), reach)
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    u = np.arange(-half, half + 1)
    cut = (row[:, None, None] + u[None, :, None], column[:, None, None] + u[None, None, :])
    psf = moffat_stamp(fwhm, beta, x - column, y - row, half)
    weight = np.where(mask[cut], 0.0, 1.0 / variance[cut])
    norm = np.sum(weight * psf**2, axis=(1, 2))
    flux = np.sum(weight * psf * image[cut], axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(norm > 0, flux / norm, 0.0), 1.0 / np.sqrt(norm)
