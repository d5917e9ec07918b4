"""What a forest loses without a feature, alone and with those that say the same."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rb.evaluation.importance import Permutation, correlated_groups
from rb.figures.classification.importance import importance_figure


def frame(n: int = 600) -> tuple[pd.DataFrame, np.ndarray]:
    """`a` and `twin` say the same; `alone` says something else; `noise` nothing."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    a = rng.normal(0, 1, n) - 2 * labels
    made = {"a": a, "noise": rng.normal(0, 1, n), "twin": np.exp(a), "alone": rng.normal(0, 1, n)}
    made["alone"] -= labels
    return pd.DataFrame(made), labels


def predict(features: pd.DataFrame) -> np.ndarray:
    """A judge that leans on whichever twin says more, and a little on `alone`."""
    strength = np.maximum(features["a"], np.log(features["twin"])) + 0.5 * features["alone"]
    return 1 / (1 + np.exp(-strength - 1))


def test_groups_are_found_by_rank():
    features, _ = frame()
    features.loc[::5, "twin"] = np.nan
    assert correlated_groups(features) == [("a", "twin")]
    assert correlated_groups(features[["a"]]) == []
    assert correlated_groups(features.assign(constant=1.0)[["noise", "constant"]]) == []


def test_twins_cover_for_each_other_until_they_are_shuffled_together():
    features, labels = frame()
    permutation = Permutation(features, repeats=4, seed=1)
    for half in (slice(0, 300), slice(300, 600)):
        permutation.add(predict, features.iloc[half].reset_index(drop=True), labels[half])
    table = permutation.table().set_index("feature")
    assert table.loc["noise", "auc_loss"] == 0
    for twin in ("a", "twin"):
        assert table.loc[twin, "group"] == "a, twin"
        assert table.loc[twin, "group_auc_loss"] > 1.5 * table.loc[twin, "auc_loss"] > 0
    alone = table.loc["alone"]
    assert alone["group"] == ""
    assert alone["group_auc_loss"] == alone["auc_loss"] > 0
    assert alone["auc_loss_spread"] == np.sqrt(8) * alone["auc_loss_error"]


def test_the_picture_names_features_and_groups():
    features, labels = frame()
    permutation = Permutation(features, 2, 0)
    permutation.add(predict, features, labels)
    axes = importance_figure(permutation.table()).axes[0]
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert sorted(names) == ["a (a)", "alone", "noise", "twin (a)"]
    low, high = axes.get_xlim()
    assert low < 0 < permutation.table()["group_auc_loss"].max() < high
