"""Confident learning, against values by hand and against cleanlab."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rb.errors import UserError
from rb.labels.confident import confident_joint, margin


def noisy(n: int, seed: int, skill: float = 2.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of which some are flipped, p_real of a fair classifier, and which were flipped."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(n) < 0.45).astype(int)
    truth[:2] = 0, 1
    logit = rng.normal(np.where(truth == 0, skill, -skill), 1.5)
    flipped = rng.random(n) < 0.05
    flipped[:2] = False
    labels = np.where(flipped, 1 - truth, truth)
    return labels, 1 / (1 + np.exp(-logit)), flipped


def test_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 1])
    p_real = np.array([0.9, 0.8, 0.1, 0.2, 0.95, 0.35])
    joint = confident_joint(labels, p_real)
    # Means of p(label): (.9 + .8 + .1)/3 and (.8 + .05 + .65)/3.
    np.testing.assert_allclose(joint.thresholds, [0.6, 0.5])
    assert joint.counts.tolist() == [[2, 1], [1, 2]]
    assert joint.suspects.tolist() == [False, False, True, False, True, False]
    np.testing.assert_allclose(joint.noise(labels), [1 / 3, 1 / 3])
    np.testing.assert_allclose(margin(labels, p_real), [0.9, 0.8, 0.1, 0.8, 0.05, 0.65])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("skill", [0.3, 2.0])
def test_agrees_with_cleanlab(seed, skill):
    pytest.importorskip("cleanlab")
    from cleanlab.count import compute_confident_joint, get_confident_thresholds, num_label_issues
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    labels, p_real, _ = noisy(700, seed, skill)
    both = np.stack([p_real, 1 - p_real], 1)
    joint = confident_joint(labels, p_real)
    theirs = compute_confident_joint(labels, both, calibrate=False)
    np.testing.assert_array_equal(joint.counts, theirs)
    np.testing.assert_allclose(joint.thresholds, get_confident_thresholds(labels, both))
    # cleanlab's "low memory" rule apart, its off-diagonal set is ours.
    mask = find_label_issues(labels, both, filter_by="confident_learning")
    np.testing.assert_array_equal(joint.suspects, mask)
    assert joint.suspects.sum() == num_label_issues(labels, both, estimation_method="off_diagonal")
    for method in ("normalized_margin", "self_confidence"):
        scores = get_label_quality_scores(labels, both, method=method)
        np.testing.assert_allclose(margin(labels, p_real), scores, atol=1e-12)
    calibrated = compute_confident_joint(labels, both, calibrate=True)
    rates = (calibrated / calibrated.sum(1, keepdims=True))[[0, 1], [1, 0]]
    np.testing.assert_allclose(joint.noise(labels), rates, atol=0.01)  # theirs are whole numbers


def test_a_good_network_finds_flipped_labels():
    labels, p_real, flipped = noisy(4000, 1, skill=5.0)
    suspects = confident_joint(labels, p_real).suspects
    assert flipped[suspects].mean() > 0.9
    assert suspects[flipped].mean() > 0.9


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(4, 80), skill=st.floats(-3, 3))
def test_it_does_not_matter_which_class_is_called_real(seed, n, skill):
    labels, p_real, _ = noisy(n, seed, skill)
    one, other = confident_joint(labels, p_real), confident_joint(1 - labels, 1 - p_real)
    np.testing.assert_array_equal(one.suspects, other.suspects)
    np.testing.assert_array_equal(one.counts, other.counts[::-1, ::-1])
    assert one.counts.sum() <= n
    assert not np.any(one.suspects & (margin(labels, p_real) >= 0.5))


def test_one_class_is_not_enough():
    with pytest.raises(UserError, match="labelled bogus"):
        confident_joint(np.zeros(5, int), np.full(5, 0.5))
