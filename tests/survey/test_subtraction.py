"""The Alard-Lupton solver finds kernels, flux ratios and backgrounds that were put in."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from rb.survey.pipeline.subtraction import (
    choose_regions,
    difference_variance,
    gaussian_basis,
    match_psf,
    subtract,
)
from rb.survey.settings import settings_from_config

SIZE = 220
NOISE = 5.0


def stars(rng, count=40, sigma=1.6, flux=3e4):
    """A noiseless field of Gaussian stars, and their positions."""
    x, y = rng.uniform(30, SIZE - 31, (2, count))
    rows, columns = np.indices((SIZE, SIZE))
    image = np.zeros((SIZE, SIZE))
    for xi, yi in zip(x, y, strict=True):
        image += np.exp(-0.5 * ((columns - xi) ** 2 + (rows - yi) ** 2) / sigma**2)
    return flux * image / (2 * np.pi * sigma**2), x, y


def noisy(rng, image):
    return (image + NOISE * rng.standard_normal(image.shape)).astype(np.float32)


def fit(search, template, x, y, **changes):
    settings = settings_from_config({"subtraction": changes}).subtraction
    usable = np.ones(search.shape, dtype=bool)
    regions = choose_regions(usable, x, y, np.ones(len(x)), settings)
    variance = np.full(search.shape, NOISE**2, np.float32)
    return match_psf(search, template, variance, regions, settings)


def test_identical_skies_leave_only_noise():
    rng = np.random.default_rng(1)
    sky, x, y = stars(rng)
    search, template = noisy(rng, sky), noisy(rng, sky)
    match = fit(search, template, x, y)
    flat = np.full(search.shape, NOISE**2, np.float32)
    sigma = np.sqrt(difference_variance(flat, flat, match))
    pull = (subtract(search, match.convolve(template), match) / sigma)[15:-15, 15:-15]
    assert match.flux_ratio == pytest.approx(1.0, abs=0.01)
    assert pull.std() == pytest.approx(1.0, abs=0.05)
    assert np.abs(pull).max() < 6.0


def test_kernel_flux_ratio_and_background_are_found():
    rng = np.random.default_rng(2)
    sky, x, y = stars(rng)
    template = noisy(rng, sky)
    ramp = np.linspace(-1, 1, SIZE)[None, :] * 8.0 + 20.0
    search = noisy(rng, 0.7 * gaussian_filter(sky, 1.2) + ramp)
    match = fit(search, template, x, y)
    assert match.flux_ratio == pytest.approx(0.7, abs=0.005)
    assert match.background()[110, 110] == pytest.approx(20.0, abs=1.0)
    assert match.background()[110, 210] - match.background()[110, 10] == pytest.approx(
        16 * 200 / SIZE, abs=2.0
    )
    kernel = match.kernel_at(110.0, 110.0)
    assert kernel.sum() == pytest.approx(match.flux_ratio, rel=1e-6)
    u = np.arange(21) - 10
    width = np.sqrt(np.sum(kernel * u[None, :] ** 2) / kernel.sum())
    assert width == pytest.approx(1.2, abs=0.15)
    difference = subtract(search, match.convolve(template), match)[15:-15, 15:-15]
    assert difference.std() < 1.3 * NOISE


def test_a_kernel_that_varies_needs_an_order_that_does():
    rng = np.random.default_rng(3)
    sky, x, y = stars(rng, count=60)
    template = noisy(rng, sky)
    weight = np.linspace(0, 1, SIZE)[None, :]
    blurred = (1 - weight) * gaussian_filter(sky, 0.8) + weight * gaussian_filter(sky, 1.5)
    search = noisy(rng, blurred)
    rms = {}
    for order in (0, 1):
        match = fit(search, template, x, y, kernel_order=order)
        rms[order] = subtract(search, match.convolve(template), match)[15:-15, 15:-15].std()
    assert rms[1] < 0.8 * rms[0]
    assert rms[1] < 1.5 * NOISE


def test_a_variable_star_is_left_out_of_the_fit():
    rng = np.random.default_rng(4)
    sky, x, y = stars(rng)
    template = noisy(rng, sky)
    search = noisy(rng, sky)
    column, row = round(x[3]), round(y[3])
    search[row - 4 : row + 5, column - 4 : column + 5] *= 3.0
    match = fit(search, template, x, y)
    assert match.flux_ratio == pytest.approx(1.0, abs=0.01)


def test_only_the_first_function_of_the_basis_carries_flux():
    basis = gaussian_basis(21, (0.7, 1.5, 3.0), (4, 3, 2))
    assert len(basis.pairs) == 15 + 10 + 6
    sums = [basis.kernel(row).sum() for row in np.eye(len(basis.pairs))]
    np.testing.assert_allclose(sums, [1.0] + [0.0] * (len(sums) - 1), atol=1e-12)


def test_regions_avoid_masked_pixels_and_the_edge():
    usable = np.ones((SIZE, SIZE), dtype=bool)
    usable[100, 100] = False
    x = np.array([100.0, 5.0, 160.0, 162.0, 60.0])
    y = np.array([104.0, 100.0, 160.0, 158.0, 60.0])
    regions = choose_regions(
        usable, x, y, np.arange(5.0, 0.0, -1.0), settings_from_config({}).subtraction
    )
    assert regions.tolist() == [[160, 160], [60, 60]]


def test_too_few_regions_are_refused():
    rng = np.random.default_rng(5)
    sky, x, y = stars(rng, count=1)
    with pytest.raises(ValueError, match="regions"):
        fit(noisy(rng, sky), noisy(rng, sky), x, y)
