"""What is measured of an exposure is what was put into it, and nothing of it is looked up."""

from dataclasses import replace

import numpy as np
import pytest
import sep
import torch

from rb.models.modern.planes import InputPlanes
from rb.stamps.layout import IMAGES, SIDE_COLUMNS
from rb.survey.camera.observation import observe
from rb.survey.frame import simulate_frame
from rb.survey.pipeline.detection import find_reference
from rb.survey.pipeline.measure import PSF_SIZE, find_stars, measure_exposure, moved
from rb.survey.settings import settings_from_config


def measured(config, number):
    """Truth and measurement of both exposures of a frame."""
    settings = settings_from_config(config)
    observation = observe(settings, number)
    template = observation.template
    reference = find_reference(template.image, template.conditions.sky_noise, settings.detection)
    stars = find_stars(template.image, ~observation.mask, reference)
    return observation, stars, [
        (exposure, measure_exposure(exposure, stars, reference, with_variance=True))
        for exposure in (observation.search, template)
    ]  # fmt: skip


@pytest.mark.parametrize("number", [0, 3, 11])
def test_seeing_shape_and_noise_agree_with_the_truth(number):
    _, _, both = measured({"seed": 3}, number)
    for exposure, found in both:
        truth = exposure.conditions
        # The PSF as the pixels see it: wider than the one that fell onto them by their variance.
        seen = np.hypot(truth.psf.fwhm, 2.3548 / np.sqrt(12))
        assert found.fwhm == pytest.approx(seen, rel=0.035)
        assert (found.e1, found.e2) == pytest.approx((truth.psf.e1, truth.psf.e2), abs=0.015)
        assert found.sky_noise == pytest.approx(truth.sky_noise, rel=0.03)
        assert found.zero_point == truth.zero_point_measured != truth.zero_point
        known = ~exposure.masked
        assert np.isnan(found.variance[exposure.masked]).all()
        ratio = found.variance[known] / exposure.variance[known]
        assert np.median(ratio) == pytest.approx(1.0, abs=0.06)
        assert np.quantile(ratio, [0.01, 0.99]) == pytest.approx([1, 1], abs=0.25)


@pytest.mark.parametrize("number", [0, 3])
def test_psf_images_are_of_sum_one_and_centred(number):
    _, _, both = measured({"seed": 3}, number)
    y, x = np.mgrid[:PSF_SIZE, :PSF_SIZE] - PSF_SIZE // 2
    for exposure, found in both:
        assert found.psf.shape == (PSF_SIZE, PSF_SIZE)
        assert found.psf.sum() == pytest.approx(1.0, abs=1e-5)
        near = found.psf * np.exp(-(x**2 + y**2) / (2 * 2.0**2))
        assert np.hypot((near * x).sum(), (near * y).sum()) / near.sum() < 0.02
        # Its profile is the Moffat's that was put in, sampled in pixels.
        truth = exposure.conditions.psf
        alpha = found.fwhm / (2 * np.sqrt(2 ** (1 / truth.beta) - 1))
        model = (1 + (x**2 + y**2) / alpha**2) ** -truth.beta
        assert np.abs(found.psf - model / model.sum()).max() < 0.12 * found.psf.max()


@pytest.mark.parametrize("number", range(4))
def test_stars_are_told_from_galaxies(small, number):
    observation, stars, _ = measured(small, number)
    scene = observation.scene
    assert len(stars) >= 3
    for x, y in stars:
        assert np.hypot(scene.stars.x - x, scene.stars.y - y).min() < 1.5


def test_the_truth_is_not_looked_at(small):
    settings = settings_from_config(small)
    observation = observe(settings, 1)
    search = observation.search
    reference = find_reference(
        observation.template.image, observation.template.conditions.sky_noise, settings.detection
    )
    stars = find_stars(observation.template.image, ~observation.mask, reference)
    lie = replace(
        search.conditions,
        psf=replace(search.conditions.psf, fwhm=99.0, e1=0.3),
        sky_noise=1e6,
        zero_point=0.0,
        sky_level=1e6,
    )
    blind = replace(search, conditions=lie, variance=np.full_like(search.variance, np.nan))
    one, two = (measure_exposure(e, stars, reference, True) for e in (search, blind))
    assert one.side() == two.side()
    np.testing.assert_array_equal(one.psf, two.psf)
    np.testing.assert_array_equal(one.variance, two.variance)


def test_a_sky_without_stars_has_no_psf(small):
    settings = settings_from_config(small)
    observation = observe(settings, 1)
    reference = find_reference(observation.template.image, 1e9, settings.detection)
    stars = find_stars(observation.template.image, ~observation.mask, reference)
    found = measure_exposure(observation.search, stars, reference)
    assert len(stars) == 0
    assert np.isnan(found.psf).all() and np.isnan(found.fwhm)
    assert np.isfinite(found.sky_noise)


def test_a_frame_carries_it_to_its_candidates(small):
    plain = simulate_frame(settings_from_config(small | {"planes": []}), 2)
    frame = simulate_frame(settings_from_config(small | {"planes": ["variance", "psf"]}), 2)
    np.testing.assert_array_equal(plain.stamps.images, frame.stamps.images)
    assert (plain.stamps.variance, plain.stamps.psf) == (None, None)
    n = len(frame.stamps)
    assert frame.stamps.variance.shape == (n, 3, 51, 51)
    assert frame.stamps.psf.shape == (n, 2, PSF_SIZE, PSF_SIZE)
    for name in SIDE_COLUMNS:
        assert np.isfinite(frame.catalogue[name]).all()
    variance = frame.stamps.variance
    assert np.nanmin(variance) > 0
    # The difference is noisier than the search image, by what the template adds.
    blank = np.nanmedian(variance, axis=(2, 3))
    assert (blank[:, 0] > blank[:, 1]).all()
    noise = frame.catalogue["sky_noise_srch"]
    np.testing.assert_allclose(np.sqrt(blank[:, 1]), noise, rtol=0.1)


def test_psfs_of_candidates_lie_as_far_off_as_sources_do():
    """The registration error that was put in, as the frame's bright sources tell it."""
    still = {"registration_warp_px": 0.0, "refraction_px": 0.0}
    errors, gains = [], []
    for number in range(5):
        config = {"seed": 5, "exposure": {"registration_px": 0.3} | still}
        settings = settings_from_config(config)
        frame = simulate_frame(settings, number)
        shift = np.stack([frame.catalogue["shift_x"], frame.catalogue["shift_y"]], 1)
        # Observed once more, without that error: where its sources would be.
        config["exposure"]["registration_px"] = 0.0
        before = observe(settings_from_config(config), number)
        errors.append(np.median(shift, axis=0) - _shift_between(before, observe(settings, number)))
        gains.append(_left_over(frame, None) / _left_over(frame, -shift))
    # Each source scatters by .08 px, and frames with few of them tell less.
    assert np.median(np.abs(errors)) < 0.04
    assert np.max(np.abs(errors)) < 0.2
    assert np.median(gains) < 0.7


def _left_over(frame, step):
    """Scatter of the crossed planes of bogus candidates; search PSFs moved by `step` px."""
    psf, bogus = frame.stamps.psf.copy(), frame.catalogue["label"] == 1
    if step is not None:
        psf[:, 0] = moved(psf[:, 0], *step.T)
    names = [f"{what}_{image}" for what in ("sky_noise", "zero_point") for image in IMAGES]
    side = np.column_stack([psf.reshape(len(psf), -1), *(frame.catalogue[n] for n in names)])
    inputs = InputPlanes((2, 51, 51), IMAGES, ("psf", *names), ("cross",))
    images = torch.from_numpy(frame.stamps.images[:, 1:])
    planes, _ = inputs(images, torch.from_numpy(side).float())
    return float(planes[bogus, 2, 20:31, 20:31].sinh().std((1, 2)).median())


def _shift_between(before, after):
    """How far the template's brightest stars have come to lie from where they were, px."""
    x, y = before.scene.stars.x, before.scene.stars.y
    flux = before.scene.stars.flux
    best = np.argsort(-np.where((x > 30) & (x < 600) & (y > 30) & (y < 600), flux, 0))[5:45]
    places = [
        np.stack(sep.winpos(o.template.image, x[best], y[best], 2.0)[:2]) for o in (before, after)
    ]
    # Registration moves the template against the search image.
    return -np.median(places[1] - places[0], axis=1)


@pytest.mark.parametrize("size", [30, 63])
def test_stamps_may_have_another_size(small, size):
    config = small | {"detection": {"stamp_size": size}}
    frame = simulate_frame(settings_from_config(config), 2)
    images, bright = frame.stamps.images, int(np.argmax(frame.catalogue["snr"]))
    assert images.shape == (len(frame.stamps), 3, size, size)
    assert len(frame.stamps) > 0 and np.isfinite(images).all()
    # The candidate is in pixel size // 2.
    row, column = np.unravel_index(np.argmax(images[bright, 0]), (size, size))
    assert max(abs(row - size // 2), abs(column - size // 2)) <= 2
