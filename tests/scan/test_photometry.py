"""Flux, error and place of point sources in pairs whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from rb.scan import photometry
from rb.scan.photometry import measure
from rb.survey.pipeline.pair import MeasuredPair

SIZE, STEP, PSF = 640, 40, 29


def moffat(fwhm: float, x: float = 0.0, y: float = 0.0) -> np.ndarray:
    """PSF of sum 1 whose centre is off by (x, y)."""
    u = np.arange(PSF) - PSF // 2
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / 3) - 1))
    profile = (1 + ((u - x)[None] ** 2 + (u - y)[:, None] ** 2) / alpha**2) ** -3.0
    return profile / profile.sum()


def field(snr: float, seed: int = 0):
    """A pair with a source of that SNR in the search image near each point of a lattice.

    Returns the pair, columns and rows of the pixels to look at (peaks of a map: off by half a
    pixel, and by noise), the true places and the true flux.
    """
    rng = np.random.default_rng(seed)
    night, deep, noise = moffat(4.5), moffat(3.8), (10.0, 4.0)
    pair = MeasuredPair(
        np.zeros((SIZE, SIZE), np.float32), np.zeros((SIZE, SIZE), np.float32),
        np.zeros((SIZE, SIZE), bool), np.stack([night, deep]).astype(np.float32), noise, 1.0,
        None,  # type: ignore[arg-type]
    )  # fmt: skip
    one = measure(pair, np.array([320]), np.array([320]))
    flux = snr * float(one.flux_err[0])
    lattice = np.arange(STEP, SIZE - STEP + 1, STEP)
    column, row = (v.ravel() for v in np.meshgrid(lattice, lattice))
    x, y = (v + rng.uniform(-0.5, 0.5, v.shape) for v in (column, row))
    search = rng.normal(0, noise[0], (SIZE, SIZE))
    reach = PSF // 2
    for i in range(len(x)):
        around = (
            slice(row[i] - reach, row[i] + reach + 1),
            slice(column[i] - reach, column[i] + reach + 1),
        )
        search[around] += flux * moffat(4.5, x[i] - column[i], y[i] - row[i])
    template = rng.normal(0, noise[1], (SIZE, SIZE))
    pair.search[:], pair.template[:] = search, template
    looked = [v + rng.integers(-1, 2, v.shape) for v in (column, row)]
    return pair, looked, (x, y), flux


def off(found, truth) -> np.ndarray:
    return np.hypot(found.x - truth[0], found.y - truth[1])


@pytest.mark.parametrize("snr", [6.0, 15.0, 100.0])
def test_fluxes_are_right_within_their_errors(snr: float) -> None:
    pair, looked, _, flux = field(snr)
    found = measure(pair, *looked)
    pull = (found.flux - flux) / found.flux_err
    n = len(pull)
    assert abs(np.mean(found.flux) / flux - 1) < 0.005 + 3 / snr / np.sqrt(n)
    # Errors hold 1.5 % for the PSF, which is known here.
    least = 0.85 if snr < 50 else 0.4
    assert least < np.std(pull) < 1.15


def test_bright_sources_are_placed_to_hundredths_of_a_pixel() -> None:
    pair, looked, truth, _ = field(100.0)
    assert np.median(off(measure(pair, *looked), truth)) < 0.05


def test_where_it_was_seen_helps_to_place_a_faint_source(monkeypatch) -> None:
    pair, looked, truth, _ = field(4.0)
    helped = off(measure(pair, *looked), truth)
    monkeypatch.setattr(photometry, "_PLACE", 1e3)
    alone = off(measure(pair, *looked), truth)
    assert np.sqrt(np.mean(helped**2)) < 0.9 * np.sqrt(np.mean(alone**2))


def test_many_places_are_measured_as_a_few_are(monkeypatch) -> None:
    pair, looked, _, _ = field(6.0)
    whole = measure(pair, *looked, gain=2.0)
    monkeypatch.setattr(photometry, "_AT_ONCE", 7)
    parts = measure(pair, *looked, gain=2.0)
    for name in ("x", "y", "flux", "flux_err"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
    none = measure(pair, np.zeros(0), np.zeros(0))
    assert len(none.flux) == len(none.x) == 0
