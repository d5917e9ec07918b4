"""Draw what is in the sky of one frame: galaxies, stars, and supernovae on hosts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from rb.stamps.layout import STAMP_SIZE
from rb.survey.settings import SceneSettings
from rb.survey.sky.profiles import sersic_mixture
from rb.survey.sky.render import Sources

SOURCE_MARGIN_PX = 20
"""Sources are drawn this far outside the frame, so that its edge is as crowded as its middle."""


@dataclass(frozen=True)
class Scene:
    """The truth of one frame; fluxes in ADU at the survey's zero point, positions in px.

    Attributes
    ----------
    galaxies, stars, supernovae : Sources
        What is drawn; supernovae only in the search exposure.
    galaxy_mag, star_mag, sn_mag : ndarray
        Total magnitudes.
    sn_host : ndarray of int
        Row of each supernova's host in `galaxies`, -1 for the hostless.
    motion : ndarray of shape (n_stars, 2)
        Displacement of each star since the template, px.
    """

    galaxies: Sources
    stars: Sources
    supernovae: Sources
    galaxy_mag: NDArray[np.float64]
    star_mag: NDArray[np.float64]
    sn_mag: NDArray[np.float64]
    sn_host: NDArray[np.int64]
    motion: NDArray[np.float64]


def power_law_mags(
    rng: np.random.Generator, count: int, bounds: tuple[float, float], slope: float
) -> NDArray[np.float64]:
    """Draw magnitudes from counts growing as 10**(slope*m) between two bounds."""
    u = rng.random(count)
    low, high = bounds
    if abs(slope) < 1e-6:
        return low + (high - low) * u
    a, b = 10.0 ** (slope * low), 10.0 ** (slope * high)
    return np.log10(a + (b - a) * u) / slope


def normal_mags(
    rng: np.random.Generator, count: int, bounds: tuple[float, float], peak: float, width: float
) -> NDArray[np.float64]:
    """Draw magnitudes from a normal distribution cut at two bounds, by inverting its integral."""
    low, high = ndtr((np.array(bounds) - peak) / width)
    u = low + (high - low) * rng.random(count)
    return np.clip(peak + width * ndtri(u), *bounds)


def _points(x: NDArray, y: NDArray, flux: NDArray) -> Sources:
    zero = np.zeros(len(x))
    return Sources(x, y, flux, zero, zero + 1.0, zero, zero)


def _spread(
    rng: np.random.Generator, count: int, size: int, separation: float, edge: int
) -> NDArray:
    """Positions at least `separation` apart, by throwing darts; fewer where no room is left."""
    kept: list[NDArray] = []
    for dart in rng.uniform(edge, size - 1 - edge, size=(60 * count, 2)):
        if len(kept) == count:
            break
        if all(np.hypot(*(dart - other)) >= separation for other in kept):
            kept.append(dart)
    return np.array(kept).reshape(-1, 2)


def _offset_in_profile(
    rng: np.random.Generator, radius: NDArray, index: NDArray, e1: NDArray, e2: NDArray
) -> NDArray:
    """Offsets (n, 2) in px from a galaxy's centre, drawn from its own light."""
    offsets = np.zeros((len(radius), 2))
    for i in range(len(radius)):
        weights, variances = sersic_mixture(float(index[i]))
        sigma = np.sqrt(variances[rng.choice(len(weights), p=weights)]) * radius[i]
        area = sigma**2 / np.sqrt(1.0 - e1[i] ** 2 - e2[i] ** 2)
        covariance = area * np.array([[1.0 + e1[i], e2[i]], [e2[i], 1.0 - e1[i]]])
        offsets[i] = np.linalg.cholesky(covariance) @ rng.standard_normal(2)
    return offsets


def draw_scene(
    rng: np.random.Generator,
    settings: SceneSettings,
    zero_point: float,
    stamp_size: int = STAMP_SIZE,
) -> Scene:
    """Draw the sky of one frame.

    Field galaxies and stars follow power-law number counts; every supernova brings a host of its
    own from the host distribution and lies in it as its light does (DES put its injected
    supernovae on real galaxies in the same way: Kessler et al. 2015, AJ 150, 172).

    Parameters
    ----------
    rng : numpy.random.Generator
        Random numbers of this frame and this step alone.
    settings : SceneSettings
        Densities, magnitudes and sizes.
    zero_point : float
        Magnitude of 1 ADU.
    stamp_size : int
        Pixels along a side of a stamp; those of all supernovae lie within the frame.

    Returns
    -------
    Scene
        Everything that will be drawn and matched.
    """
    size = settings.frame_size
    field = size + 2 * SOURCE_MARGIN_PX
    area_arcmin2 = (field * settings.pixel_scale / 60.0) ** 2

    edge = stamp_size // 2 + 1
    spots = _spread(rng, settings.sn_per_frame, size, settings.sn_separation_px, edge)
    hosted = rng.random(len(spots)) >= settings.hostless_fraction
    n_hosts = int(hosted.sum())
    n_field = rng.poisson(settings.galaxy_density * area_arcmin2)
    count = n_hosts + n_field

    mag = np.concatenate(
        [
            normal_mags(
                rng, n_hosts, settings.host_mag, settings.host_mag_peak, settings.host_mag_width
            ),
            power_law_mags(rng, n_field, settings.galaxy_mag, settings.galaxy_slope),
        ]
    )
    radius = (settings.galaxy_radius_arcsec / settings.pixel_scale) * 10.0 ** (
        -settings.galaxy_radius_slope * (mag - 23.0)
        + settings.galaxy_radius_scatter * rng.standard_normal(count)
    )
    radius = np.clip(radius, 0.2, 40.0)
    # Two in three faint galaxies are discs, one in three bright ones; bulges are rounder.
    disc = rng.random(count) < np.clip(0.67 - 0.08 * (22.0 - mag), 0.33, 0.67)
    index = np.where(disc, rng.choice([0.7, 1.0, 1.4], count), rng.choice([2.0, 2.8, 4.0], count))
    ellipticity = np.where(disc, rng.beta(2.0, 2.2, count), rng.beta(1.5, 5.0, count))
    ellipticity = np.minimum(ellipticity, 0.85)
    angle = rng.uniform(0.0, np.pi, count)
    e1, e2 = ellipticity * np.cos(2 * angle), ellipticity * np.sin(2 * angle)
    position = rng.uniform(-SOURCE_MARGIN_PX, size + SOURCE_MARGIN_PX, size=(count, 2))
    offset = _offset_in_profile(rng, radius[:n_hosts], index[:n_hosts], e1[:n_hosts], e2[:n_hosts])
    position[:n_hosts] = spots[hosted] - offset

    n_stars = rng.poisson(settings.star_density * area_arcmin2)
    star_mag = power_law_mags(rng, n_stars, settings.star_mag, settings.star_slope)
    star_xy = rng.uniform(-SOURCE_MARGIN_PX, size + SOURCE_MARGIN_PX, size=(n_stars, 2))
    # A Rayleigh-like core with an exponential tail: most stars hardly move, a few do.
    motion = settings.proper_motion_px * rng.exponential(1.0, n_stars)[:, None]
    direction = rng.uniform(0.0, 2.0 * np.pi, n_stars)
    motion = motion * np.stack([np.cos(direction), np.sin(direction)], axis=1)

    sn_mag = normal_mags(
        rng, len(spots), settings.sn_mag, settings.sn_mag_peak, settings.sn_mag_width
    )
    sn_host = np.full(len(spots), -1)
    sn_host[hosted] = np.arange(n_hosts)

    def flux(m: NDArray) -> NDArray:
        return 10.0 ** (-0.4 * (m - zero_point))

    return Scene(
        galaxies=Sources(position[:, 0], position[:, 1], flux(mag), radius, index, e1, e2),
        stars=_points(star_xy[:, 0], star_xy[:, 1], flux(star_mag)),
        supernovae=_points(spots[:, 0], spots[:, 1], flux(sn_mag)),
        galaxy_mag=mag,
        star_mag=star_mag,
        sn_mag=sn_mag,
        sn_host=sn_host,
        motion=motion,
    )
