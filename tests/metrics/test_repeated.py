"""Intervals that hold the scatter of trainings as well as of the test set."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from rb.metrics.classification import threshold_at_fpr
from rb.metrics.repeated import MEASURES, estimates, measure


def scores(rng, labels, trainings=3, quality=2.0, scatter=0.0):
    """Scores with errors that trainings share, and some that they do not."""
    shared = rng.normal(size=len(labels))
    own = rng.normal(size=(trainings, len(labels))) * scatter
    logit = quality * (0.5 - labels) * 2 + 1.5 * shared + own
    return 1 / (1 + np.exp(-logit))


def test_values_are_those_of_the_plain_formulas():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 4000)
    p = scores(rng, labels, 2, scatter=0.5)
    found = measure(labels, p, np.arange(4000), draws=2).values
    for row, one in zip(found, p, strict=True):
        at = dict(zip(MEASURES, row, strict=True))
        assert at["accuracy"] == pytest.approx(((one >= 0.5) == (labels == 0)).mean())
        assert at["auc"] == pytest.approx(roc_auc_score(labels == 0, one))
        for rate in (0.01, 0.05):
            missed = (one[labels == 0] < threshold_at_fpr(labels, one, rate)).mean()
            assert at[f"mdr_at_fpr_{rate}"] == pytest.approx(missed)
        order = np.argsort(-one)
        pure = [
            (labels[order[:n]] == 0).sum() / (labels == 0).sum()
            for n in range(1, 4001) if (labels[order[:n]] == 0).mean() >= 0.95
        ]  # fmt: skip
        assert at["completeness"] == pytest.approx(max(pure))


def test_the_interval_of_a_difference_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(2)
    hits = []
    for _ in range(120):
        labels = rng.integers(0, 2, 600)
        groups = np.repeat(np.arange(60), 10)
        noise = rng.normal(size=(2, 3, 1)) * 0.4  # how well a training turned out
        shared = rng.normal(size=600)
        p = [
            1 / (1 + np.exp(-((1.5 + n) * (0.5 - labels) * 2 + shared + rng.normal(size=(3, 600)))))
            for n in noise
        ]
        first, second = (measure(labels, one, groups, draws=60) for one in p)
        found = estimates(first, second)["accuracy"]
        hits.append(found.low <= 0 <= found.high)
    assert 0.88 <= np.mean(hits) <= 1


def test_scatter_of_trainings_widens_the_interval_and_one_training_has_none():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 2000)
    groups = np.arange(2000)
    same = measure(labels, np.repeat(scores(rng, labels, 1), 3, axis=0), groups)
    logit = (0.5 - labels) * np.array([[1.0], [3.0], [6.0]]) + rng.normal(size=2000)
    spread = measure(labels, 1 / (1 + np.exp(-logit)), groups)
    assert same.values.std(0).max() < 1e-12
    assert estimates(same)["accuracy"].half_width < estimates(spread)["accuracy"].half_width
    alone = estimates(measure(labels, scores(rng, labels, 1), groups))["accuracy"]
    binomial = 1.96 * (alone.value * (1 - alone.value) / 2000) ** 0.5
    assert alone.half_width == pytest.approx(binomial, rel=0.2)
    nothing = estimates(same, same)
    assert all([e.low, e.value, e.high] == pytest.approx([0] * 3) for e in nothing.values())


def test_unknown_labels_are_left_out_and_a_missing_class_is_undefined():
    labels = np.array([0, 1, -1, 0, 1])
    p = np.array([[0.9, 0.1, 0.5, 0.8, 0.2]])
    assert estimates(measure(labels, p, np.arange(5), draws=5))["accuracy"].value == 1
    only = estimates(measure(np.zeros(5, int), p, np.arange(5), draws=5))
    assert not only["auc"].defined
