from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from results_factory import scores
from sklearn import metrics as reference

from rb.errors import UserError
from rb.metrics import Estimate, confusion, evaluate_scores, roc
from rb.metrics.auc import auc, auc_difference
from rb.metrics.classification import RATES, threshold_at_fpr


def from_counts(tp: int, fn: int, fp: int, tn: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores with exactly this confusion matrix at .5."""
    labels = np.repeat([0, 0, 1, 1], [tp, fn, fp, tn])
    return labels, np.repeat([0.9, 0.2, 0.8, 0.1], [tp, fn, fp, tn])


@pytest.mark.parametrize(
    ("counts", "accuracy", "tpr", "tnr"),
    [
        # The paper's Figure 5, left: 9571 of 10078 real, 97 % of 9922 bogus, accuracy .961.
        ((9571, 507, 270, 9652), 0.961, 0.95, 0.97),
        # The two public checkpoints.
        ((9564, 514, 306, 9616), 0.9590, 0.95, 0.97),
        ((9163, 915, 775, 9147), 0.9155, 0.91, 0.92),
    ],
)
def test_published_confusion_matrices(counts, accuracy, tpr, tnr):
    labels, p_real = from_counts(*counts)
    matrix = confusion(labels, p_real)
    assert matrix.array.tolist() == [list(counts[:2]), list(counts[2:])]
    assert (matrix.n_real, matrix.n_bogus) == (10_078, 9_922)
    result = evaluate_scores(labels, p_real)
    assert result["accuracy"].value == pytest.approx(accuracy, abs=5e-4)
    assert round(result["tpr"].value, 2) == tpr
    assert round(result["tnr"].value, 2) == tnr
    assert result["precision"].value == counts[0] / (counts[0] + counts[2])
    expected = (counts[0] / 10_078 + counts[3] / 9_922) / 2
    assert result["balanced_accuracy"].value == pytest.approx(expected)
    # The paper's own errors, .004 and .005, are of this size.
    assert 0.002 < result["accuracy"].half_width < 0.005


def test_wilson_interval_by_hand():
    labels, p_real = from_counts(8, 2, 0, 10)
    tpr = evaluate_scores(labels, p_real)["tpr"]
    z, p, n = 1.959964, 0.8, 10
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert (tpr.low, tpr.high) == pytest.approx((centre - half, centre + half), abs=1e-6)


def test_agrees_with_scikit_learn():
    labels, p_real = scores(3000, 1.5)
    p_real = np.round(p_real, 2)  # many ties
    is_real = labels == 0
    result = evaluate_scores(labels, p_real)
    assert result["auc"].value == pytest.approx(reference.roc_auc_score(is_real, p_real))
    assert result["brier"].value == pytest.approx(reference.brier_score_loss(is_real, p_real))
    matrix = confusion(labels, p_real, 0.3)
    curve = roc(labels, p_real, 0.3)
    assert curve.tpr[curve.chosen] == matrix.tp / matrix.n_real
    assert curve.fpr[curve.chosen] == matrix.fp / matrix.n_bogus
    fpr, tpr, _ = reference.roc_curve(is_real, p_real, drop_intermediate=False)
    ours = roc(labels, p_real)
    # The points we drop lie on the lines between those we keep.
    line = np.interp(fpr, ours.fpr, ours.tpr)
    vertical = np.isin(fpr, ours.fpr)
    np.testing.assert_allclose(line[~vertical], tpr[~vertical], atol=1e-12)
    assert set(zip(ours.fpr, ours.tpr, strict=True)) <= set(zip(fpr, tpr, strict=True))
    area = np.trapezoid(ours.tpr, ours.fpr)
    assert area == pytest.approx(result["auc"].value, abs=1e-12)
    clipped = np.clip(p_real, 1e-7, 1 - 1e-7)
    assert result["log_loss"].value == pytest.approx(reference.log_loss(is_real, clipped))


def test_delong_against_the_definition():
    rng = np.random.default_rng(3)
    is_real = rng.random(60) < 0.4
    first = np.round(rng.normal(is_real, 1), 1)
    second = np.round(rng.normal(0.5 * is_real, 1), 1)

    def kernel(p: np.ndarray) -> np.ndarray:
        real, bogus = p[is_real][:, None], p[~is_real][None, :]
        return (real > bogus) + 0.5 * (real == bogus)

    k1, k2 = kernel(first), kernel(second)
    m, n = k1.shape
    covariance = np.cov(k1.mean(1), k2.mean(1)) / m + np.cov(k1.mean(0), k2.mean(0)) / n
    difference, p_value = auc_difference(is_real, first, second)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert difference.value == pytest.approx(k1.mean() - k2.mean())
    assert difference.half_width == pytest.approx(1.959964 * math.sqrt(variance), rel=1e-6)
    assert p_value == pytest.approx(math.erfc(abs(difference.value) / math.sqrt(2 * variance)))
    single = auc(is_real, first)
    centre = math.log(single.value / (1 - single.value))
    half = 1.959964 * math.sqrt(covariance[0, 0]) / (single.value * (1 - single.value))
    assert single.low == pytest.approx(1 / (1 + math.exp(half - centre)), rel=1e-6)


def test_equal_scores_differ_by_nothing():
    labels, p_real = scores(500, 1.0)
    assert auc_difference(labels == 0, p_real, p_real) == (Estimate(0, 0, 0), 1.0)


def test_fixed_rates_by_hand():
    # 20 bogus at 0.00 ... 0.95, 10 real at 0.05 ... 0.95 + a hair.
    bogus = np.arange(20) * 0.05
    real = np.arange(10) * 0.1 + 0.051
    labels = np.repeat([1, 0], [20, 10])
    p_real = np.concatenate([bogus, real])
    result = evaluate_scores(labels, p_real)
    # FPR .05 allows one of 20 (0.95); the cut is at 0.90, and 0.951 alone lies above it.
    assert result["mdr_at_fpr_0.05"].value == 0.9
    # FPR .01 allows none: the cut is at 0.95, the real one at 0.951 passes.
    assert result["mdr_at_fpr_0.01"].value == 0.9
    # FPR .1 allows two: the cut is at 0.85, 0.851 and 0.951 pass.
    assert result["mdr_at_fpr_0.1"].value == 0.8
    # MDR .1 allows one of 10 real (0.051); the next is 0.151: bogus from 0.20 on, 16 of 20.
    assert result["fpr_at_mdr_0.1"].value == 0.8
    # MDR .05 allows none: bogus from 0.10 on, 18 of 20.
    assert result["fpr_at_mdr_0.05"].value == 0.9


def test_threshold_at_fpr_is_the_lowest_that_keeps_the_rate():
    labels, p_real = scores(4000, 1.2)
    for rate in (0.0, *RATES, 1.0):
        threshold = threshold_at_fpr(labels, p_real, rate)
        bogus = p_real[labels == 1]
        assert (bogus >= threshold).mean() <= rate
        if threshold > 0:
            lower = bogus[bogus < threshold].max()
            assert (bogus >= lower).mean() > rate
    mdr = (p_real[labels == 0] < threshold_at_fpr(labels, p_real, 0.05)).mean()
    assert mdr == evaluate_scores(labels, p_real)["mdr_at_fpr_0.05"].value


def test_interval_of_fixed_rates_equals_a_plain_bootstrap():
    labels, p_real = scores(1500, 1.5)
    real, bogus = p_real[labels == 0], p_real[labels == 1]
    rng = np.random.default_rng(1)
    draws = []
    for _ in range(2000):
        some = np.sort(rng.choice(bogus, bogus.size))
        cut = some[bogus.size - 1 - int(0.05 * bogus.size)]
        draws.append((rng.choice(real, real.size) <= cut).mean())
    low, high = np.quantile(draws, [0.025, 0.975])
    ours = evaluate_scores(labels, p_real)["mdr_at_fpr_0.05"]
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.015)


def test_intervals_cover_the_truth():
    """95 % intervals hold the value of a huge set in about 95 % of small sets."""
    truth = {key: e.value for key, e in evaluate_scores(*scores(400_000, 1.5)).items()}
    hits = dict.fromkeys(truth, 0)
    for seed in range(1, 201):
        for key, estimate in evaluate_scores(*scores(400, 1.5, seed)).items():
            hits[key] += estimate.low <= truth[key] <= estimate.high
    del hits["ece"]  # the error itself depends on the number of stamps
    assert {key: count for key, count in hits.items() if count < 178} == {}


def test_calibration_error():
    rng = np.random.default_rng(0)
    p_real = rng.random(40_000)
    labels = np.where(rng.random(40_000) < p_real, 0, 1)
    honest = evaluate_scores(labels, p_real)["ece"]
    assert honest.value < 0.02
    always_sure = evaluate_scores(labels, (p_real > 0.5).astype(float))["ece"]
    assert always_sure.value == pytest.approx(0.25, abs=0.01)
    assert always_sure.low < always_sure.value < always_sure.high


def test_unknown_labels_are_left_out():
    labels, p_real = scores(300, 1.0)
    more = np.concatenate([labels, np.full(50, -1)])
    assert evaluate_scores(more, np.concatenate([p_real, np.full(50, 0.3)])) == evaluate_scores(
        labels, p_real
    )


@pytest.mark.parametrize(
    ("labels", "defined", "undefined"),
    [
        ([0, 0, 0], {"accuracy", "tpr", "brier"}, {"tnr", "auc", "mdr_at_fpr_0.05"}),
        ([1, 1, 1], {"accuracy", "tnr", "brier"}, {"tpr", "auc", "fpr_at_mdr_0.1"}),
        ([-1, -1, -1], set(), {"accuracy", "tpr", "tnr", "auc", "ece", "log_loss"}),
    ],
)
def test_a_missing_class_is_nan_not_a_crash(labels, defined, undefined):
    result = evaluate_scores(np.array(labels), np.array([0.9, 0.6, 0.2]))
    assert all(result[key].defined for key in defined)
    for key in undefined:
        assert all(math.isnan(v) for v in (result[key].value, result[key].low, result[key].high))
    curve = roc(np.array(labels), np.array([0.9, 0.6, 0.2]))
    assert np.isnan(curve.fpr).all() or np.isnan(curve.tpr).all()


def test_nothing_called_real_has_no_purity():
    labels, p_real = from_counts(0, 5, 0, 5)
    assert not evaluate_scores(labels, p_real)["precision"].defined


def test_perfect_separation_keeps_a_width():
    result = evaluate_scores(*from_counts(40, 0, 0, 60))
    for key in ("accuracy", "tpr", "auc"):
        assert result[key].value == result[key].high == 1
        assert 0.85 < result[key].low < 1
    assert result["mdr_at_fpr_0.05"].value == 0
    assert 0 < result["mdr_at_fpr_0.05"].high < 0.2


def test_boundary_belongs_to_real():
    matrix = confusion(np.array([0, 1]), np.array([0.5, np.nextafter(0.5, 0)]))
    assert (matrix.tp, matrix.tn) == (1, 1)


@pytest.mark.parametrize(
    ("labels", "p_real", "message"),
    [
        ([0, 1], [0.5, math.nan], "1 of 2 scores"),
        ([0, 1], [0.5, 1.2], "outside 0 to 1"),
        ([0, 2], [0.5, 0.5], "label"),
    ],
)
def test_bad_scores_and_labels_are_refused(labels, p_real, message):
    with pytest.raises(UserError, match=message):
        evaluate_scores(np.array(labels), np.array(p_real))


@given(
    st.lists(st.tuples(st.sampled_from([0, 1, -1]), st.integers(0, 20)), min_size=1, max_size=60),
    st.floats(0, 1),
)
@settings(max_examples=150, deadline=None)
def test_properties(rows, threshold):
    labels = np.array([label for label, _ in rows])
    p_real = np.array([score for _, score in rows]) / 20
    result = evaluate_scores(labels, p_real, threshold)
    for name, estimate in result.items():
        if estimate.defined:
            assert estimate.low <= estimate.value <= estimate.high, name
            assert estimate.low >= 0, name
            assert name == "log_loss" or estimate.value <= 1
    matrix = confusion(labels, p_real, threshold)
    assert matrix.n == (labels >= 0).sum()
    curve = roc(labels, p_real)
    for rate in (curve.fpr, curve.tpr):
        assert np.isnan(rate).all() or ((np.diff(rate) >= 0).all() and rate[0] == 0)
    # Each point is what its threshold gives.
    for fpr, tpr, cut in zip(curve.fpr, curve.tpr, curve.threshold, strict=True):
        called = p_real >= cut
        assert np.isnan(tpr) or tpr == pytest.approx(called[labels == 0].mean())
        assert np.isnan(fpr) or fpr == pytest.approx(called[labels == 1].mean())


def test_same_scores_same_intervals_and_fast():
    labels, p_real = scores(20_000, 1.5)
    first = evaluate_scores(labels, p_real)
    start = time.process_time()
    assert evaluate_scores(labels, p_real) == first
    assert time.process_time() - start < 1
