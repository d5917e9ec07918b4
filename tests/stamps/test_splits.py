"""Splits: disjoint, complete, reproducible, balanced, and grouped without leaks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rb.errors import UserError
from rb.stamps.splits import SUBSETS, make_split


def population(n: int, seed: int, real: float = 0.5, groups: int = 40):
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(n) < real, 0, 1)
    labels[:4] = [0, 1, 0, 1]
    labels[rng.random(n) < 0.05] = -1
    return labels, rng.integers(0, groups, n).astype(str)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(200, 800),
    seed=st.integers(0, 1000),
    by=st.sampled_from(["random", "group"]),
    balanced=st.booleans(),
)
def test_subsets_are_disjoint_known_and_reproducible(n, seed, by, balanced):
    labels, groups = population(n, seed, real=0.4)
    settings_ = dict(by=by, seed=seed, val=0.2, test=0.2, balanced=balanced)
    split = make_split(labels, groups, **settings_)
    rows = np.concatenate([split[s] for s in SUBSETS])
    assert len(np.unique(rows)) == len(rows)
    assert (labels[rows] >= 0).all()
    if not balanced:
        assert len(rows) == np.sum(labels >= 0)
    again = make_split(labels, groups, **settings_)
    assert split.digest(np.arange(n)) == again.digest(np.arange(n))
    if by == "group":
        parts = [set(groups[split[s]]) for s in SUBSETS]
        assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])


def test_the_papers_sizes():
    labels = np.tile([0, 1], 70_000)
    split = make_split(labels, np.arange(140_000), train=80_000, val=20_000, test=20_000)
    assert [len(split[s]) for s in SUBSETS] == [80_000, 20_000, 20_000]


def test_balanced_subsets_have_equal_classes():
    labels = np.array([0] * 300 + [1] * 900)
    split = make_split(labels, np.arange(1200), val=0.2, test=0.2, balanced=True)
    for subset in SUBSETS:
        assert np.sum(labels[split[subset]] == 0) == np.sum(labels[split[subset]] == 1)
    assert sum(len(split[s]) for s in SUBSETS) == 600


def test_another_seed_gives_another_split():
    labels, groups = population(300, 0)
    digests = {make_split(labels, groups, seed=k).digest(np.arange(300)) for k in range(5)}
    assert len(digests) == 5


@pytest.mark.parametrize("by", ["random", "group"])
@pytest.mark.parametrize("folds", [2, 5, 6])
def test_folds_partition_the_set(folds, by):
    labels, groups = population(500, 3)
    tests = [
        make_split(labels, groups, by=by, val=0.1, folds=folds, fold=k).test for k in range(folds)
    ]
    together = np.concatenate(tests)
    assert sorted(together) == np.flatnonzero(labels >= 0).tolist()


def test_a_grouped_subset_is_in_random_order():
    labels, groups = population(600, 1)
    train = make_split(labels, groups, by="group").train
    changes = np.sum(groups[train][1:] != groups[train][:-1])
    assert changes > 0.8 * len(train)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"by": "sky"}, "split.by is 'sky'"),
        ({"val": 0.6, "test": 0.6}, "leave nothing to train on"),
        ({"train": 500}, "ask for .* candidates"),
        ({"train": 1.5}, "split.train is 1.5"),
        ({"val": -3}, "split.val is -3"),
        ({"folds": 3, "fold": 3}, "split.fold is 3 of split.folds 3"),
        ({"val": 1}, "split.val would hold 1 candidates of 1 class"),
    ],
)
def test_impossible_splits(arguments, message):
    labels = np.tile([0, 1], 100)
    with pytest.raises(UserError, match=message):
        make_split(labels, np.arange(200), **arguments)


def test_one_class_cannot_be_split():
    with pytest.raises(UserError, match="no candidate labelled bogus"):
        make_split(np.zeros(100, dtype=int), np.arange(100))
