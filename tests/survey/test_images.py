"""Noise, masks and dipoles are as in resampled and reduced survey images."""

import numpy as np
import pytest

from rb.survey.camera.artefacts import add_artefacts
from rb.survey.camera.noise import correlated_noise
from rb.survey.camera.observation import observe
from rb.survey.frame import MASKED, simulate_frame
from rb.survey.settings import settings_from_config


def correlation(noise, dy, dx):
    height, width = noise.shape
    return np.mean(noise[: height - dy, : width - dx] * noise[dy:, dx:]) / np.mean(noise**2)


@pytest.mark.parametrize(
    ("resamplings", "neighbour", "diagonal", "second"),
    [
        (0, 0.0, 0.0, 0.0),
        # Autocorrelation of Lanczos-3, averaged over sub-pixel shifts, by numerical integration.
        (1, 0.112, 0.0125, -0.076),
        # That of the former. A template of DES, one stamp of blank sky, has 0.24, 0.05, -0.13.
        (2, 0.195, 0.038, -0.128),
    ],
)
def test_noise_is_correlated_as_by_resampling(resamplings, neighbour, diagonal, second):
    noise = correlated_noise(np.random.default_rng(0), 600, resamplings)
    assert noise.shape == (600, 600)
    assert noise.dtype == np.float32
    assert noise.std() == pytest.approx(1.0, abs=0.01)
    for axis in ((0, 1), (1, 0)):
        assert correlation(noise, *axis) == pytest.approx(neighbour, abs=0.02)
        assert correlation(noise, *(2 * a for a in axis)) == pytest.approx(second, abs=0.02)
    assert correlation(noise, 1, 1) == pytest.approx(diagonal, abs=0.02)


def test_single_exposures_are_white_and_coadds_are_not(small):
    small["exposure"] = {"deep_fraction": 0.0}
    shallow = observe(settings_from_config(small), 0)
    small["exposure"] = {"deep_fraction": 1.0}
    deep = observe(settings_from_config(small), 0)
    assert shallow.search.conditions.resamplings == 0
    assert deep.search.conditions.resamplings == 1
    assert shallow.template.conditions.resamplings == 2


def test_recognised_artefacts_are_masked_and_interpolated(small):
    small["artefacts"] = {
        **{"cosmic_rays": 0, "hot_pixels": 0, "bad_columns": 0, "ghosts": 0, "trails": 0},
        **{"masked_cosmic_rays": 0, "masked_columns": 0, "masked_trails": 0},
    }
    search = observe(settings_from_config(small), 0).search
    image, masked = search.image.copy(), search.masked.copy()
    small["artefacts"] |= {"masked_columns": 5.0, "masked_cosmic_rays": 5.0}
    settings = settings_from_config(small)
    truth = add_artefacts(np.random.default_rng(1), search, settings.artefacts)
    new = search.masked & ~masked
    assert new.sum() > 50
    np.testing.assert_array_equal(search.image[~new], image[~new])
    assert (search.image[new] != image[new]).mean() > 0.99
    # What replaces them is sky like its surroundings, and is nobody's artefact.
    assert not (truth[new] > 0).any() or search.saturated.any()
    assert np.median(search.image[new]) == pytest.approx(
        np.median(image[~new]), abs=search.conditions.sky_noise
    )


def test_masked_pixels_stay_out_of_the_difference(small):
    small["artefacts"] = {"masked_columns": 8.0}
    settings = settings_from_config(small)
    frames = [simulate_frame(settings, n) for n in range(3)]
    shares = np.concatenate([frame.catalogue["mask_fraction"] for frame in frames])
    pixels = np.concatenate([frame.stamps.images[:, 0] for frame in frames])
    assert shares.max() > 0.01
    marked = (pixels == np.float32(MASKED)).mean(axis=(1, 2))
    np.testing.assert_allclose(marked, shares, atol=1e-9)


def test_a_cut_on_negative_pixels_takes_out_dipoles(small):
    small["exposure"] = {"registration_px": 0.4, "sky_noise": 15.0}
    small["scene"] |= {"sn_per_frame": 0}
    small["detection"] = {"dipole_pixels": 10000}
    every = [simulate_frame(settings_from_config(small), n).catalogue for n in range(4)]
    small["detection"] = {"dipole_pixels": 5}
    fewer = [simulate_frame(settings_from_config(small), n).catalogue for n in range(4)]
    counts = [sum(len(c["id"]) for c in part) for part in (every, fewer)]
    assert counts[1] < 0.8 * counts[0]
    assert set(np.concatenate([c["x"] for c in fewer])) <= set(
        np.concatenate([c["x"] for c in every])
    )
