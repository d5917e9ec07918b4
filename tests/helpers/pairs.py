"""Synthetic pairs of stamps whose PSFs, shift and flux scale are known."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rb.models.modern.psf import moffat

SIDE = ("psf", "sky_noise_srch", "sky_noise_tmpl", "zero_point_srch", "zero_point_tmpl")


def field(
    seed: int, fwhm: float, noise: float, draw: int, shift=(0.0, 0.0), scale=1.0, size=51, n=14
) -> np.ndarray:
    """Stars seen through a Moffat; the same ones for the same `seed`, other noise per `draw`."""
    rng = np.random.default_rng(seed)
    places, fluxes = rng.uniform(0, size, (n, 2)), 10 ** rng.uniform(2.5, 4.5, n)
    y, x = np.mgrid[:size, :size]
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / 3) - 1))
    image = np.random.default_rng([seed, draw]).normal(0, noise, (size, size))
    for (column, row), flux in zip(places, fluxes, strict=True):
        square = (x - column - shift[0]) ** 2 + (y - row - shift[1]) ** 2
        image += scale * flux * 2 / (np.pi * alpha**2) * (1 + square / alpha**2) ** -3
    return image


def pair(
    seed: int, search=4.5, template=3.5, shift=(0.0, 0.0), scale=1.0, size=51
) -> tuple[Tensor, Tensor]:
    """Raw srch and tmpl (1, 2, size, size) with skies, and their side vector (see `SIDE`)."""
    images = [
        field(seed, search, 5.0, 1, shift, scale, size) + 300,
        field(seed, template, 2.0, 2, size=size) + 20,
    ]
    psfs = moffat(torch.tensor([search, template]), size=21)
    side = torch.cat([psfs.flatten(), torch.tensor([5.0, 2.0, 31.2, 31.2])])
    return torch.from_numpy(np.stack(images)[None]).float(), side[None]


def pairs(n: int, **how) -> tuple[Tensor, Tensor]:
    """Several of them."""
    x, side = zip(*(pair(seed, **how) for seed in range(n)), strict=True)
    return torch.cat(x), torch.cat(side)
