"""Noise as coadded images have it: correlated from pixel to pixel by resampling."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_REACH = 6


@lru_cache(maxsize=8)
def resampling_taps(resamplings: int) -> NDArray[np.float32]:
    r"""Half of a symmetric filter that gives white noise the correlation of resampled noise.

    Resampling with a Lanczos-3 kernel L at random sub-pixel phases, as SWarp does (Bertin et al.
    2002), correlates noise over pixels with the kernel's autocorrelation
    :math:`C(k)=\int L(x)L(x+k)\,dx`. The filter's spectrum is the root of that of C, to the power
    of how often the image was resampled.

    Parameters
    ----------
    resamplings : int
        How often the image was put onto another pixel grid.

    Returns
    -------
    ndarray of shape (7,)
        Weights at lag 0, 1, ...; their squares over both sides sum to 1.
    """
    fine = 64
    x = np.arange(-4 * fine, 4 * fine + 1) / fine
    kernel = np.where(np.abs(x) < 3.0, np.sinc(x) * np.sinc(x / 3.0), 0.0)
    correlation = np.convolve(kernel, kernel)[len(kernel) - 1 :: fine][: _REACH + 1]
    lags = np.arange(256)
    lags = np.minimum(lags, 256 - lags)
    ring = np.where(lags <= _REACH, correlation[np.minimum(lags, _REACH)], 0.0)
    power = np.maximum(np.fft.fft(ring).real, 0.0) ** resamplings
    taps = np.fft.ifft(np.sqrt(power)).real[: _REACH + 1]
    return (taps / np.sqrt(taps[0] ** 2 + 2.0 * np.sum(taps[1:] ** 2))).astype(np.float32)


def correlated_noise(rng: np.random.Generator, size: int, resamplings: int) -> NDArray[np.float32]:
    """Draw noise of unit variance with the correlation of a resampled image.

    Parameters
    ----------
    rng : numpy.random.Generator
        Random numbers of this image alone.
    size : int
        Side, px.
    resamplings : int
        How often the image was resampled with Lanczos-3; 0 gives white noise.

    Returns
    -------
    ndarray of shape (size, size)
        float32.
    """
    if resamplings == 0:
        return rng.standard_normal((size, size), dtype=np.float32)
    taps = resampling_taps(resamplings)
    wide = size + 2 * _REACH
    noise = rng.standard_normal((wide, wide), dtype=np.float32)
    for axis in (0, 1):
        noise = np.moveaxis(noise, axis, 0)
        total = taps[0] * noise[_REACH : _REACH + size]
        for lag in range(1, _REACH + 1):
            pair = noise[_REACH - lag : _REACH - lag + size] + noise[_REACH + lag :][:size]
            pair *= taps[lag]
            total += pair
        noise = np.moveaxis(total, 0, axis)
    return np.ascontiguousarray(noise)
