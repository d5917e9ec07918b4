"""Galaxies: sizes, shapes, and the parts that they are drawn of.

A catalogue row a galaxy says how bright, large and flat it is as a whole. What is drawn are parts:
a bulge and a disc, and in discs large enough for it knots of star formation along spiral arms.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rb.survey.settings import SceneSettings
from rb.survey.sky.render import Sources

_DISC_THICKNESS = 0.2
"""Axis ratio of a disc that is seen edge on."""

_RESOLVED_PX = 2.2
"""Half-light radius in px from which on a disc is given knots."""


@dataclass(frozen=True)
class Galaxies:
    """Galaxies as a catalogue has them, and as they are drawn.

    Attributes
    ----------
    whole : Sources
        One row a galaxy.
    mag : ndarray of shape (n,)
        Total magnitudes.
    parts : Sources
        What is drawn.
    owner : ndarray of int, shape (m,)
        Row of the galaxy that each part belongs to.
    """

    whole: Sources
    mag: NDArray[np.float64]
    parts: Sources
    owner: NDArray[np.int64]

    def moved(self, shift: NDArray[np.float64]) -> Galaxies:
        """The galaxies, each moved by its row of `shift` (n, 2) with all its parts."""
        whole, parts, own = self.whole, self.parts, shift[self.owner]
        return replace(
            self,
            whole=replace(whole, x=whole.x + shift[:, 0], y=whole.y + shift[:, 1]),
            parts=replace(parts, x=parts.x + own[:, 0], y=parts.y + own[:, 1]),
        )

    @classmethod
    def joined(cls, first: Galaxies, second: Galaxies) -> Galaxies:
        """Two lists of galaxies as one."""
        return cls(
            whole=Sources.joined([first.whole, second.whole]),
            mag=np.concatenate([first.mag, second.mag]),
            parts=Sources.joined([first.parts, second.parts]),
            owner=np.concatenate([first.owner, second.owner + len(first.mag)]),
        )


def _distortion(axis_ratio: NDArray, angle: NDArray) -> tuple[NDArray, NDArray]:
    e = (1.0 - axis_ratio**2) / (1.0 + axis_ratio**2)
    return e * np.cos(2.0 * angle), e * np.sin(2.0 * angle)


def on_ellipse(galaxies: Sources, u: NDArray, v: NDArray) -> tuple[NDArray, NDArray]:
    """Positions in galaxies; (u, v) in half-light radii, u along the major axis."""
    e = np.hypot(galaxies.e1, galaxies.e2)
    stretch = ((1.0 + e) / (1.0 - e)) ** 0.25
    angle = 0.5 * np.arctan2(galaxies.e2, galaxies.e1)
    a, b = u * galaxies.radius * stretch, v * galaxies.radius / stretch
    return (
        galaxies.x + a * np.cos(angle) - b * np.sin(angle),
        galaxies.y + a * np.sin(angle) + b * np.cos(angle),
    )


def _knots(
    rng: np.random.Generator, disc: Sources, share: NDArray, mean: float
) -> tuple[Sources, NDArray[np.int64]]:
    """Knots of star formation along two arms (or anywhere, in small discs), and whose they are."""
    count = rng.poisson(mean, len(disc.x))
    owner = np.repeat(np.arange(len(disc.x)), count)
    n = len(owner)
    # An exponential disc's radii in half-light radii, without its very centre.
    r = rng.gamma(2.0, 0.6, n) + 0.15
    pitch = rng.uniform(1.5, 3.5, len(disc.x))[owner]
    phase = rng.uniform(0.0, 2.0 * np.pi, len(disc.x))[owner]
    looseness = rng.uniform(0.2, 1.5, len(disc.x))[owner]
    theta = phase + pitch * np.log(r) + np.pi * rng.integers(0, 2, n)
    theta = theta + looseness * rng.standard_normal(n)
    place = disc.select(owner)
    x, y = on_ellipse(place, r * np.cos(theta), r * np.sin(theta))
    brightness = rng.lognormal(0.0, 0.8, n)
    total = np.bincount(owner, brightness, minlength=len(disc.x))
    flux = place.flux * share[owner] * brightness / total[owner]
    radius = place.radius * rng.uniform(0.05, 0.25, n)
    zero = np.zeros(n)
    return Sources(x, y, flux, radius, zero + 0.5, zero, zero), owner


def draw_galaxies(
    rng: np.random.Generator,
    settings: SceneSettings,
    mag: NDArray[np.float64],
    position: NDArray[np.float64],
    zero_point: float,
) -> Galaxies:
    """Draw galaxies of given magnitudes.

    Parameters
    ----------
    rng : numpy.random.Generator
        Random numbers of this frame and this step alone.
    settings : SceneSettings
        Sizes and structure.
    mag : ndarray of shape (n,)
        Total magnitudes.
    position : ndarray of shape (n, 2)
        x and y in px.
    zero_point : float
        Magnitude of 1 ADU.

    Returns
    -------
    Galaxies
    """
    n = len(mag)
    radius = (settings.galaxy_radius_arcsec / settings.pixel_scale) * 10.0 ** (
        -settings.galaxy_radius_slope * (mag - 23.0)
        + settings.galaxy_radius_scatter * rng.standard_normal(n)
    )
    radius = np.clip(radius, 0.2, 40.0)
    flux = 10.0 ** (-0.4 * (mag - zero_point))
    angle = rng.uniform(0.0, np.pi, n)
    # Two in three faint galaxies are discs, one in three bright ones.
    disc = rng.random(n) < np.clip(0.67 - 0.08 * (22.0 - mag), 0.33, 0.67)
    # Discs are seen from all sides; spheroids are rounder.
    facing = rng.random(n)
    flat = np.sqrt((1.0 - _DISC_THICKNESS**2) * facing**2 + _DISC_THICKNESS**2)
    ratio = np.where(disc, flat, 1.0 - 0.6 * rng.beta(1.5, 2.5, n))
    e1, e2 = _distortion(ratio, angle)
    index = np.where(disc, 1.0, rng.choice([2.0, 2.8, 4.0], n))
    whole = Sources(position[:, 0], position[:, 1], flux, radius, index, e1, e2)

    bulge = disc & (mag < settings.galaxy_mag[1] - 1.0)
    bulge_share = np.where(bulge, rng.beta(1.0, 3.5, n), 0.0)
    bulge_size = rng.uniform(0.2, 0.5, n)
    round_1, round_2 = _distortion(0.6 + 0.4 * ratio, angle)
    # Discs are lopsided: their light is not quite centred on the bulge.
    lean = 0.12 * rng.standard_normal((2, n)) * np.where(bulge, radius, 0.0)

    large = disc & (radius > _RESOLVED_PX)
    knot_share = np.where(large, rng.uniform(0.0, settings.galaxy_knots_share, n), 0.0)
    body = Sources(
        whole.x + lean[0],
        whole.y + lean[1],
        flux * (1.0 - bulge_share),
        radius,
        index,
        e1,
        e2,
    )
    rows = np.flatnonzero(large)
    knots, knot_of = _knots(rng, body.select(rows), knot_share[rows], settings.galaxy_knots)
    knot_flux = np.bincount(rows[knot_of], knots.flux, minlength=n)
    smooth = Sources(body.x, body.y, body.flux - knot_flux, radius, index, e1, e2)
    core = np.flatnonzero(bulge)
    bulges = Sources(
        whole.x[core],
        whole.y[core],
        (flux * bulge_share)[core],
        (radius * bulge_size)[core],
        np.full(len(core), 2.8),
        round_1[core],
        round_2[core],
    )
    return Galaxies(
        whole=whole,
        mag=mag,
        parts=Sources.joined([smooth, bulges, knots]),
        owner=np.concatenate([np.arange(n), core, rows[knot_of]]),
    )
