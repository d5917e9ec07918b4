"""Random magnitudes and places."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from rb.stamps.stampset import STAMP_SIZE
from rb.survey.sky.galaxies import Galaxies
from rb.survey.sky.profiles import sersic_mixture


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


def spread(
    rng: np.random.Generator,
    count: int,
    size: int,
    separation: float,
    taken: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Positions (n, 2) whose stamps lie in the frame, at least `separation` apart.

    By throwing darts; fewer than `count` where no room is left. The positions `taken` are kept
    clear, too.
    """
    edge = STAMP_SIZE // 2 + 1
    kept = [] if taken is None else list(taken)
    first = len(kept)
    for dart in rng.uniform(edge, size - 1 - edge, size=(60 * count, 2)):
        if len(kept) == first + count:
            break
        if all(np.hypot(*(dart - other)) >= separation for other in kept):
            kept.append(dart)
    return np.array(kept[first:]).reshape(-1, 2)


def places_in_light(
    rng: np.random.Generator, galaxies: Galaxies, scale: float = 1.0
) -> NDArray[np.float64]:
    """One position (n, 2) in px in each galaxy, drawn from its own light.

    `scale` stretches the offsets from the galaxy's centre: 0 is the centre.
    """
    whole, parts = galaxies.whole, galaxies.parts
    centre = np.stack([whole.x, whole.y], axis=1)
    # The part that holds the position: the one with which the light summed up passes a random share.
    order = np.argsort(galaxies.owner, kind="stable")
    passed = np.cumsum(parts.flux[order])
    before = np.searchsorted(galaxies.owner[order], np.arange(len(whole.x)))
    start = np.where(before > 0, passed[before - 1], 0.0)
    total = np.bincount(galaxies.owner, parts.flux, minlength=len(whole.x))
    at = np.searchsorted(passed, start + rng.random(len(whole.x)) * total)
    chosen = parts.select(order[np.minimum(at, len(order) - 1)] if len(order) else order)
    place = np.stack([chosen.x, chosen.y], axis=1)
    for i in range(len(whole.x)):
        weights, variances = sersic_mixture(float(chosen.index[i]))
        area = rng.choice(variances, p=weights) * chosen.radius[i] ** 2
        e1, e2 = chosen.e1[i], chosen.e2[i]
        area /= np.sqrt(1.0 - e1**2 - e2**2)
        covariance = area * np.array([[1.0 + e1, e2], [e2, 1.0 - e1]])
        place[i] += np.linalg.cholesky(covariance) @ rng.standard_normal(2)
    return centre + scale * (place - centre)
