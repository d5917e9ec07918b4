"""Observe a scene: PSF, zero point, sky, registration error, noise and saturation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from rb.survey.camera.noise import correlated_noise
from rb.survey.settings import ExposureSettings
from rb.survey.sky.render import Shapes, Sources, draw_sources
from rb.survey.sky.scene import Scene


@dataclass(frozen=True)
class Smooth:
    """A smooth random field over the frame with zero mean and unit rms: a cubic in x and y."""

    coefficients: NDArray[np.float64]
    size: int

    @classmethod
    def draw(cls, rng: np.random.Generator, size: int) -> Smooth:
        """Draw one at random."""
        coefficients = rng.standard_normal((4, 4))
        coefficients[np.add.outer(np.arange(4), np.arange(4)) > 3] = 0.0
        coefficients[0, 0] = 0.0
        # Legendre polynomials of degree i and j have mean square 1/((2i+1)(2j+1)) over the square.
        norm = 1.0 / np.multiply.outer(2 * np.arange(4) + 1, 2 * np.arange(4) + 1)
        return cls(coefficients / np.sqrt(np.sum(coefficients**2 * norm)), size)

    def __call__(self, x: NDArray, y: NDArray) -> NDArray[np.float64]:
        """Values at positions in px; clamped at the frame's edge."""
        u = np.clip(2.0 * x / (self.size - 1) - 1.0, -1.0, 1.0)
        v = np.clip(2.0 * y / (self.size - 1) - 1.0, -1.0, 1.0)
        return np.asarray(
            np.polynomial.legendre.legval2d(u, v, self.coefficients), dtype=np.float64
        )


@dataclass(frozen=True)
class Psf:
    """A Moffat PSF that varies over the frame.

    Attributes
    ----------
    fwhm : float
        Mean FWHM in px.
    e1, e2 : float
        Mean distortion.
    beta : float
        Moffat exponent.
    width, tilt1, tilt2 : Smooth
        Fields by which the width (a fraction) and the distortion vary.
    variation, variation_ellipticity : float
        Their rms amplitudes.
    """

    fwhm: float
    e1: float
    e2: float
    beta: float
    width: Smooth
    tilt1: Smooth
    tilt2: Smooth
    variation: float
    variation_ellipticity: float

    def at(self, x: NDArray, y: NDArray) -> Shapes:
        """The PSF at positions in px."""
        # A PSF narrower than a third of its mean does not occur; this keeps wild settings finite.
        factor = np.maximum(1.0 + self.variation * self.width(x, y), 0.3)
        return Shapes(
            fwhm=self.fwhm * factor,
            e1=np.clip(self.e1 + self.variation_ellipticity * self.tilt1(x, y), -0.5, 0.5),
            e2=np.clip(self.e2 + self.variation_ellipticity * self.tilt2(x, y), -0.5, 0.5),
            beta=self.beta,
        )


@dataclass(frozen=True)
class Conditions:
    """What the night was like for one image.

    Attributes
    ----------
    psf : Psf
        Point spread function.
    zero_point : float
        True magnitude of 1 ADU.
    zero_point_measured : float
        What the calibration believes.
    sky_noise : float
        Noise of the blank sky, ADU per px.
    shot_noise : float
        Variance per ADU of flux above the sky (the inverse gain), ADU.
    sky_level, gradient_x, gradient_y : float
        Level of the sky that was left in the image and its change over the frame, ADU.
    exposures : int
        Number of exposures added.
    resamplings : int
        How often the image was put onto another pixel grid.
    saturation : float
        Level above the sky at which pixels saturate, ADU.
    """

    psf: Psf
    zero_point: float
    zero_point_measured: float
    sky_noise: float
    shot_noise: float
    sky_level: float
    gradient_x: float
    gradient_y: float
    exposures: int
    resamplings: int
    saturation: float


@dataclass
class Exposure:
    """One image with what is known of it.

    Attributes
    ----------
    image : ndarray of shape (size, size)
        Float32, ADU.
    variance : ndarray of shape (size, size)
        Float32, ADU^2.
    saturated : ndarray of bool, shape (size, size)
        Pixels at the saturation level, bleeds included.
    masked : ndarray of bool, shape (size, size)
        Pixels that the reduction leaves out: the saturated ones and their surroundings, and
        artefacts that were recognised.
    conditions : Conditions
        How it was taken.
    """

    image: NDArray[np.float32]
    variance: NDArray[np.float32]
    saturated: NDArray[np.bool_]
    masked: NDArray[np.bool_]
    conditions: Conditions


@dataclass(frozen=True)
class Registration:
    """Where the template's sources lie relative to the search image's, and how bright they are.

    Left over from the alignment are a global shift, a smooth warp, a scatter per source, and a
    shift in proportion to its colour along the direction in which the atmosphere refracts, all in
    px. The flux scale varies smoothly, because flat fields are not perfect.
    """

    shift: NDArray[np.float64]
    warp: float
    warp_x: Smooth
    warp_y: Smooth
    source: float
    refraction: NDArray[np.float64]
    flat_error: float
    flat: Smooth

    def displacement(
        self, rng: np.random.Generator, x: NDArray, y: NDArray, colour: NDArray
    ) -> NDArray[np.float64]:
        """Template position minus search position of sources at (x, y), shape (2, n)."""
        warp = self.warp * np.stack([self.warp_x(x, y), self.warp_y(x, y)])
        scatter = self.source * rng.standard_normal((2, len(x)))
        return np.asarray(
            self.shift[:, None] + warp + scatter + np.multiply.outer(self.refraction, colour)
        )

    def flux_ratio(self, x: NDArray, y: NDArray) -> NDArray[np.float64]:
        """By how much too bright the template shows sources at (x, y)."""
        return 1.0 + self.flat_error * self.flat(x, y)


def draw_registration(
    rng: np.random.Generator, settings: ExposureSettings, size: int
) -> Registration:
    """Draw the registration error of one pair of images."""
    direction = rng.uniform(0.0, 2.0 * np.pi)
    # Both images were taken at some airmass; what counts is the difference.
    strength = settings.refraction_px * rng.standard_normal()
    return Registration(
        shift=settings.registration_px * rng.standard_normal(2),
        warp=settings.registration_warp_px * rng.rayleigh(0.8),
        warp_x=Smooth.draw(rng, size),
        warp_y=Smooth.draw(rng, size),
        source=settings.registration_source_px,
        refraction=strength * np.array([np.cos(direction), np.sin(direction)]),
        flat_error=settings.flat_error,
        flat=Smooth.draw(rng, size),
    )


def draw_conditions(
    rng: np.random.Generator, settings: ExposureSettings, size: int
) -> tuple[Conditions, Conditions]:
    """Draw the conditions of a pair of images.

    Adding n exposures divides the variance of the sky and of the sources alike by n, because the
    sum is scaled back to the survey's zero point. Search images are single exposures or, in the
    deep fields, sums of a few; templates add more and are chosen for good seeing.

    Parameters
    ----------
    rng : numpy.random.Generator
        Random numbers of this frame and this step alone.
    settings : ExposureSettings
        Distributions.
    size : int
        Side of the frame, px.

    Returns
    -------
    search, template : Conditions
    """
    low, high = settings.fwhm_range_px
    single_noise = settings.sky_noise * np.exp(settings.sky_noise_scatter * rng.standard_normal())
    deep = rng.random() < settings.deep_fraction
    search_n = int(rng.integers(*settings.deep_exposures, endpoint=True)) if deep else 1
    template_n = search_n * int(rng.integers(*settings.template_exposures, endpoint=True))
    pair = []
    search_resamplings = settings.coadd_resamplings if search_n > 1 else 0
    for n, fwhm, scatter, resamplings in (
        (search_n, settings.search_fwhm_px, settings.search_fwhm_scatter, search_resamplings),
        (
            template_n,
            settings.template_fwhm_px,
            settings.template_fwhm_scatter,
            settings.template_resamplings,
        ),
    ):
        e = settings.psf_ellipticity * rng.standard_normal(2) / np.sqrt(n) ** 0.5
        psf = Psf(
            fwhm=float(np.clip(fwhm * np.exp(scatter * rng.standard_normal()), low, high)),
            e1=float(np.clip(e[0], -0.3, 0.3)),
            e2=float(np.clip(e[1], -0.3, 0.3)),
            beta=settings.moffat_beta,
            width=Smooth.draw(rng, size),
            tilt1=Smooth.draw(rng, size),
            tilt2=Smooth.draw(rng, size),
            variation=settings.psf_variation,
            variation_ellipticity=settings.psf_variation_ellipticity,
        )
        zero_point = settings.zero_point + settings.zero_point_scatter * rng.standard_normal()
        # Numbers above are ADU at the survey's zero point; the image has its own.
        scale = 10.0 ** (0.4 * (zero_point - settings.zero_point))
        gradient = settings.sky_gradient * rng.standard_normal(2)
        pair.append(
            Conditions(
                psf=psf,
                zero_point=float(zero_point),
                zero_point_measured=float(
                    zero_point + settings.calibration_error * rng.standard_normal()
                ),
                sky_noise=float(single_noise / np.sqrt(n) * scale),
                shot_noise=float(settings.shot_noise / n * scale),
                sky_level=float(settings.sky_level * rng.random() * scale),
                gradient_x=float(gradient[0] * scale),
                gradient_y=float(gradient[1] * scale),
                exposures=n,
                resamplings=resamplings,
                saturation=float(settings.saturation * scale),
            )
        )
    search, template = pair
    # The template's sky is subtracted when it is built.
    return search, replace(template, sky_level=0.0)


def _bleed(rng: np.random.Generator, image: NDArray[np.float32], level: float) -> NDArray[np.bool_]:
    """Cut pixels at the saturation level and run the excess charge along columns, in place."""
    saturated = image > level
    if not saturated.any():
        return saturated
    excess = np.where(saturated, image - level, 0.0).sum(axis=0)
    for column in np.flatnonzero(excess):
        rows = np.flatnonzero(saturated[:, column])
        # A spilled pixel fills to the level; DECam spills both ways along its columns.
        length = int(min(excess[column] / level, image.shape[0] / 4))
        up = int(rng.integers(0, length + 1)) if length else 0
        saturated[max(0, rows[0] - up) : rows[-1] + 1 + length - up, column] = True
    image[saturated] = level
    return saturated


def expose(
    rng: np.random.Generator,
    scene: Scene,
    conditions: Conditions,
    settings: ExposureSettings,
    size: int,
    renderer: str,
    registration: Registration | None = None,
) -> Exposure:
    """Take one image of the scene.

    Parameters
    ----------
    rng : numpy.random.Generator
        Random numbers of this frame and this image alone.
    scene : Scene
        The sky.
    conditions : Conditions
        The night.
    settings : ExposureSettings
        For the brighter-fatter effect and the zero point of the scene's fluxes.
    size : int
        Side of the frame, px.
    renderer : {"mixture", "galsim"}
        How sources are drawn.
    registration : Registration, optional
        Given for the template: its sources are displaced by it, and it has no supernovae.

    Returns
    -------
    Exposure
        Noisy image, its variance, saturated pixels.
    """
    scale = 10.0 ** (0.4 * (conditions.zero_point - settings.zero_point))
    image = np.zeros((size, size), dtype=np.float32)
    sources, colour, is_star = _sources(rng, scene, registration)
    sources = replace(sources, flux=sources.flux * scale)
    shapes = conditions.psf.at(sources.x, sources.y)
    # Bright stars look wider, in proportion to their peak (Gruen et al. 2015, JINST 10 C05032),
    # and blue ones wider than red ones, because seeing and refraction depend on wavelength.
    peak = np.where(is_star, 0.6 * np.abs(sources.flux) / shapes.fwhm**2, 0.0)
    swell = 1.0 + settings.brighter_fatter * np.minimum(peak / conditions.saturation, 1.0)
    swell = swell * np.maximum(1.0 + settings.colour_seeing * colour, 0.5)
    shapes = replace(shapes, fwhm=shapes.fwhm * swell)
    draw_sources(image, sources, shapes, renderer, 0.03 * conditions.sky_noise)

    saturated = _bleed(rng, image, conditions.saturation)
    masked = saturated
    if settings.saturation_growth_px and saturated.any():
        masked = binary_dilation(saturated, iterations=settings.saturation_growth_px)
    variance = conditions.sky_noise**2 + conditions.shot_noise * np.maximum(image, 0.0)
    noise = correlated_noise(rng, size, conditions.resamplings)
    image += np.sqrt(variance) * noise
    ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    image += conditions.sky_level + conditions.gradient_x * ramp
    image += (conditions.gradient_y * ramp)[:, None]
    return Exposure(image, variance.astype(np.float32), saturated, masked, conditions)


def _sources(
    rng: np.random.Generator, scene: Scene, registration: Registration | None
) -> tuple[Sources, NDArray[np.float64], NDArray[np.bool_]]:
    """What is drawn into one image, the colour of each source, and which are point-like."""
    galaxies, stars, events = scene.galaxies, scene.stars, scene.events
    parts, owner = galaxies.parts, galaxies.owner
    if registration is None:
        changed, event = events.in_search()
    else:
        x, y = galaxies.whole.x, galaxies.whole.y
        shift = registration.displacement(rng, x, y, scene.galaxy_colour)
        ratio = registration.flux_ratio(x, y)
        parts = replace(
            parts,
            x=parts.x + shift[0, owner],
            y=parts.y + shift[1, owner],
            flux=parts.flux * ratio[owner],
        )
        x, y = stars.x - scene.motion[:, 0], stars.y - scene.motion[:, 1]
        move = registration.displacement(rng, x, y, scene.star_colour)
        flux = stars.flux * registration.flux_ratio(x, y)
        stars = replace(stars, x=x + move[0], y=y + move[1], flux=flux)
        event = np.flatnonzero(events.template_flux)
        host = events.host[event]
        with_host = np.where(host >= 0, shift[:, host], 0.0) if len(galaxies.mag) else 0.0
        x, y = np.stack([events.x[event], events.y[event]]) + with_host
        changed = Sources.points(x, y, events.template_flux[event])
    star = events.star[event]
    colours = [scene.galaxy_colour[owner], scene.star_colour, np.zeros(len(event))]
    varies = star >= 0
    colours[2][varies] = scene.star_colour[star[varies]]
    pointlike = np.repeat([False, True, True], [len(owner), len(stars.x), len(event)])
    return Sources.joined([parts, stars, changed]), np.concatenate(colours), pointlike
