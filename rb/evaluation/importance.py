"""What a forest would lose without a feature: permutation importance on held-out candidates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

Predict = Callable[[pd.DataFrame], np.ndarray]

CORRELATED = 0.7
"""Features whose rank correlations are on average at least this strong form a group."""

_MOST_ROWS = 20_000  # rank correlations of more rows are no better


class Permutation:
    """Gathers the losses of shuffled features over the folds of a cross-validation.

    A feature's values are shuffled among the held-out candidates; its importance is what AUC and
    accuracy lose (Breiman 2001, Machine Learning 45, 5). Features that say the same cover for
    each other: shuffling one leaves the other to the forest. So the members of each group of
    correlated features are also shuffled together.

    Parameters
    ----------
    frame
        Features of all candidates, for the correlations.
    repeats
        Shuffles of each feature in each fold.
    seed
        Of the shuffles.
    """

    def __init__(self, frame: pd.DataFrame, repeats: int, seed: int) -> None:
        self.repeats = repeats
        self.groups = correlated_groups(frame)
        self._rng = np.random.default_rng(seed)
        self._sets = [(name,) for name in frame] + self.groups
        self._losses: dict[tuple[str, ...], list[tuple[float, float]]] = {s: [] for s in self._sets}

    def add(self, predict: Predict, frame: pd.DataFrame, labels: np.ndarray) -> None:
        """Shuffle the features of one fold's held-out candidates."""
        base = _auc_and_accuracy(labels, predict(frame))
        frame = frame.copy()
        for names in self._sets:
            columns = list(names)
            original = frame[columns].to_numpy(copy=True)
            for _ in range(self.repeats):
                # A group is shuffled row by row, so that its members stay consistent.
                frame[columns] = original[self._rng.permutation(len(original))]
                found = _auc_and_accuracy(labels, predict(frame))
                self._losses[names].append((base[0] - found[0], base[1] - found[1]))
            frame[columns] = original

    def table(self) -> pd.DataFrame:
        """Importance of every feature, most important first.

        Returns
        -------
        pandas.DataFrame
            `feature`; `auc_loss`, `accuracy_loss` (means over folds and repeats) with
            `_error` (standard error; folds share training rows, so it is somewhat too small)
            and `_spread` (standard deviation); `group` (the features that it is correlated
            with and itself, empty if none) and `group_auc_loss`, `group_auc_loss_spread`,
            the same where the whole group is shuffled.
        """
        of = {name: group for group in self.groups for name in group}
        rows = []
        for names in self._sets:
            if len(names) > 1:
                continue
            row: dict[str, float | str] = {"feature": names[0], **self._summary(names)}
            group = of.get(names[0], names)
            whole = self._summary(group)
            row["group"] = ", ".join(group) if len(group) > 1 else ""
            row["group_auc_loss"] = whole["auc_loss"]
            row["group_auc_loss_spread"] = whole["auc_loss_spread"]
            rows.append(row)
        return pd.DataFrame(rows).sort_values("auc_loss", ascending=False, ignore_index=True)

    def _summary(self, names: tuple[str, ...]) -> dict[str, float]:
        values = np.array(self._losses[names])
        mean = values.mean(axis=0)
        spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.full(2, np.nan)
        result = {}
        for i, key in enumerate(("auc_loss", "accuracy_loss")):
            result[key] = float(mean[i])
            result[f"{key}_error"] = float(spread[i] / np.sqrt(len(values)))
            result[f"{key}_spread"] = float(spread[i])
        return result


def correlated_groups(frame: pd.DataFrame, limit: float = CORRELATED) -> list[tuple[str, ...]]:
    """Groups of at least two features that say nearly the same.

    Parameters
    ----------
    frame
        Features, one column each; missing values are left out pair by pair.
    limit
        Least mean absolute rank correlation (Spearman) between the members of merged groups.

    Returns
    -------
    list of tuple of str
        By average linkage; members in the order of the columns.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if frame.shape[1] < 2:
        return []
    if len(frame) > _MOST_ROWS:
        frame = frame.iloc[:: -(-len(frame) // _MOST_ROWS)]
    strength = frame.corr(method="spearman", min_periods=10).abs().fillna(0).to_numpy(copy=True)
    np.fill_diagonal(strength, 1)
    tree = linkage(squareform(1 - strength, checks=False), "average")
    number = fcluster(tree, 1 - limit, "distance")
    names = np.array(frame.columns)
    groups = [tuple(names[number == k].tolist()) for k in np.unique(number)]
    return [group for group in groups if len(group) > 1]


def _auc_and_accuracy(labels: np.ndarray, p_real: np.ndarray) -> tuple[float, float]:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels == 0, p_real)), float(((p_real < 0.5) == labels).mean())
