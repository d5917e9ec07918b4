"""Flux, error and position of what is new, from the pair itself.

The scene at a place is the template, brought to the PSF of the search image, and a point source.
The best linear estimate of the source's flux against white noise in both images is a pair of
filters, one on each image (Zackay, Ofek & Gal-Yam 2016, ApJ 830, 27, equations 12 to 16, give the
same statistic as an image): with P_s, P_t the PSFs and s_s, s_t the noises, in Fourier space::

    K = conj(P_s P_t) / (s_s^2 |P_t|^2 + s_t^2 |P_s|^2),   flux = (K P_t S - K P_s T) / norm.

No kernel is fitted and no difference image is made; like it, it needs both PSFs and good
registration. Errors hold the noise of the sky and of the light, what is left of the registration,
and how well the PSF is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from rb.survey.pipeline.pair import MeasuredPair

_SIZE = 64  # px along a side of the windows in Fourier space
_HALF = 24  # px that the filters reach
_LATTICE = 20
_AT_ONCE = 512  # places; bounds the memory
_STEPS = 2  # px that a position may move
_PLACE = 0.7  # px, what a place that is given may be wrong by, rms: as peaks of the network are
_PSF_ERROR = 0.015  # of the flux: what measured PSFs differ by from frame to frame, simulated


@dataclass(frozen=True)
class Photometry:
    """Of n places.

    Attributes
    ----------
    x, y : ndarray of shape (n,)
        Where the source is most likely, px.
    flux, flux_err : ndarray of shape (n,)
        Of a point source in the search image above the template, units of the search image.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    flux: NDArray[np.float64]
    flux_err: NDArray[np.float64]


def measure(pair: MeasuredPair, x: NDArray, y: NDArray, gain: float | None = None) -> Photometry:
    """Measure point sources near the pixels (x, y).

    A source is where its SNR is highest, weighed against how far that is from the pixel: noise
    draws the summit of faint ones away.

    Parameters
    ----------
    pair : MeasuredPair
        The images, with their PSFs.
    x, y : ndarray of shape (n,)
        Pixels.
    gain : float, optional
        Electrons per unit of flux, for the noise of the light itself; without it only the sky's.
    """
    filters = _filters(pair)
    column, row = (np.rint(np.asarray(v)).astype(int) for v in (x, y))
    flux, error = _apply(pair, filters, column, row, gain)
    error = error * _excess(pair, filters, gain)
    dx, dy, peak, free = _summit(flux, error)
    # The highest of all places is s^2 / F too high on average, one half for each coordinate; less
    # where the place was known.
    too_high = 4 * free * error**2
    peak = np.where(
        peak > 2 * error, (peak + np.sqrt(np.maximum(peak**2 - too_high, 0.0))) / 2, peak
    )
    error = np.hypot(error, _PSF_ERROR * peak)
    return Photometry(column + dx, row + dy, peak, error)


def _filters(pair: MeasuredPair) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Filters of search and template, (2 _HALF + 1)^2, that give the flux of the middle pixel."""
    size = pair.psf.shape[-1]
    padded = np.zeros((2, _SIZE, _SIZE))
    padded[:, :size, :size] = [calibrated_psf(one) for one in pair.psf]
    padded = np.roll(padded, (-(size // 2), -(size // 2)), (1, 2))
    night, deep = np.fft.fft2(padded)
    noise = np.square(pair.noise)
    variance = noise[0] * np.abs(deep) ** 2 + noise[1] * np.abs(night) ** 2
    # Where neither PSF passes anything, nothing is to be learned.
    variance += 1e-4 * variance.max()
    kernel = np.conj(night * deep) / variance
    norm = float(np.mean(np.abs(night * deep) ** 2 / variance))
    out = []
    for other in (deep, night):
        whole = np.fft.fftshift(np.fft.ifft2(kernel * other).real) / norm
        middle = _SIZE // 2
        cut = slice(middle - _HALF, middle + _HALF + 1)
        # A correlation with the image: the filter is turned round.
        out.append(whole[cut, cut][::-1, ::-1])
    return out[0], out[1]


def calibrated_psf(psf: NDArray) -> NDArray[np.float64]:
    """A PSF image of sum 1 without the level that it stands on.

    A stack of stars stands on what is left of the sky, which over a whole image adds up to
    percents of the flux: a Moffat profile with a level is fitted, and the level taken off.
    """
    from scipy.optimize import least_squares

    size = psf.shape[-1]
    u = np.arange(size) - size // 2
    r2 = np.add.outer(u**2, u**2)
    top = float(psf.max())

    def residual(p: NDArray) -> NDArray:
        return np.asarray(p[0] * (1 + r2 / p[1] ** 2) ** -p[2] + p[3] - psf / top).ravel()

    bounds = ([0.1, 0.5, 1.8, -0.05], [3.0, size, 8.0, 0.05])
    start = [1.0, min(max(1.2 * np.sqrt(1 / top / np.pi), 0.6), size / 2), 3.0, 0.0]
    fit = least_squares(residual, start, bounds=bounds)
    alone = psf / top - fit.x[3]
    return np.asarray(alone / alone.sum())


def _apply(
    pair: MeasuredPair,
    filters: tuple[NDArray, NDArray],
    column: NDArray[np.int64],
    row: NDArray[np.int64],
    gain: float | None,
    steps: int = _STEPS,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fluxes (n, 2 steps + 1, 2 steps + 1) of the pixels round each place, the error (n,) there."""
    reach, side = _HALF + steps, 2 * _HALF + 1
    n, width, inner = len(column), 2 * steps + 1, slice(steps, steps + side)
    flux, part, variance = np.zeros((n, width, width)), np.zeros((n, width, width)), np.zeros(n)
    for sign, image, noise, weights in zip(
        (1.0, -1.0), (pair.search, pair.template), pair.noise, filters, strict=True
    ):
        windows = sliding_window_view(np.pad(image, reach), (2 * reach + 1,) * 2)
        for start in range(0, n, _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            around = windows[row[some], column[some]].astype(float)
            for down, right in np.ndindex(width, width):
                cut = around[:, down : down + side, right : right + side]
                part[some, down, right] = np.einsum("nij,ij->n", cut, weights)
            light = np.maximum(around[:, inner, inner], 0.0) / (gain or np.inf)
            variance[some] += np.sum(weights**2) * noise**2
            variance[some] += np.einsum("nij,ij->n", light, weights**2)
        flux += sign * part
    # What the template shows lies a little elsewhere in the search image (their eq. 30 to 33).
    across = (part[:, steps, steps + 1] - part[:, steps, steps - 1]) / 2
    along = (part[:, steps + 1, steps] - part[:, steps - 1, steps]) / 2
    variance += pair.registration**2 * (across**2 + along**2)
    return flux, np.sqrt(variance)


def _excess(pair: MeasuredPair, filters: tuple[NDArray, NDArray], gain: float | None) -> float:
    """By how much fluxes of blank places scatter more than their errors say, at least 1."""
    height, width = pair.search.shape
    x, y = np.meshgrid(
        np.linspace(_HALF, width - 1 - _HALF, _LATTICE).astype(int),
        np.linspace(_HALF, height - 1 - _HALF, _LATTICE).astype(int),
    )
    free = ~pair.masked[y, x]
    flux, error = _apply(pair, filters, x[free], y[free], gain, steps=1)
    pull = flux[:, 1, 1] / error
    return max(1.0, 1.4826 * float(np.median(np.abs(pull - np.median(pull))))) if len(pull) else 1.0


def _summit(
    flux: NDArray[np.float64], error: NDArray[np.float64]
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Offset of the likeliest place from the middle, by a parabola on each axis; the flux there.

    Last, which share of the information on the place, a mean of both axes, is the flux's.
    """
    n, width, _ = flux.shape
    u = np.arange(width) - _STEPS
    far = np.add.outer(u**2, u**2) / (2 * _PLACE**2)
    signal = flux / error[:, None, None]
    odds = np.sign(signal) * signal**2 / 2 - far
    best = odds[:, 1:-1, 1:-1].reshape(n, (width - 2) ** 2).argmax(1)
    row, column = best // (width - 2) + 1, best % (width - 2) + 1
    i = np.arange(n)
    offsets, gained, free = [], np.zeros(n), np.zeros(n)
    for before, after in (
        ((i, row, column - 1), (i, row, column + 1)),
        ((i, row - 1, column), (i, row + 1, column)),
    ):
        middle = (i, row, column)
        bend = odds[before] + odds[after] - 2.0 * odds[middle]
        with np.errstate(divide="ignore", invalid="ignore"):
            move = np.where(bend < 0, 0.5 * (odds[before] - odds[after]) / bend, 0.0)
            free += np.where(bend < 0, np.clip(1 + 1 / (bend * _PLACE**2), 0, 1), 0.0) / 2
        move = np.clip(move, -0.5, 0.5)
        curve = flux[before] + flux[after] - 2.0 * flux[middle]
        gained += 0.5 * (flux[after] - flux[before]) * move + 0.5 * curve * move**2
        offsets.append(move)
    return (
        column - _STEPS + offsets[0],
        row - _STEPS + offsets[1],
        flux[i, row, column] + gained,
        free,
    )


def score_map(pair: MeasuredPair, gain: float | None = None) -> NDArray[np.float32]:
    """SNR of a point source at every pixel, with measured PSFs.

    The corrected statistic of Zackay et al. (2016): it knows the noise of the light itself.

    Returns
    -------
    ndarray of shape (height, width)
    """
    from scipy.signal import oaconvolve

    filters = _filters(pair)
    flux, variance = np.zeros(pair.search.shape), np.zeros(pair.search.shape)
    for sign, image, noise, weights in zip(
        (1.0, -1.0), (pair.search, pair.template), pair.noise, filters, strict=True
    ):
        turned = weights[::-1, ::-1]
        flux += sign * oaconvolve(image, turned, mode="same")
        light = np.maximum(image, 0.0) / gain if gain else np.zeros_like(image)
        variance += oaconvolve(light + noise**2, turned**2, mode="same")
    return np.asarray(flux / np.sqrt(np.maximum(variance, 1e-30)), np.float32)
