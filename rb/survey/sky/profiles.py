"""Surface-brightness profiles as sums of Gaussians.

A sum of Gaussians convolved with a sum of Gaussians is again one, in closed form, so a galaxy seen
through any PSF costs a few dozen exponentials instead of a Fourier transform
(Hogg & Lang 2013, PASP 125, 719). All mixtures here are round, carry unit total flux, and are given
as ``(weights, variances)``, the variances per axis.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.special import gammaincinv, roots_genlaguerre

Mixture = tuple[NDArray[np.float64], NDArray[np.float64]]

SERSIC_GRID = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
"""Sersic indices for which mixtures are fitted; others take the nearest in log n."""


@lru_cache(maxsize=64)
def moffat_mixture(beta: float, components: int = 4) -> Mixture:
    r"""Write a Moffat profile of FWHM 1 and unit flux as Gaussians.

    :math:`(1+r^2/\alpha^2)^{-\beta}` is exactly a Gamma-weighted integral over Gaussians of
    precision :math:`2\tau/\alpha^2`; generalised Gauss-Laguerre quadrature of that integral gives
    the mixture, so there is nothing to fit.

    Parameters
    ----------
    beta : float
        Moffat exponent, larger than 1 (the flux is finite only then).
    components : int
        Number of Gaussians. Four hold the profile to 1 % of its peak out to 3 FWHM for beta >= 2.5.

    Returns
    -------
    weights, variances : ndarray of shape (components,)
        Flux fractions summing to 1 and variances per axis in units of FWHM squared.
    """
    nodes, weights = roots_genlaguerre(components, beta - 2.0)
    alpha = 1.0 / (2.0 * np.sqrt(2.0 ** (1.0 / beta) - 1.0))
    return weights / weights.sum(), alpha**2 / (2.0 * nodes)


@lru_cache(maxsize=64)
def sersic_mixture(index: float) -> Mixture:
    r"""Write a Sersic profile of half-light radius 1 and unit flux as Gaussians.

    A non-negative least-squares fit of the flux per annulus on a logarithmic grid of radii out to
    8 half-light radii, where the profile is cut off (as the SDSS cuts its own at 7 to 8).

    Parameters
    ----------
    index : float
        Sersic index n; the nearest of `SERSIC_GRID` is used.

    Returns
    -------
    weights, variances : ndarray
        Flux fractions summing to 1 and variances per axis in units of the half-light radius
        squared.
    """
    n = min(SERSIC_GRID, key=lambda grid: abs(np.log(grid / index)))
    b = gammaincinv(2.0 * n, 0.5)
    radius = np.geomspace(2e-3, 8.0, 400)
    profile = np.exp(-b * (radius ** (1.0 / n) - 1.0))
    # Between surface brightness and flux per log radius: the cusp counts as well as the outskirts.
    weight = radius**1.4
    sigma = np.geomspace(0.02 if n > 1.2 else 0.15, 4.5 if n > 1.2 else 2.2, 9)
    basis = np.exp(-0.5 * (radius[:, None] / sigma) ** 2)
    amplitude, _ = nnls(basis * weight[:, None], profile * weight)
    flux = amplitude * sigma**2
    keep = flux > 2e-3 * flux.sum()
    flux, sigma = flux[keep], sigma[keep]
    return flux / flux.sum(), sigma**2
