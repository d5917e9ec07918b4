"""Probabilities and thresholds that keep what they promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from known_networks import checkpoint
from toys import toy_stamps, write_set

import rb
from rb.errors import UserError
from rb.models.files import load_file
from rb.scoring.engines import EngineScorer
from rb.scoring.export import export
from rb.stamps import StampSet
from rb.stamps.batch import Stamps
from rb.uncertainty.calibration import CalibratedScorer, at_temperature, fit_temperature
from rb.uncertainty.operating_points import threshold_for


def true_probabilities(n=20_000, seed=1):
    rng = np.random.default_rng(seed)
    p = rng.beta(0.5, 0.5, n)
    return p, (rng.random(n) >= p).astype(int)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_spoiled_probabilities_is_found_again(temperature):
    p, labels = true_probabilities()
    spoiled = at_temperature(p, 1 / temperature)
    found = fit_temperature(labels, spoiled)
    assert found == pytest.approx(temperature, rel=0.05)
    assert np.abs(at_temperature(spoiled, found) - p).max() < 0.02
    with pytest.raises(UserError, match="needs real and bogus"):
        fit_temperature(np.zeros(5), np.full(5, 0.5))


def test_a_scorer_is_calibrated_before_it_says_probabilities(tmp_path):
    write_set(tmp_path / "set", 60)
    stamps = StampSet.open(tmp_path / "set")
    model = rb.load(checkpoint(tmp_path / "some.ckpt", ("srch", "tmpl")))
    wrapped = CalibratedScorer(model)
    for ask in (lambda: wrapped.score(stamps), lambda: wrapped.threshold):
        with pytest.raises(UserError, match="some was never calibrated; fit"):
            ask()
    fitted = wrapped.fit(stamps, np.arange(40))
    raw, calibrated = model.score(stamps), fitted.score(stamps)
    np.testing.assert_allclose(calibrated, at_temperature(raw, fitted.temperature))
    assert fitted.threshold == 0.5
    assert ((raw >= 0.5) == (calibrated >= 0.5)).all()
    assert fitted.provenance == model.provenance


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8)), min_size=2, max_size=60),
    st.floats(0.01, 1),
)
def test_thresholds_keep_their_promise_on_the_candidates_they_are_chosen_on(pairs, value):
    labels, scores = np.array(pairs).T
    scores = scores / 8
    real = labels == 0
    if real.all() or not real.any():
        return
    passes = scores >= threshold_for("fpr", value, labels, scores)
    assert passes[~real].mean() <= value + 1e-9
    passes = scores >= threshold_for("completeness", value, labels, scores)
    assert passes[real].mean() >= value - 1e-9
    threshold = threshold_for("purity", value, labels, scores)
    if not np.isnan(threshold):
        assert real[scores >= threshold].mean() >= value - 1e-9


def test_an_unknown_target_is_refused():
    with pytest.raises(UserError, match="give a rate of fpr, purity, completeness"):
        threshold_for("speed", 0.5, np.array([0, 1]), np.array([0.1, 0.9]))


def test_a_model_keeps_its_calibration_wherever_it_is_run(tmp_path):
    plain = load_file(checkpoint(tmp_path / "plain.ckpt", ("srch", "tmpl")))
    content = torch.load(tmp_path / "plain.ckpt", weights_only=True)
    content["rb"]["temperature"] = 0.5
    torch.save(content, tmp_path / "some.ckpt")
    model = rb.load(tmp_path / "some.ckpt")
    stamps, _ = toy_stamps(300)
    expected = at_temperature(plain.p_real(stamps), 0.5)
    assert np.abs(expected - plain.p_real(stamps)).max() > 0.01
    np.testing.assert_allclose(model.p_real(stamps), expected, atol=1e-6)
    about = export(model, tmp_path / "some.onnx")
    assert about["calibration"] == {"temperature": 0.5}
    np.testing.assert_allclose(rb.load(tmp_path / "some.onnx").p_real(stamps), expected, atol=1e-5)
    engines = EngineScorer(load_file(tmp_path / "some.ckpt"))
    for predict in (engines._onnxruntime(), engines._openvino()):
        np.testing.assert_allclose(predict(Stamps(stamps)), expected, atol=1e-5)
