"""Random magnitudes and places."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from rb.survey.sky.galaxies import on_ellipse
from rb.survey.sky.render import Sources


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
    normal: NDArray[np.float64], bounds: tuple[float, float], peak: float, width: float
) -> NDArray[np.float64]:
    """Turn standard normal numbers into magnitudes of a normal distribution cut at two bounds."""
    low, high = ndtr((np.array(bounds) - peak) / width)
    return np.clip(peak + width * ndtri(low + (high - low) * ndtr(normal)), *bounds)


def correlated_normals(
    rng: np.random.Generator, count: int, correlation: float
) -> NDArray[np.float64]:
    """Pairs of standard normal numbers, shape (2, count), with a correlation."""
    first, second = rng.standard_normal((2, count))
    return np.stack([first, correlation * first + np.sqrt(1.0 - correlation**2) * second])


def spread(
    rng: np.random.Generator,
    count: int,
    size: int,
    separation: float,
    edge: int,
    taken: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Positions (n, 2) at least `edge` px inside the frame and `separation` px apart.

    By throwing darts; fewer than `count` where no room is left. The positions `taken` are kept
    clear, too.
    """
    kept = [] if taken is None else list(taken)
    first = len(kept)
    for dart in rng.uniform(edge, size - 1 - edge, size=(60 * count, 2)):
        if len(kept) == first + count:
            break
        if all(np.hypot(*(dart - other)) >= separation for other in kept):
            kept.append(dart)
    return np.array(kept[first:]).reshape(-1, 2)


def places_in_hosts(rng: np.random.Generator, hosts: Sources, offset: float) -> NDArray[np.float64]:
    """One position (n, 2) in px in each galaxy.

    Offsets are normal along both axes of the galaxy's ellipse, with a standard deviation of
    `offset` half-light radii; 0 is the centre. Injected supernovae of DES lie like this: their
    distances from the host, in units of its size, have the quantiles of a Rayleigh distribution,
    less concentrated than the host's light and without its far wings.
    """
    u, v = offset * rng.standard_normal((2, len(hosts.x)))
    return np.stack(on_ellipse(hosts, u, v), axis=1)
