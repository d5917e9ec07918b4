"""What comes out of a frame is what was put in."""

import numpy as np
import pytest

from rb.errors import UserError
from rb.survey.camera.artefacts import KINDS, add_artefacts
from rb.survey.camera.exposures import draw_conditions, expose
from rb.survey.camera.observation import observe
from rb.survey.frame import cut_stamps, simulate_frame
from rb.survey.settings import settings_from_config
from rb.survey.sky.scene import draw_scene

QUIET = {
    **{"cosmic_rays": 0, "hot_pixels": 0, "bad_columns": 0, "ghosts": 0, "trails": 0},
    **{"masked_cosmic_rays": 0, "masked_columns": 0, "masked_trails": 0},
}


def same(first, second):
    np.testing.assert_array_equal(first.stamps.images, second.stamps.images)
    assert first.catalogue.keys() == second.catalogue.keys()
    for name, values in first.catalogue.items():
        np.testing.assert_array_equal(values, second.catalogue[name], err_msg=name)


def test_a_frame_depends_on_seed_and_number_alone(small):
    settings = settings_from_config(small)
    first = simulate_frame(settings, 3)
    simulate_frame(settings, 7)
    same(first, simulate_frame(settings, 3))
    other = settings_from_config(small | {"seed": 6})
    assert not np.array_equal(observe(settings, 3).search.image, observe(other, 3).search.image)


def test_supernovae_come_back_where_and_as_bright_as_they_were(small):
    small["scene"] |= {"sn_mag": [19.0, 21.0], "sn_mag_peak": 20.0}
    small["exposure"] = {"sky_noise": 20.0, "calibration_error": 0.0}
    settings = settings_from_config(small)
    offsets, errors, found, injected = [], [], 0, 0
    for number in range(3):
        frame = simulate_frame(settings, number)
        real = frame.catalogue["label"] == 0
        truth = observe(settings, number).scene.events
        for x, y in zip(frame.catalogue["x"][real], frame.catalogue["y"][real], strict=True):
            offsets.append(np.min(np.hypot(truth.x - x, truth.y - y)))
        errors.extend((frame.catalogue["mag"] - frame.catalogue["true_mag"])[real])
        found += frame.summary["sn_recovered"]
        injected += frame.summary["sn_injected"]
        assert frame.summary["completeness"] == pytest.approx(
            frame.summary["sn_recovered"] / frame.summary["sn_injected"]
        )
    assert found > 0.8 * injected
    assert np.median(offsets) < 0.5
    # The PSF model of the photometry is round and constant, so a few per cent remain.
    assert np.median(errors) == pytest.approx(0.0, abs=0.06)
    assert np.percentile(np.abs(errors), 80) < 0.15


def test_zero_point_sets_the_counts(small):
    small["exposure"] = {"zero_point_scatter": 0.0, "shot_noise": 0.0, "sky_noise": 1e-3}
    small["scene"] |= {"star_density": 0.0, "galaxy_density": 0.0, "hostless_fraction": 1.0}
    settings = settings_from_config(small)
    rng = np.random.default_rng(0)
    scene = draw_scene(rng, rng, settings.scene, settings.events, settings.exposure.zero_point)
    night, _ = draw_conditions(rng, settings.exposure, 240)
    exposure = expose(rng, scene, night, settings.exposure, 240, "mixture")
    total = np.sum(10.0 ** (-0.4 * (scene.event_mag - night.zero_point)))
    assert (exposure.image - night.sky_level).sum() == pytest.approx(total, rel=0.02)


def test_stamps_are_centred_on_the_detections_pixel(small):
    image = np.arange(100 * 120, dtype=np.float32).reshape(100, 120)
    stamps = cut_stamps((image, image + 1), np.array([40.4, 60.6]), np.array([30.2, 49.7]))
    assert stamps.shape == (2, 2, 51, 51)
    assert stamps[0, 0, 25, 25] == image[30, 40]
    assert stamps[1, 1, 25, 25] == image[50, 61] + 1


def test_catalogue_is_complete_and_consistent(small):
    frame = simulate_frame(settings_from_config(small), 2)
    catalogue = frame.catalogue
    n = len(frame.stamps)
    assert n > 0
    assert all(len(values) == n for values in catalogue.values())
    assert np.isfinite(frame.stamps.images).all()
    assert len(np.unique(catalogue["id"])) == n
    real = catalogue["label"] == 0
    assert set(catalogue["kind"][real]) == {"sn"}
    assert "sn" not in catalogue["kind"][~real]
    assert np.isnan(catalogue["true_mag"][~real]).all()
    assert np.isfinite(catalogue["true_mag"][real]).all()
    assert (catalogue["snr"] >= 3.5).all()
    for step in ("render", "reference", "psf_matching", "subtraction", "detection", "stamps"):
        assert frame.summary[f"cpu_{step}_s"] >= 0.0


@pytest.mark.parametrize(
    ("setting", "kind"),
    [
        ("cosmic_rays", "cosmic_ray"),
        ("hot_pixels", "hot_pixel"),
        ("bad_columns", "bad_column"),
        ("ghosts", "ghost"),
        ("trails", "trail"),
    ],
)
def test_artefacts_are_found_and_named(small, setting, kind):
    small["artefacts"] = QUIET | {setting: 12.0}
    small["scene"] |= {"sn_per_frame": 0}
    # Single frames can be spared by chance; twelve cannot.
    settings = settings_from_config(small)
    kinds = np.concatenate([simulate_frame(settings, n).catalogue["kind"] for n in range(12)])
    assert np.sum(kinds == kind) > 3
    others = set(KINDS) - {kind, "", "saturation"}
    assert not others & set(kinds)


def test_truth_map_marks_what_artefacts_change(small):
    settings = settings_from_config(small | {"artefacts": QUIET | {"cosmic_rays": 6.0}})
    plain = observe(settings_from_config(small | {"artefacts": QUIET}), 1)
    image = plain.search.image.copy()
    truth = add_artefacts(np.random.default_rng(3), plain.search, settings.artefacts)
    changed = plain.search.image - image
    assert (changed[truth > 0] > 0).all()
    assert changed[truth == 0].max() <= 0.51 * plain.search.conditions.sky_noise


def test_saturated_stars_bleed_and_are_masked(small):
    small["scene"] |= {"star_mag": [12.0, 14.0], "star_density": 2.0}
    small["artefacts"] = QUIET
    settings = settings_from_config(small)
    observation = observe(settings, 0)
    saturated = observation.search.saturated
    assert saturated.any()
    level = observation.search.conditions.saturation
    noise = 6 * np.sqrt(observation.search.variance[saturated])
    assert (np.abs(observation.search.image[saturated] - level) < noise + 200).all()
    columns = saturated.sum(axis=0)
    assert columns.max() > 2 * saturated.sum(axis=1).max()


def test_a_sky_without_stars_cannot_be_matched(small):
    small["scene"] |= {"star_density": 0.0, "galaxy_density": 0.0, "sn_per_frame": 0}
    with pytest.raises(UserError, match="star_density"):
        simulate_frame(settings_from_config(small), 0)


def test_a_threshold_in_the_noise_is_refused_by_name(small):
    small["scene"] |= {"frame_size": 1400}
    small["detection"] = {"reference_threshold": 0.0}
    with pytest.raises(UserError, match="reference_threshold"):
        simulate_frame(settings_from_config(small), 0)
