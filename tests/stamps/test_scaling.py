"""Scaling: the published pixels, a plain NumPy reference, and degenerate stamps."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from toys import write_set

from rb.errors import UserError
from rb.stamps.inputs import InputSpec
from rb.stamps.scaling import SCALINGS, scale


def reference(stamp: np.ndarray, scaling: str) -> np.ndarray:
    x = stamp.astype(np.float64)
    mean, std = x.mean(), x.std()
    match scaling:
        case "three_sigma":
            inside = x[(x > mean - 3 * std) & (x < mean + 3 * std)]
            return (x - inside.min()) / (inside.max() - inside.min())
        case "mu_three_sigma":
            return (x - mean + 3 * std) / (6 * std)
        case "standardise":
            return (x - mean) / std
        case "minmax":
            return (x - x.min()) / (x.max() - x.min())
    return x


def stamps_with_outliers(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(100, 10, (n, 51, 51))
    x[:, 20:23, 20:23] += 10 ** rng.uniform(1, 6, (n, 1, 1))
    return x.astype(np.float32)


@pytest.mark.parametrize("scaling", SCALINGS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_equal_to_plain_numpy(scaling, seed):
    stamps = stamps_with_outliers(3, seed)
    expected = np.stack([reference(s, scaling) for s in stamps])
    np.testing.assert_allclose(scale(stamps, scaling).numpy(), expected, rtol=2e-4, atol=2e-4)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    factor=st.sampled_from([0.25, 4.0, 1024.0]),
    offset=st.sampled_from([-512.0, 0.0, 64.0]),
)
def test_an_affine_change_of_the_unit_changes_nothing(seed, factor, offset):
    stamps = np.round(stamps_with_outliers(2, seed) * 8) / 8
    for scaling in ("three_sigma", "mu_three_sigma", "standardise", "minmax"):
        torch.testing.assert_close(
            scale(stamps * factor + offset, scaling), scale(stamps, scaling), rtol=1e-3, atol=1e-3
        )


def test_bright_outliers_do_not_set_the_range():
    # The mean lies above all pixels of the sky here: it must not count as one of them.
    stamp = np.random.default_rng(0).normal(0, 1, (1, 51, 51)).astype(np.float32)
    stamp[0, 25, 25] = 1e6
    scaled = scale(stamp, "three_sigma").numpy()[0]
    rest = np.delete(scaled.ravel(), 25 * 51 + 25)
    assert rest.min() == 0
    assert rest.max() == 1


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("value", [0.0, 1e-30, 7.3, -1e6, 3e30])
def test_constant_stamps_become_zeros(scaling, value):
    stamp = np.full((1, 51, 51), value, dtype=np.float32)
    expected = stamp if scaling == "raw" else np.zeros_like(stamp)
    np.testing.assert_array_equal(scale(stamp, scaling).numpy(), expected)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_pixels_that_are_not_finite_take_the_mean(scaling):
    stamp = stamps_with_outliers(1, 3)
    broken = stamp.copy()
    broken[0, 0, :5] = [np.nan, np.inf, -np.inf, np.nan, np.nan]
    finite = broken[np.isfinite(broken)]
    repaired = np.where(np.isfinite(broken), broken, np.float32(finite.mean(dtype=np.float64)))
    scaled = scale(broken, scaling).numpy()
    assert np.isfinite(scaled).all()
    good = np.isfinite(broken)
    if scaling != "raw":
        expected = reference(finite, scaling)
        np.testing.assert_allclose(scaled[good], expected, rtol=1e-3, atol=1e-3)
    else:
        np.testing.assert_allclose(scaled, repaired)
    # and a stamp of nothing else is all zeros
    assert scale(np.full((1, 51, 51), np.nan), scaling).abs().sum() == 0


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        (1, 51, 51),
        elements=st.floats(width=32, allow_nan=True, allow_infinity=True),
        fill=st.just(np.float32(1.0)),
    )
)
def test_always_finite(stamp):
    clipped = np.where(np.abs(stamp) > 1e18, np.nan, stamp)
    for scaling in SCALINGS:
        assert torch.isfinite(scale(clipped, scaling)).all()


def test_the_published_pixels(shared_data):
    published = json.loads((shared_data / "des" / "published.json").read_text())["printed_pixels"]
    printed = published["6960264"]
    raw, scaled = np.array(printed["srch_first5"]), np.array(printed["srch_scaled_first5"])
    # Two printed pairs fix the linear map, and with it the extremes inside 3 sigma; the five
    # printed pixels in a stamp with those extremes scale to what was printed, digit by digit.
    slope, zero = np.polyfit(raw, scaled, 1)
    low, high = -zero / slope, (1 - zero) / slope
    stamp = np.random.default_rng(0).uniform(low, high, 51 * 51)
    stamp[:9] = [*raw, low, high, low - 10 * (high - low), high + 10 * (high - low)]
    ours = scale(stamp.reshape(1, 51, 51).astype(np.float32), "three_sigma").numpy().ravel()
    np.testing.assert_allclose(ours[:5], scaled, atol=2e-6)
    np.testing.assert_allclose(ours[5:9], [0, 1, -10, 11], atol=1e-5)
    # The stamp recovered in 8 bits has the same extremes, to a grey level each.
    recovered = np.load(shared_data / "des" / "6960264.npz")["srch"]
    ours = scale(recovered[None], "three_sigma")[0].numpy()
    ours_slope, ours_zero = np.polyfit(recovered.ravel(), ours.ravel(), 1)
    grey = np.diff(np.unique(recovered)).min()
    assert abs(-ours_zero / ours_slope - low) < 1.5 * grey
    assert abs((1 - ours_zero) / ours_slope - high) < 1.5 * grey


def test_stacking_puts_channels_where_the_paper_has_them():
    stamps = np.zeros((2, 3, 51, 51), dtype=np.float32)
    stamps[:, 0, 0, 1], stamps[:, 1, 2, 3], stamps[:, 2, 4, 5] = 1, 2, 3
    raw = {"diff": "raw", "srch": "raw", "tmpl": "raw"}
    wide = InputSpec(("diff", "srch", "tmpl"), "horizontal", raw).prepare(stamps)
    assert wide.shape == (2, 1, 51, 153)
    assert (wide[0, 0, 0, 1], wide[0, 0, 2, 54], wide[0, 0, 4, 107]) == (1, 2, 3)
    deep = InputSpec(("srch", "tmpl"), "depth", raw).prepare(stamps)
    assert deep.shape == (2, 2, 51, 51)
    assert (deep[0, 0, 2, 3], deep[0, 1, 4, 5]) == (2, 3)


def test_prepare_does_not_depend_on_the_chunk():
    stamps = stamps_with_outliers(21, 5).reshape(7, 3, 51, 51)
    torch.testing.assert_close(InputSpec().prepare(stamps, 2), InputSpec().prepare(stamps, 100))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": ("diff", "sci")}, "model.inputs.channels"),
        ({"channels": ()}, "model.inputs.channels"),
        ({"channels": ("srch", "srch")}, "each once"),
        ({"stacking": "vertical"}, "model.inputs.stacking is 'vertical'"),
        ({"scaling": {"diff": "log"}}, "model.inputs.scaling.diff is 'log'"),
    ],
)
def test_impossible_inputs(arguments, message):
    with pytest.raises(UserError, match=message):
        InputSpec(**arguments)


def test_a_network_is_not_fed_without_its_channels(tmp_path):
    with pytest.raises(UserError, match=r"needs diff.*has only srch, tmpl.*model=nodia"):
        InputSpec().check(write_set(tmp_path / "set", 4, channels=("srch", "tmpl")))
