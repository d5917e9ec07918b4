from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from known_networks import convolutional, linear, noise
from scipy.stats import spearmanr
from torch import nn

from rb.errors import UserError
from rb.explain.deletion import RANDOM, area_table, curve_areas, deletion_curves, fractions
from rb.explain.examples import balanced, pick
from rb.explain.intervals import bootstrap_mean
from rb.explain.randomisation import (
    cascade,
    randomisation,
    rank_correlation,
    structural_similarity,
)
from rb.explain.settings import read_settings
from rb.explain.summaries import likeness_curves, likeness_table
from rb.explain.winners import win_counts, winner_table
from rb.paper.values import WINNER_COUNTS, WINNER_PERCENT, winner_percents

STUDY = {
    "score": "softmax",
    "n_shares": None,
    "examples": 2,
    "methods": ["saliency"],
    "n_methods": 4,
    "method_examples": 1,
    "n_sanity": 2,
    "randomisation_stages": 3,
    "deletion_steps": 5,
    "bootstrap": 100,
    "batch_size": 8,
    "seed": 0,
    "baseline": "median",
    "smoothgrad": {"samples": 2, "noise": 1.0},
    "integrated_gradients": {"steps": 4},
    "occlusion": {"window": 17, "stride": 17},
}


# -- parameter randomisation --------------------------------------------------------------


def test_layers_become_random_from_the_last_to_the_first():
    network = convolutional().network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    stages = list(cascade(network, 8, seed=1))
    assert [s.name for s in stages] == ["trained", "dense 2", "dense 1", "conv 1"]
    assert [s.number for s in stages] == [0, 1, 2, 3]
    for stage in stages:
        same = [
            torch.equal(value, before[name])
            for name, value in stage.network.state_dict().items()
            if name.endswith("weight")
        ]
        assert same == [i < 3 - stage.number for i in range(3)]
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    # The weights are random ones, and the same ones for a seed.
    again = list(cascade(network, 8, seed=1))[-1].network.state_dict()
    other = list(cascade(network, 8, seed=2))[-1].network.state_dict()
    last = stages[-1].network.state_dict()
    assert all(torch.equal(last[k], again[k]) for k in last)
    assert not torch.equal(last["layers.0.weight"], other["layers.0.weight"])
    assert last["layers.0.weight"].std() > 0 and not last["layers.0.bias"].any()


def test_what_the_caller_draws_between_stages_does_not_count():
    network = convolutional().network
    plain = [s.network.state_dict()["layers.0.weight"] for s in cascade(network, 8, 1)][-1]
    for stage in cascade(network, 8, 1):  # noqa: B007
        torch.rand(7)
    assert torch.equal(stage.network.state_dict()["layers.0.weight"], plain)


def test_deep_networks_take_a_few_steps():
    deep = nn.Sequential(
        *(m for _ in range(9) for m in (nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)))
    )
    stages = list(cascade(deep, 4, seed=0))
    assert [s.number for s in stages] == [0, 4, 9, 14, 18]
    assert stages[-1].name == "conv 1" and stages[1].name == "conv 8"


def test_maps_forget_what_was_learnt():
    explainer = convolutional()
    panels = explainer.panels(noise(4))
    methods = ("saliency", "integrated_gradients")
    known = {"saliency": explainer.attribute(panels)}
    rows = randomisation(explainer, panels, methods, 8, seed=5, trained=known)
    assert len(rows) == 2 * 5 * 4  # methods; another stamp, trained, three layers; stamps
    trained = rows[rows["stage"] == 0]
    np.testing.assert_allclose(trained[["spearman", "ssim"]], 1)
    changed = rows[rows["stage"] > 0]
    assert (changed["spearman"] < 0.999).all() and (changed["ssim"] < 0.999).all()
    curves, layers, floors = likeness_curves(rows, 100, 0.95, 0)
    assert layers == ["trained", "dense 2", "dense 1", "conv 1"]
    mean, low, high = curves["Spearman"]["saliency"]
    assert mean[0] == 1 and (low <= mean).all() and (mean <= high).all()
    others = rows[(rows["stage"] == -1) & (rows["method"] == "saliency")]
    assert floors["SSIM"]["saliency"] == pytest.approx(others["ssim"].mean())
    table = likeness_table(rows, 100, 0.95, 0)
    assert len(table) == 2 * 4 and "trained" not in str(table["compared with"].tolist())


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_rank_correlation_is_scipys_of_the_absolute_values(seed, ties):
    a, b = np.random.default_rng(seed).normal(0, 1, (2, 3, 2, 5, 5))
    if ties:
        a, b = a.round(), b.round()
    found = rank_correlation(a, b)
    for one in range(3):
        expected = spearmanr(np.abs(a[one]).ravel(), np.abs(b[one]).ravel()).statistic
        assert found[one] == pytest.approx(expected)


def test_likeness_of_maps_that_say_nothing_is_unknown():
    maps = np.abs(noise(2)).astype(float)
    nothing = maps.copy()
    nothing[0] = 0
    assert np.isnan(rank_correlation(maps, nothing)).tolist() == [True, False]
    found = structural_similarity(maps, nothing)
    assert np.isnan(found).tolist() == [True, False] and found[1] == pytest.approx(1)
    # Brightness does not count, for maps have no unit.
    np.testing.assert_allclose(structural_similarity(maps, 40 * maps), 1)


# -- deletion and insertion ---------------------------------------------------------------


def test_the_pixel_that_decides_is_taken_first():
    by_panel = torch.zeros(2, 3, 51, 51)
    by_panel[0, 2, 10, 30] = 2.0
    explainer = linear(by_panel)
    stamps = noise(3)
    stamps[:, 2, 10, 30] = 5.0
    panels = explainer.panels(stamps)
    maps = {"saliency": explainer.attribute(panels)}
    curves = deletion_curves(explainer, panels, maps, 6, seed=0)
    assert len(curves) == 2 * 2 * 6 * 3 and (curves["called"] == "real").all()
    table = curves.pivot_table("score", ["kind", "method"], "fraction")
    p = explainer.probabilities(panels)[:, 0].mean().item()
    empty = (
        explainer.probabilities(explainer.baseline(panels).expand_as(panels))[:, 0].mean().item()
    )
    deletion, insertion = (
        table.loc[kind, "saliency"].to_numpy() for kind in ("deletion", "insertion")
    )
    np.testing.assert_allclose(deletion, [p, *[empty] * 5], rtol=1e-6)
    np.testing.assert_allclose(insertion, [empty, *[p] * 5], rtol=1e-6)
    areas = curve_areas(curves)
    assert (areas["area"].between(0, 1)).all() and len(areas) == 2 * 2 * 3
    summary = area_table(areas, 200).set_index(["curve", "method"])
    assert summary.loc[("deletion", "saliency"), "minus random, high"] <= 0
    assert summary.loc[("insertion", "saliency"), "minus random"] > 0
    assert np.isnan(summary.loc[("deletion", RANDOM), "minus random"])


def test_pixels_that_speak_against_the_call_come_last():
    by_panel = torch.zeros(2, 3, 51, 51)
    by_panel[0, 0, 0, 0], by_panel[0, 0, 0, 1] = 1.0, -3.0
    explainer = linear(by_panel)
    stamps = np.zeros((1, 3, 51, 51), dtype=np.float32)
    stamps[0, 0, 0, :2] = 5.0, 1.0
    panels = explainer.panels(stamps)
    maps = {"ig": explainer.attribute(panels, "integrated_gradients")}
    curves = deletion_curves(explainer, panels, maps, 5, seed=0)
    part = curves[(curves["method"] == "ig") & (curves["kind"] == "deletion")]
    score = part.sort_values("fraction")["score"].to_numpy()
    assert score[1] == score[2] == score[3] < score[4] < score[0]


def test_fractions_run_from_nothing_to_everything():
    at = fractions(21)
    assert at[0] == 0 and at[-1] == 1 and (np.diff(np.diff(at)) > 0).all()


# -- choices, tables, settings ------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), max_size=40), st.integers(0, 50), st.integers(0, 9))
def test_half_of_the_candidates_are_called_real_where_there_are_enough(called, n, seed):
    called_real = np.array(called, dtype=bool)
    chosen = balanced(called_real, n, seed)
    assert len(set(chosen.tolist())) == len(chosen) == min(n, len(called))
    real = int(called_real[chosen].sum())
    bogus = len(chosen) - real
    assert abs(real - bogus) <= 1 or real == called_real.sum() or bogus == (~called_real).sum()


def test_runs_show_the_same_candidates_where_they_agree():
    first = np.array(["TP", "TN"] * 30)
    second = first.copy()
    second[[0, 1]] = "FN", "FP"
    wanted = {"TN": 3, "TP": 3, "FN": 2}
    a, b = pick(first, wanted, seed=4), pick(second, wanted, seed=4)
    assert first[a].tolist() == ["TN"] * 3 + ["TP"] * 3
    assert len(set(a) & set(b)) >= 5 and 0 in b and len(b) == 7


def test_winners_are_counted_by_quadrant_beside_what_was_published():
    table = pd.DataFrame(
        {
            "quadrant": ["TP"] * 4 + ["TN", "called bogus"],
            "I_diff": [0.6, 0.4, 0.2, np.nan, 0.1, 0.5],
            "I_srch": [0.2, 0.35, 0.2, np.nan, 0.8, 0.3],
            "I_tmpl": [0.2, 0.25, 0.6, np.nan, 0.1, 0.2],
            "winner": ["diff", "diff", "tmpl", None, "srch", "diff"],
        }
    )
    channels = ("diff", "srch", "tmpl")
    found = winner_table(table, channels, winner_percents("dia")).set_index(["quadrant", "panel"])
    tp = found.loc["TP"]
    assert tp["stamps"].tolist() == [3, 3, 3] and tp["wins"].tolist() == [2, 0, 1]
    assert tp["above"].tolist() == [2, 1, 1]  # one stamp exceeds a third in two panels
    assert tp["win %"].tolist() == [66.7, 0, 33.3]
    assert (tp["low"] <= tp["win %"]).all() and (tp["win %"] <= tp["high"]).all()
    assert tp["paper, Fig. 10 %"].tolist() == [80, 18, 1]
    assert tp["public checkpoint %"].tolist() == [90.2, 8.9, 0.9]
    assert found.loc[("called bogus", "diff"), "wins"] == 1
    assert found.loc["called bogus"]["paper, Fig. 10 %"].isna().all()
    assert win_counts(table, channels)["FN"] == {"diff": 0, "srch": 0, "tmpl": 0}
    assert "paper, Fig. 10 %" not in winner_table(table, channels)


def test_published_numbers_are_consistent():
    totals = {
        kind: {q: sum(panels.values()) for q, panels in quadrants.items()}
        for kind, quadrants in WINNER_COUNTS.items()
    }
    assert totals["dia"] == {"TP": 9564, "FN": 514, "FP": 306, "TN": 9616}
    assert totals["nodia"] == {"TP": 9163, "FN": 915, "FP": 775, "TN": 9147}
    for quadrants in WINNER_PERCENT.values():
        assert all(99 <= sum(panels.values()) <= 101 for panels in quadrants.values())


def test_bootstrap_of_a_mean_covers_it():
    values = np.r_[np.random.default_rng(0).normal(3, 1, 400), np.nan]
    found = bootstrap_mean(values, 2000)
    assert found.value == pytest.approx(np.nanmean(values))
    assert found.half_width == pytest.approx(1.96 / 20, rel=0.15)
    assert not bootstrap_mean(np.array([np.nan])).defined


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": "margin"}, "study.score is 'margin'; choose softmax or logit"),
        ({"methods": ["gradcam"]}, "study.methods is 'gradcam'; choose saliency or"),
        ({"n_shares": 0}, "study.n_shares is 0; give a whole number of at least 1"),
        ({"baseline": "noise"}, "study.baseline is 'noise'"),
        ({"smoothgrad": {"samples": 4, "noise": 0}}, "study.smoothgrad.noise is 0"),
        ({"occlusion": {"window": 0, "stride": 5}}, "study.occlusion.window is 0"),
        ({"occlusion": {"window": 3, "stride": 5}}, "wider than the window"),
        ({"bootstrap": True}, "study.bootstrap is True"),
    ],
)
def test_settings_that_cannot_work_are_one_line(change, message):
    with pytest.raises(UserError, match="^study") as error:
        read_settings(STUDY | change)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_an_occluding_square_larger_than_a_stamp():
    with pytest.raises(UserError, match="^study.*is 60; give a whole number from 1 to 51"):
        linear(occlusion_window=60)


def test_a_single_method_needs_no_list():
    assert read_settings(STUDY | {"methods": "occlusion"}).methods == ("occlusion",)
    assert read_settings(STUDY | {"methods": None}).methods == ()
