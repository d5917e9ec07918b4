"""What is in an image but not in the sky: cosmic rays, hot pixels, bad columns, ghosts, trails."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rb.survey.camera.exposures import Exposure
from rb.survey.settings import ArtefactSettings

KINDS = ("", "cosmic_ray", "hot_pixel", "bad_column", "ghost", "trail", "saturation")
"""Codes of the truth map: the position in this tuple."""

_Deposit = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]

_INTERPOLATION_PX = 8
"""How far along its row a replacement for a masked pixel is looked for."""


def _cosmic_ray(rng: np.random.Generator, size: int, noise: float, fwhm: float) -> _Deposit:
    """A straight track of a few px, sharper than the PSF; charge diffuses by a third of a px."""
    length = rng.exponential(4.0)
    angle = rng.uniform(0.0, np.pi)
    charge = noise * 10.0 ** rng.uniform(1.0, 2.2)
    n = 4 * int(length) + 8
    along = length * rng.random(n)
    x = rng.uniform(0, size - 1) + along * np.cos(angle) + 0.3 * rng.standard_normal(n)
    y = rng.uniform(0, size - 1) + along * np.sin(angle) + 0.3 * rng.standard_normal(n)
    value = charge * rng.lognormal(0.0, 0.4, n) / n
    return np.rint(y).astype(np.int64), np.rint(x).astype(np.int64), value


def _hot_pixel(rng: np.random.Generator, size: int, noise: float, fwhm: float) -> _Deposit:
    """One pixel, now and then with a neighbour."""
    y, x = rng.integers(0, size, 2)
    value = noise * 10.0 ** rng.uniform(0.9, 2.0)
    if rng.random() < 0.25:
        return np.array([y, y + 1]), np.array([x, x]), np.array([value, 0.3 * value])
    return np.array([y]), np.array([x]), np.array([value])


def _bad_column(rng: np.random.Generator, size: int, noise: float, fwhm: float) -> _Deposit:
    """A column, or part of one, of too much signal, with the unevenness of a trap."""
    length = min(int(rng.exponential(60.0)) + 30, size)
    start = int(rng.integers(0, size - length + 1))
    stop = start + length
    width = 1 + int(rng.random() < 0.2)
    level = noise * rng.uniform(0.7, 2.5)
    y, x = np.mgrid[start:stop, 0:width]
    value = level * rng.lognormal(0.0, 0.15, y.shape)
    return y.ravel(), (x + rng.integers(0, size - width)).ravel(), value.ravel()


def _ghost(rng: np.random.Generator, size: int, noise: float, fwhm: float) -> _Deposit:
    """An annular reflection of a bright star off the optics, with a soft rim."""
    radius = rng.uniform(8.0, 30.0)
    inner = radius * rng.uniform(0.2, 0.6)
    cy, cx = rng.uniform(0, size, 2)
    half = int(radius) + 6
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    r = np.hypot(y, x)
    rim = rng.uniform(0.5, 1.5)
    with np.errstate(over="ignore"):
        shape = 1.0 / (1.0 + np.exp((r - radius) / rim)) / (1.0 + np.exp((inner - r) / rim))
    value = noise * rng.uniform(0.3, 1.2) * shape
    return (y + int(cy)).ravel(), (x + int(cx)).ravel(), value.ravel()


def _trail(rng: np.random.Generator, size: int, noise: float, fwhm: float) -> _Deposit:
    """A satellite or an aeroplane: a straight line across the frame, as wide as the PSF."""
    angle = rng.uniform(0.0, np.pi)
    through = rng.uniform(0.2 * size, 0.8 * size, 2)
    y, x = np.mgrid[0:size, 0:size]
    distance = (x - through[0]) * np.sin(angle) - (y - through[1]) * np.cos(angle)
    sigma = fwhm / 2.355
    near = np.abs(distance) < 4.0 * sigma
    value = noise * rng.uniform(0.5, 2.0) * np.exp(-0.5 * (distance[near] / sigma) ** 2)
    return y[near], x[near], value


_MAKERS = {
    "cosmic_ray": (_cosmic_ray, "cosmic_rays"),
    "hot_pixel": (_hot_pixel, "hot_pixels"),
    "bad_column": (_bad_column, "bad_columns"),
    "ghost": (_ghost, "ghosts"),
    "trail": (_trail, "trails"),
}

_RECOGNISED = {
    "masked_cosmic_rays": _cosmic_ray,
    "masked_columns": _bad_column,
    "masked_trails": _trail,
}

_OF_ONE_EXPOSURE = ("cosmic_ray", "trail")
"""What is in one of the exposures that are added, and fades among them."""


def add_artefacts(
    rng: np.random.Generator, exposure: Exposure, settings: ArtefactSettings
) -> NDArray[np.uint8]:
    """Add artefacts to an exposure, in place, and say where they are.

    Those that the reduction recognises are masked and replaced by an interpolation along the row,
    as in survey images; the others stay.

    Parameters
    ----------
    rng : numpy.random.Generator
        Random numbers of this frame and this step alone.
    exposure : Exposure
        The search exposure; its image and its mask are changed.
    settings : ArtefactSettings
        Mean numbers per frame; the numbers themselves are Poisson.

    Returns
    -------
    ndarray of shape (size, size)
        Code of the artefact in each pixel (position in `KINDS`, 0 for none), where it adds at
        least half the sky noise or saturates.
    """
    conditions = exposure.conditions
    size, noise, fwhm = exposure.image.shape[0], conditions.sky_noise, conditions.psf.fwhm
    truth = np.zeros((size, size), dtype=np.uint8)
    for kind, (make, key) in _MAKERS.items():
        strength = noise
        if kind in _OF_ONE_EXPOSURE:
            strength = noise / np.sqrt(conditions.exposures)
        for _ in range(rng.poisson(getattr(settings, key))):
            pixel, value = _deposit(make(rng, size, strength, fwhm), size)
            exposure.image.flat[pixel] += value
            truth.flat[pixel[value > 0.5 * noise]] = KINDS.index(kind)
    bad = np.zeros((size, size), dtype=bool)
    for key, make in _RECOGNISED.items():
        for _ in range(rng.poisson(getattr(settings, key))):
            pixel, value = _deposit(make(rng, size, noise, fwhm), size)
            bad.flat[pixel[value > 0.5 * noise]] = True
    _interpolate(exposure.image, bad)
    exposure.masked = exposure.masked | bad
    truth[exposure.saturated] = KINDS.index("saturation")
    return truth


def _deposit(deposit: _Deposit, size: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Flat index of each pixel that is hit, once, and what is added to it."""
    y, x, value = deposit
    inside = (y >= 0) & (y < size) & (x >= 0) & (x < size)
    pixel, hit = np.unique(y[inside] * size + x[inside], return_inverse=True)
    return pixel, np.bincount(hit, value[inside], minlength=len(pixel)).astype(np.float32)


def _interpolate(image: NDArray[np.float32], bad: NDArray[np.bool_]) -> None:
    """Replace bad pixels by the mean of the nearest good ones on either side, in place."""
    rows, columns = np.nonzero(bad)
    total, found = np.zeros(len(rows)), np.zeros(len(rows))
    for direction in (-1, 1):
        open_ = np.ones(len(rows), dtype=bool)
        for step in range(1, _INTERPOLATION_PX + 1):
            there = columns + direction * step
            inside = (there >= 0) & (there < image.shape[1])
            there = np.where(inside, there, columns)
            good = open_ & inside & ~bad[rows, there]
            total[good] += image[rows, there][good]
            found += good
            open_ &= ~good
    known = found > 0
    image[rows[known], columns[known]] = (total[known] / found[known]).astype(np.float32)
