"""Settings are checked before anything is simulated; their values stand in the YAML."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from rb.errors import UserError
from rb.settings import rules_of
from rb.survey.settings import SurveySettings, settings_from_config

YAML = Path(__file__).parents[2] / "conf" / "data" / "simulated.yaml"
GROUPS = {
    name: rule.kind
    for name, rule in rules_of(SurveySettings).items()
    if name not in ("seed", "planes")
}


def test_yaml_holds_the_defaults():
    config = yaml.safe_load(YAML.read_text())
    physics = {key: config[key] for key in ("seed", "planes", *GROUPS)}
    assert settings_from_config(physics) == settings_from_config({})
    for name, group in GROUPS.items():
        assert set(config[name]) == {f.name for f in dataclasses.fields(group)}


def test_every_key_of_the_yaml_is_commented():
    for line in YAML.read_text().splitlines():
        if line.startswith("  "):
            assert " # " in line, line


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"scene": {"frame_size": 40}}, "scene.frame_size"),
        ({"scene": {"galaxy_density": -1.0}}, "scene.galaxy_density"),
        ({"scene": {"sn_per_frame": 1.5}}, "scene.sn_per_frame"),
        ({"scene": {"sn_per_frame": 2000}}, "scene.sn_per_frame"),
        ({"scene": {"renderer": "crayon"}}, "scene.renderer"),
        ({"scene": {"sn_mag": [25.0, 19.0]}}, "scene.sn_mag"),
        ({"scene": {"sn_mag": "bright"}}, "scene.sn_mag"),
        ({"scene": {"hostless_fraction": 1.2}}, "scene.hostless_fraction"),
        ({"scene": 3}, "scene"),
        ({"exposure": {"moffat_beta": 1.0}}, "exposure.moffat_beta"),
        ({"exposure": {"sky_noise": float("nan")}}, "exposure.sky_noise"),
        ({"exposure": {"deep_exposures": [0, 3]}}, "exposure.deep_exposures"),
        ({"exposure": {"fwhm_range_px": [0.0, 8.0]}}, "exposure.fwhm_range_px"),
        ({"artefacts": {"cosmic_rays": -0.1}}, "artefacts.cosmic_rays"),
        ({"artefacts": {"gremlins": 1.0}}, "artefacts.gremlins"),
        ({"subtraction": {"kernel_size": 20}}, "subtraction.kernel_size"),
        ({"subtraction": {"kernel_degrees": [1]}}, "subtraction.kernel_sigmas_px"),
        ({"subtraction": {"kernel_degrees": []}}, "subtraction.kernel_degrees"),
        ({"subtraction": {"region_size": 201}, "scene": {"frame_size": 300}}, "frame_size"),
        ({"detection": {"threshold": True}}, "detection.threshold"),
        ({"detection": {"filter_fwhm_px": 0.0}}, "detection.filter_fwhm_px"),
        ({"detection": {"negative": "yes"}}, "detection.negative"),
        ({"events": {"agn_share": [0.5, 1.5]}}, "events.agn_share"),
        ({"events": {"gremlins_per_frame": 1.0}}, "events.gremlins_per_frame"),
        ({"scene": {"host_correlation": 1.0}}, "scene.host_correlation"),
        ({"seed": -1}, "seed"),
        ({"seed": "lucky"}, "seed"),
        ({"weather": {}}, "weather"),
        ({"planes": ["mask"]}, "planes"),
        ({"planes": "psf"}, "planes"),
        ({"detection": {"stamp_size": 5}}, "detection.stamp_size"),
        ({"detection": {"stamp_size": 121}, "scene": {"frame_size": 240}}, "detection.stamp_size"),
    ],
)
def test_nonsense_is_refused_by_name(config, named):
    with pytest.raises(UserError, match=named.replace(".", r"\.")):
        settings_from_config(config)


def test_digest_follows_physics_and_seed():
    one = settings_from_config({})
    assert one.digest() == settings_from_config({"seed": 1, "scene": {}}).digest()
    assert one.digest() != settings_from_config({"seed": 2}).digest()
    assert one.digest() != settings_from_config({"scene": {"star_density": 1.0}}).digest()
