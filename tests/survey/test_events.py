"""What else changes in the sky: each kind is found as what it is, and off unless asked for."""

import numpy as np
import pytest

from rb.errors import UserError
from rb.survey.camera.observation import observe
from rb.survey.frame import simulate_frame
from rb.survey.settings import settings_from_config
from rb.survey.sky.events import EXPLOSIONS, KINDS

BRIGHT = {
    **{f"{kind}_mag": 20.0 for kind in EXPLOSIONS},
    **{"variable_star_amplitude": 1.0, "agn_amplitude": 1.0, "agn_host_mag": [17.0, 20.0]},
    "asteroid_mag": [18.0, 20.0],
}
BOTH_WAYS = ("variable_star", "agn")


def candidates(config, frames=6):
    settings = settings_from_config(config)
    parts = [simulate_frame(settings, n).catalogue for n in range(frames)]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "sn"])
def test_a_kind_is_found_and_called_real(small, kind):
    small["scene"] |= {"sn_per_frame": 0, "galaxy_density": 40.0}
    small["events"] = BRIGHT | {f"{kind}_per_frame": 5.0}
    small["detection"] = {"negative": True}
    found = candidates(small)
    of_kind = found["kind"] == kind
    assert of_kind.sum() >= 3
    assert (found["label"][of_kind] == 0).all()
    assert not set(found["kind"]) & (set(KINDS) - {kind})
    negative = found["flux"][of_kind] < 0
    np.testing.assert_array_equal(found["negative"][of_kind], negative)
    if kind not in BOTH_WAYS:
        assert negative.all() == (kind == "fading")
        assert negative.any() == (kind == "fading")
    assert np.median(found["mag"][of_kind] - found["true_mag"][of_kind]) == pytest.approx(
        0, abs=0.2
    )


def test_what_has_become_fainter_is_bogus_unless_something_did(small):
    small["scene"] |= {"sn_per_frame": 0}
    small["detection"] = {"negative": True}
    found = candidates(small)
    assert found["negative"].any()
    assert (found["label"] == 1).all()
    small["detection"] = {"negative": False}
    fewer = candidates(small)
    assert not fewer["negative"].any()
    assert len(fewer["id"]) == (~found["negative"]).sum()


def test_events_leave_the_rest_of_the_sky_alone(small):
    plain = observe(settings_from_config(small), 1).scene
    small["events"] = {f"{kind}_per_frame": 3.0 for kind in ("agn", "asteroid", "nova")}
    busy = observe(settings_from_config(small), 1).scene
    n = len(plain.events)
    assert len(busy.events) > n
    assert set(plain.events.kind) == {"sn"}
    np.testing.assert_array_equal(busy.events.x[:n], plain.events.x)
    np.testing.assert_array_equal(busy.stars.x, plain.stars.x)
    np.testing.assert_array_equal(busy.galaxies.mag[: len(plain.galaxies.mag)], plain.galaxies.mag)


def test_asteroids_are_trailed_and_keep_their_flux(small):
    small["events"] = {"asteroid_per_frame": 9.0, "asteroid_trail_px": [6.0, 7.0]}
    events = observe(settings_from_config(small), 0).scene.events
    points, owner = events.in_search()
    moving = np.flatnonzero(events.kind == "asteroid")
    assert len(moving)
    for i in moving:
        x, y = points.x[owner == i], points.y[owner == i]
        assert 6.0 <= np.hypot(np.ptp(x), np.ptp(y)) <= 7.0
        assert (x.mean(), y.mean()) == pytest.approx((events.x[i], events.y[i]))
        assert points.flux[owner == i].sum() == pytest.approx(events.flux[i])


def test_tidal_disruptions_are_in_the_centre_and_kilonovae_far_out(small):
    small["scene"] |= {"sn_per_frame": 0, "sn_separation_px": 5.0}
    small["events"] = {"tde_per_frame": 20.0, "kilonova_per_frame": 20.0}
    scene = observe(settings_from_config(small), 0).scene
    events, galaxies = scene.events, scene.galaxies.whole
    hosted = events.host >= 0
    host = events.host[hosted]
    distance = np.hypot(galaxies.x[host] - events.x[hosted], galaxies.y[host] - events.y[hosted])
    in_radii = distance / galaxies.radius[host]
    kind = events.kind[hosted]
    assert in_radii[kind == "tde"].max() < 1e-6
    assert np.median(in_radii[kind == "kilonova"]) > 1.0


def test_fading_sources_need_negative_detections(small):
    small["events"] = {"fading_per_frame": 1.0}
    with pytest.raises(UserError, match=r"data\.detection\.negative"):
        settings_from_config(small)
