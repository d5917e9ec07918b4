"""Stamps, ordinary and hopeless, that tell whether two ways to compute `p_real` are the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from rb.stamps.batch import Stamps
from rb.stamps.inputs import InputSpec
from rb.stamps.layout import MASKED

_N = 24


def trial_stamps(inputs: InputSpec, stamps: Stamps | None = None) -> Iterator[tuple[str, Stamps]]:
    """Yield the name of a kind of stamps, and stamps of it.

    Parameters
    ----------
    inputs : InputSpec
        What they have to have.
    stamps : Stamps, optional
        The ordinary ones, from which the others are made; simulated ones by default.
    """
    stamps = simulated(inputs) if stamps is None else stamps
    yield "ordinary", stamps
    yield "single", stamps[slice(1)]
    yield "no", stamps[slice(0)]
    some = stamps[slice(_N)]
    for name, spoil in _SPOILT.items():
        images = some.images.copy()
        for i in range(len(images)):
            spoil(images[i], i)
        yield name, replace(some, images=images)


def _nan_pixels(image: np.ndarray, i: int) -> None:
    image[i % 3, i % image.shape[1] :: 3, ::2] = np.nan


def _border(image: np.ndarray, i: int) -> None:
    missing = 1 + i % (image.shape[1] - 1)
    side: tuple[slice, slice] = (slice(missing), slice(None))
    image[(slice(None), *(side if i % 2 else side[::-1]))] = np.nan


def _lacking(image: np.ndarray, i: int) -> None:
    image[[i % 3] if i % 4 else slice(None)] = np.nan


def _constant(image: np.ndarray, i: int) -> None:
    image[i % 3 if i % 4 else slice(None)] = (0.0, 1.0, -3e4, MASKED, 0.1, 1e30)[i % 6]


def _saturated(image: np.ndarray, i: int) -> None:
    middle = image.shape[1] // 2
    reach = slice(middle - i % (middle + 1), middle + 1)
    image[i % 3 if i % 4 else slice(None), reach, reach] = (1e30, 65535.0, -1e30, 3e38)[i % 4]


def _infinite(image: np.ndarray, i: int) -> None:
    image[i % 3, : 1 + i % 5] = np.inf if i % 2 else -np.inf


_SPOILT = {
    "NaN": _nan_pixels,
    "border": _border,
    "lacking": _lacking,
    "constant": _constant,
    "saturated": _saturated,
    "infinite": _infinite,
}


def simulated(inputs: InputSpec, n: int = 96, seed: int = 0) -> Stamps:
    """Round sources and dipoles on hosts in noise, as bright as they come, with all beside them."""
    rng = np.random.default_rng(seed)
    size = inputs.size
    y, x = np.mgrid[:size, :size] - float(size // 2)
    shift = rng.normal(0, 1, (2, n, 1, 1))
    squared = (x - shift[0]) ** 2 + (y - shift[1]) ** 2
    host = np.exp(-squared / rng.uniform(8, 60, (n, 1, 1))) * 10 ** rng.uniform(0, 5, (n, 1, 1))
    source = np.exp(-squared / rng.uniform(4, 12, (n, 1, 1))) * 10 ** rng.uniform(0, 4, (n, 1, 1))
    source -= (np.arange(n) % 2)[:, None, None] * np.roll(source, 2, 2)
    sky = rng.normal(0, 1e3, (n, 3, 1, 1)) * [[[0]], [[1]], [[1]]]
    images = rng.normal(0, 20, (n, 3, size, size)) + sky
    images += np.stack([source, host + source, host], 1)
    psf_size = max(inputs.psf_size, 1)
    psf = rng.uniform(0, 1, (n, 2, psf_size, psf_size))
    side = {name: rng.uniform(0, 30, n) for name in inputs.side if name != "psf"}
    for column in side.values():
        column[::7] = np.nan
    return Stamps(
        images.astype(np.float32),
        np.abs(images).astype(np.float32) + 100,
        (psf / psf.sum((2, 3), keepdims=True)).astype(np.float32),
        side,
    )
