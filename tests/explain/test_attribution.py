from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from known_networks import convolutional, linear, noise, weights

from rb.evaluation.choose import select
from rb.explain.attribution import Explainer
from rb.explain.settings import METHODS
from rb.explain.shares import groups, panel_shares, shares_table
from rb.paper.values import DES_SHARES
from rb.stamps import StampSetWriter
from rb.stamps.stampset import CHANNELS, StampSet

CHECKPOINT = "des/model_checkpoint_AAD_3s3DH.h5"


def test_shares_of_real_candidates_are_the_published_ones(shared_data, tmp_path):
    """The public DIA checkpoint on DES candidates, as `evaluate.py study=saliency` computes it."""
    import pandas as pd

    published = json.loads((shared_data / "des/published.json").read_text())
    ids = [int(one) for one in published if one.isdigit()]
    stamps = np.full((len(ids), 3, 51, 51), np.nan, dtype=np.float32)
    for row, one in enumerate(ids):
        stored = np.load(shared_data / f"des/{one}.npz")
        for column, channel in enumerate(CHANNELS):
            if channel in stored and stored[channel].shape == (51, 51):
                stamps[row, column] = stored[channel]
    labels = [published[str(one)]["label"] for one in ids]
    rows = pd.DataFrame({"id": ids, "label": labels, "group": "all"})
    with StampSetWriter(tmp_path / "s", source="des", parameters={}, pixel_scale=0.263) as writer:
        writer.append(stamps, rows)
    stamp_set = StampSet.open(tmp_path / "s")
    model = select(None, str(shared_data / CHECKPOINT))[0].model  # type: ignore[arg-type]
    everything = np.arange(len(ids))
    table = shares_table(
        Explainer.of(model), stamp_set, everything, model.score(stamp_set), model.threshold
    ).set_index("id")
    checked = 0
    for one in ids:
        reference = published[str(one)].get("reference_AAD_3s3DH")
        shares = table.loc[one, ["I_diff", "I_srch", "I_tmpl"]].to_numpy(float)
        if reference is None:  # its difference image was never printed
            assert table.loc[one, "missing"] and np.isnan(shares).all()
            assert table["winner"].isna()[one]
            continue
        np.testing.assert_allclose(shares, reference["gm_diff_srch_temp"], atol=1e-4)
        checked += 1
    assert checked == 7
    assert table.loc[6960264, "winner"] == "tmpl" == table.loc[6960264, "principal"]
    printed = {
        int(one): tuple(entry["published_dia"]["gm_diff_srch_temp"])
        for one, entry in published.items()
        if "published_dia" in entry
    }
    assert printed == DES_SHARES


@pytest.mark.parametrize("stacking", ["horizontal", "depth"])
def test_saliency_of_a_linear_network_is_its_weights(stacking):
    by_panel, stamps = weights(), noise(5)
    explainer = linear(by_panel, stacking, batch_size=2)
    panels = explainer.panels(stamps)
    np.testing.assert_array_equal(panels.numpy(), stamps)  # raw: by panel, nothing mixed up
    p = explainer.probabilities(panels).numpy()
    slope = (by_panel[0] - by_panel[1]).abs().numpy()
    expected = p.prod(1)[:, None, None, None] * slope
    np.testing.assert_allclose(explainer.attribute(panels), expected, rtol=1e-5)

    of_logit = linear(by_panel, stacking, score="logit")
    chosen = by_panel[of_logit.classes(panels)].abs().numpy()
    np.testing.assert_allclose(of_logit.attribute(panels), chosen, rtol=1e-5)


@pytest.mark.parametrize("stacking", ["horizontal", "depth"])
def test_saliency_is_the_derivative_of_the_largest_softmax(stacking):
    explainer = convolutional(stacking)
    stamps = noise(4)
    x = explainer.inputs.prepare(stamps).double().requires_grad_()
    network = explainer.network.double()
    slope = torch.autograd.grad(network(x).softmax(1).max(1).values.sum(), x)[0].abs()
    if stacking == "horizontal":
        slope = slope.reshape(4, 51, 3, 51).transpose(1, 2)
    network.float()
    maps = explainer.attribute(explainer.panels(stamps))
    assert maps.shape == (4, 3, 51, 51)
    np.testing.assert_allclose(maps, slope.numpy(), rtol=1e-3, atol=1e-9)


def test_a_saturated_softmax_still_has_its_shares():
    by_panel, stamps = weights(), noise(6)
    usual = linear(by_panel)
    steep = linear(300 * by_panel)
    panels = usual.panels(stamps)
    p = steep.probabilities(panels).float().max(1).values
    assert (p == 1).all()  # in single precision, as networks compute
    maps = steep.attribute(panels)
    assert (maps.max((1, 2, 3)) > 0).all()
    np.testing.assert_allclose(panel_shares(maps), panel_shares(usual.attribute(panels)), rtol=1e-5)


def test_networks_without_the_difference_have_two_panels():
    explainer = linear(channels=("srch", "tmpl"))
    stamps = noise(3)
    stamps[:, 0] = np.nan
    shares = panel_shares(explainer.attribute(explainer.panels(stamps)))
    assert shares.shape == (3, 2)
    np.testing.assert_allclose(shares.sum(1), 1)


def test_integrated_gradients_add_up_to_what_the_stamp_adds():
    explainer = convolutional(integrated_gradients_steps=100, batch_size=100)
    panels = explainer.panels(noise(4))
    classes = explainer.classes(panels)
    maps = explainer.attribute(panels, "integrated_gradients")
    empty = explainer.baseline(panels).expand_as(panels)
    gained = [
        explainer.probabilities(x).gather(1, classes[:, None])[:, 0].numpy()
        for x in (panels, empty)
    ]
    np.testing.assert_allclose(maps.sum((1, 2, 3)), gained[0] - gained[1], atol=2e-3)


def test_the_baseline_is_the_sky_or_zero():
    stamps = noise(2)
    stamps[:, 0] += 7
    explainer = linear()
    sky = explainer.baseline(explainer.panels(stamps)).numpy()
    np.testing.assert_allclose(
        sky[..., 0, 0], np.median(stamps.reshape(2, 3, -1), axis=2), rtol=1e-6
    )
    explainer = linear(baseline="zero")
    assert not explainer.baseline(explainer.panels(stamps)).any()


def test_smoothgrad_of_a_linear_network_is_its_weights_whatever_the_noise():
    by_panel, stamps = weights(), noise(3)
    stamps[:, 1] *= 50  # each panel has noise of its own
    explainer = linear(by_panel, score="logit", smoothgrad_noise=2.0)
    panels = explainer.panels(stamps)
    chosen = by_panel[explainer.classes(panels)].abs().numpy()
    np.testing.assert_allclose(explainer.attribute(panels, "smoothgrad"), chosen, rtol=1e-4)


def test_smoothgrad_survives_constant_panels():
    stamps = noise(2)
    stamps[:, 0] = 4.0
    explainer = convolutional()
    maps = explainer.attribute(explainer.panels(stamps), "smoothgrad")
    assert np.isfinite(maps).all() and maps.max() > 0


def test_occlusion_sees_what_a_square_covers_and_never_two_panels():
    by_panel = torch.zeros(2, 3, 51, 51)
    by_panel[0, 1, 20, 50] = 3.0  # the last column of the search image
    explainer = linear(by_panel, occlusion_window=5, occlusion_stride=5)
    stamps = noise(2)
    stamps[:, 1, 20, 50] = 4.0
    maps = explainer.attribute(explainer.panels(stamps), "occlusion")
    rows, columns = np.nonzero(maps[0, 1])
    assert rows.min() == 20 and rows.max() == 24 and columns.min() == 50
    assert not maps[:, [0, 2]].any()
    assert (maps[:, 1, 20, 50] > 0).all()  # it speaks for the call


@pytest.mark.parametrize("method", METHODS)
def test_batches_and_repetition_change_nothing(method):
    panels = convolutional().panels(noise(3))
    state = torch.random.get_rng_state()
    ticks: list[int] = []
    one = convolutional(batch_size=64).attribute(panels, method, tick=ticks.append)
    assert sum(ticks) == 3
    if method != "smoothgrad":  # whose noise is drawn batch by batch
        many = convolutional(batch_size=24).attribute(panels, method)
        np.testing.assert_allclose(one, many, rtol=1e-4, atol=1e-6)
    torch.random.set_rng_state(state)
    again = Explainer.attribute(convolutional(batch_size=64), panels, method)
    np.testing.assert_array_equal(one, again)


def test_noise_leaves_the_random_numbers_of_others_alone():
    explainer = convolutional()
    panels = explainer.panels(noise(2))
    state = torch.random.get_rng_state()
    explainer.attribute(panels, "smoothgrad")
    assert torch.equal(state, torch.random.get_rng_state())


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(0, 1000), st.floats(1e-30, 1e30))
def test_shares_add_up_and_do_not_depend_on_the_scale(channels, seed, factor):
    maps = np.random.default_rng(seed).normal(0, 1, (6, channels, 7, 7))
    shares = panel_shares(maps)
    np.testing.assert_allclose(shares.sum(1), 1)
    assert (shares >= 0).all()
    np.testing.assert_allclose(panel_shares(maps * factor), shares, rtol=1e-9)
    np.testing.assert_allclose(panel_shares(maps[:, ::-1]), shares[:, ::-1])


def test_maps_that_are_zero_have_no_shares():
    maps = np.ones((3, 2, 4, 4))
    maps[0] = 0
    maps[1, 0, 0, 0] = np.nan
    shares = panel_shares(maps)
    assert np.isnan(shares[:2]).all()
    np.testing.assert_allclose(shares[2], 0.5)


def test_groups_are_the_fields_of_the_confusion_matrix():
    labels = np.array([0, 0, 1, 1, -1, -1])
    called = np.array([True, False, True, False, True, False])
    expected = ["TP", "FN", "FP", "TN", "called real", "called bogus"]
    assert groups(labels, called).tolist() == expected


def test_a_dead_network_is_counted_not_divided_by(stamp_set):
    explainer = linear(torch.zeros(2, 3, 51, 51))
    rows = np.arange(5)
    table = shares_table(explainer, stamp_set, rows, np.full(5, 0.6), 0.5)
    assert table["I_diff"].isna().all() and table["winner"].isna().all()
    assert table["principal"].isna().all() and not table["missing"].any()
