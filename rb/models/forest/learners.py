"""The autoscan classifier: trees on the survey's 38 features.

Goldstein et al. 2015 (arXiv 1504.02936) tell real from bogus with a random forest of 100 trees on
features of the images, what the networks are compared with. Beside it stands what scikit-learn
offers best for tables, gradient boosting on histograms. Missing values (no reference source) are
not filled in: both learners choose a side for them at every split.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from rb.errors import UserError
from rb.features.columns import ALL_38
from rb.features.derived import with_derived
from rb.features.table import FeatureTable

# Trees compare in single precision, and so does what scikit-learn accepts.
_LARGEST = 1e38


@dataclass(frozen=True)
class Learner:
    """A way to learn from a feature table.

    Parameters
    ----------
    choices
        Builders of a scikit-learn classifier from a seed and a number of processes. Where there
        is more than one, the training rows choose: the best AUC in three folds among them.
    members
        How many are trained, with different seeds, and averaged.
    derived
        Whether they also see `rb.features.derived`.
    help
        One line for a person who chooses.
    """

    choices: tuple[Callable[[int, int | None], Any], ...]
    members: int
    derived: bool
    help: str


def _forest(seed: int, jobs: int | None) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(n_estimators=100, random_state=seed, n_jobs=jobs)


def _boosting(seed: int, jobs: int | None, **settings: Any) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(random_state=seed, **settings)


# Many small steps with trees of few leaves, each seeing a third of the features.
_SLOW: dict[str, Any] = {
    "max_iter": 700,
    "learning_rate": 0.08,
    "l2_regularization": 5.0,
    "max_features": 0.3,
    "early_stopping": False,
}

LEARNERS = {
    "forest": Learner((_forest,), 1, False, "random forest of 100 trees, as in Goldstein et al."),
    "boosting": Learner(
        (_boosting,), 1, False, "histogram gradient boosting, scikit-learn's defaults"
    ),
    "boosting_tuned": Learner(
        (
            partial(_boosting, **_SLOW, max_leaf_nodes=8, min_samples_leaf=10),
            partial(_boosting, **_SLOW, max_leaf_nodes=12, min_samples_leaf=30),
            partial(_boosting, **_SLOW, max_leaf_nodes=24, min_samples_leaf=30),
        ),
        3,
        True,
        "mean of 3 gradient boostings on features and combinations of them, size of trees chosen",
    ),
}
"""The learners by name."""


class AutoscanForest:
    """Real/bogus classifier on autoscan features.

    Parameters
    ----------
    learner
        One of `LEARNERS`.
    features
        The features that it sees, in any order.
    seed
        Seed of the first member; the next ones count on.
    jobs
        Processes for learners that can use several; None for one.

    Attributes
    ----------
    trained_on : str or None
        Digest of the table that it was trained on.

    Raises
    ------
    UserError
        Where there is no such learner.
    """

    def __init__(
        self,
        learner: str = "forest",
        features: Sequence[str] = ALL_38,
        seed: int = 0,
        jobs: int | None = None,
    ) -> None:
        if learner not in LEARNERS:
            raise UserError(f"no learner {learner!r}; there are {', '.join(LEARNERS)}")
        if not features:
            raise UserError("a forest without features cannot learn; name some")
        self.learner = learner
        self.features = tuple(features)
        self.seed = seed
        self.jobs = jobs
        self.trained_on: str | None = None
        self.members: list[Any] = []

    def fit(self, table: FeatureTable) -> AutoscanForest:
        """Train on the labelled rows of a table.

        Returns
        -------
        AutoscanForest
            Itself.

        Raises
        ------
        UserError
            Where a feature is missing, or one of the classes.
        """
        table = table.labelled()
        for label, name in ((0, "real"), (1, "bogus")):
            if not (table.labels == label).any():
                raise UserError(f"{table.source}: no {name} candidate to learn from")
        spec = LEARNERS[self.learner]
        values = self.matrix(table)
        make = _choose(spec, values, table.labels, self.seed, self.jobs)
        self.members = [
            make(self.seed + i, self.jobs).fit(values, table.labels) for i in range(spec.members)
        ]
        self.trained_on = table.digest
        return self

    def predict(self, table: FeatureTable | pd.DataFrame) -> np.ndarray:
        """Score candidates.

        Parameters
        ----------
        table
            A feature table, or a frame with a column for each of `features`, such as
            `rb.features.autoscan.compute` returns.

        Returns
        -------
        numpy.ndarray
            (N,) probability of being real: the probability of class 0, mean over the members.
        """
        if not self.members:
            raise UserError("this autoscan forest is not trained yet; fit it on a feature table")
        values = self.matrix(table)
        if not len(values):
            return np.empty(0)
        scores = [m.predict_proba(values)[:, list(m.classes_).index(0)] for m in self.members]
        return np.mean(scores, axis=0)

    def matrix(self, table: FeatureTable | pd.DataFrame) -> np.ndarray:
        """Return the values that the members see, (N, columns)."""
        frame = table.features if isinstance(table, FeatureTable) else table
        source = table.source if isinstance(table, FeatureTable) else "features"
        missing = [name for name in self.features if name not in frame]
        if missing:
            raise UserError(f"{source}: no feature {', '.join(missing)}, which the forest needs")
        chosen = frame[list(self.features)].astype(np.float64)
        if LEARNERS[self.learner].derived:
            chosen = with_derived(chosen)
        return chosen.to_numpy().clip(-_LARGEST, _LARGEST)

    @property
    def n_nodes(self) -> int:
        """Number of nodes of all trees of all members."""
        return sum(_nodes(member) for member in self.members)


def _nodes(member: Any) -> int:
    if hasattr(member, "estimators_"):
        return sum(tree.tree_.node_count for tree in member.estimators_)
    return sum(len(tree.nodes) for iteration in member._predictors for tree in iteration)


def _choose(
    spec: Learner, values: np.ndarray, labels: np.ndarray, seed: int, jobs: int | None
) -> Callable[[int, int | None], Any]:
    """Pick among a learner's settings by the rows that it is trained on, and no others."""
    if len(spec.choices) == 1:
        return spec.choices[0]
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    folds = StratifiedKFold(3, shuffle=True, random_state=seed)
    scores = [
        cross_val_score(make(seed, jobs), values, labels, cv=folds, scoring="roc_auc").mean()
        for make in spec.choices
    ]
    return spec.choices[int(np.argmax(scores))]
