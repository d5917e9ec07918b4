"""Draw what is in the sky of one frame: galaxies, stars, and what changed among them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rb.stamps.layout import STAMP_SIZE
from rb.survey.settings import EventSettings, SceneSettings
from rb.survey.sky.draws import power_law_mags, spread
from rb.survey.sky.events import Events, draw_events, draw_explosions
from rb.survey.sky.galaxies import Galaxies, draw_galaxies
from rb.survey.sky.render import Sources

SOURCE_MARGIN_PX = 20
"""Sources are drawn this far outside the frame, so that its edge is as crowded as its middle."""


@dataclass(frozen=True)
class Scene:
    """The truth of one frame; fluxes in ADU at the survey's zero point, positions in px.

    Attributes
    ----------
    galaxies : Galaxies
        Those of the field and the hosts.
    stars : Sources
        Stars.
    star_mag : ndarray
        Their magnitudes.
    events : Events
        What differs between search image and template.
    event_mag : ndarray
        Magnitude of the change of each.
    galaxy_colour, star_colour : ndarray
        Colour of each in units of its scatter, 0 for the mean of all.
    motion : ndarray of shape (n_stars, 2)
        Displacement of each star since the template, px.
    """

    galaxies: Galaxies
    stars: Sources
    star_mag: NDArray[np.float64]
    events: Events
    event_mag: NDArray[np.float64]
    galaxy_colour: NDArray[np.float64]
    star_colour: NDArray[np.float64]
    motion: NDArray[np.float64]


def draw_scene(
    rng: np.random.Generator,
    other: np.random.Generator,
    settings: SceneSettings,
    events: EventSettings,
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
    other : numpy.random.Generator
        Random numbers of whatever else changes, so that it leaves the rest of the sky as it is.
    settings : SceneSettings
        Densities, magnitudes and sizes.
    events : EventSettings
        What changes beside supernovae of type Ia.
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
    low, high = -SOURCE_MARGIN_PX, size + SOURCE_MARGIN_PX
    area_arcmin2 = ((high - low) * settings.pixel_scale / 60.0) ** 2

    edge = stamp_size // 2 + 1
    spots = spread(rng, settings.sn_per_frame, size, settings.sn_separation_px, edge)
    supernovae, hosts = draw_explosions(rng, settings, "sn", spots, zero_point)

    n_field = rng.poisson(settings.galaxy_density * area_arcmin2)
    mag = power_law_mags(rng, n_field, settings.galaxy_mag, settings.galaxy_slope)
    position = rng.uniform(low, high, size=(n_field, 2))
    field = draw_galaxies(rng, settings, mag, position, zero_point)

    n_stars = rng.poisson(settings.star_density * area_arcmin2)
    star_mag = power_law_mags(rng, n_stars, settings.star_mag, settings.star_slope)
    x, y = rng.uniform(low, high, size=(2, n_stars))
    stars = Sources.points(x, y, 10.0 ** (-0.4 * (star_mag - zero_point)))
    # A Rayleigh-like core with an exponential tail: most stars hardly move, a few do.
    motion = settings.proper_motion_px * rng.exponential(1.0, n_stars)[:, None]
    direction = rng.uniform(0.0, 2.0 * np.pi, n_stars)
    motion = motion * np.stack([np.cos(direction), np.sin(direction)], axis=1)

    star_colour = rng.standard_normal(n_stars)
    galaxies = Galaxies.joined(hosts, field)
    colour = rng.standard_normal(len(galaxies.mag))
    everything, all_galaxies = draw_events(
        other, events, settings, supernovae, galaxies, stars, zero_point, edge
    )
    more = other.standard_normal(len(all_galaxies.mag) - len(colour))
    return Scene(
        galaxies=all_galaxies,
        stars=stars,
        star_mag=star_mag,
        events=everything,
        event_mag=zero_point - 2.5 * np.log10(np.maximum(np.abs(everything.change), 1e-30)),
        galaxy_colour=np.concatenate([colour, more]),
        star_colour=star_colour,
        motion=motion,
    )
