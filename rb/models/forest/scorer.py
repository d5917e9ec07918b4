"""A trained feature forest as a thing to use, with the face of a trained network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from rb.errors import UserError
from rb.features.columns import ALL_38, FEATURES_FROM_STAMP
from rb.features.source import SETTINGS, choose, features_of
from rb.features.table import FeatureTable
from rb.models.forest.learners import LEARNERS, AutoscanForest
from rb.settings import Choice, Either, Items, OrNull, Rule, Whole, check
from rb.stamps import StampSet

SUFFIX = ".skops"
_SETTINGS_OF_MODEL = ("learner", "features", "columns", "folds", "repeats", "jobs")

RULES: dict[str, Rule] = {
    "learner": Choice(tuple(LEARNERS)),
    "features": Choice(SETTINGS),
    "columns": OrNull(Items(Choice(ALL_38), least=1, distinct=True)),
    "folds": OrNull(Either(Whole(2), Choice((0,)))),
    "repeats": OrNull(Whole(0)),
    "jobs": OrNull(Whole(1)),
}
"""What a ``model`` configuration with a ``learner`` may be."""


@dataclass(frozen=True)
class FeatureInputs:
    """What a forest is fed, where a network has an `InputSpec`.

    Parameters
    ----------
    features : str
        Where they come from, see :func:`rb.features.source.choose`.
    columns : sequence of str, optional
        Which ones; None for all that there are.
    """

    features: str = "auto"
    columns: tuple[str, ...] | None = None
    channels: tuple[str, ...] = field(default=(), init=False)
    stacking: str = field(default="none", init=False)
    kind: str = field(default="features", init=False)

    def check(self, channels: Sequence[str], where: str) -> None:
        """Raise UserError if a set with `channels` cannot give the features."""
        if self.features == "stamps" and not {"diff", "tmpl"} <= set(channels):
            raise UserError(
                f"{where}: features of stamps need diff and tmpl, the set has only "
                f"{', '.join(channels) or 'features'}; choose model.features=catalogue or "
                "other data"
            )


def feature_inputs(model: Mapping[str, Any]) -> FeatureInputs:
    """What a ``model`` configuration with a ``learner`` asks for.

    Raises
    ------
    UserError
        If one of its settings cannot work.
    """
    found = check(model, RULES, "model")
    return FeatureInputs(found["features"], found["columns"])


@dataclass(frozen=True)
class TrainedForest:
    """A forest with all that is needed to feed it: what `TrainedModel` is for a network.

    Attributes
    ----------
    forest : AutoscanForest
        Trained.
    threshold : float
        Candidates with p_real at or above it are called real.
    facts : dict
        Name, training set and its digest, ``features_from`` (catalogue or stamps).
    cache : path, optional
        Folder for features computed from stamps.
    """

    forest: AutoscanForest
    threshold: float
    facts: dict[str, Any]
    cache: Path | None = None

    @property
    def inputs(self) -> FeatureInputs:
        """What it is fed."""
        return FeatureInputs(self.features_from, self.forest.features)

    @property
    def features_from(self) -> str:
        """Where the features that it was trained on came from: ``catalogue`` or ``stamps``."""
        return str(self.facts["features_from"])

    @property
    def network(self) -> Any:
        """There is none; UserError for what only networks can do."""
        raise UserError(
            f"{self.facts.get('name', 'the forest')} is a forest on features, not a network; "
            "leave it out of runs"
        )

    @property
    def n_parameters(self) -> int:
        """Number of nodes of all trees; each holds a cut or a value."""
        return self.forest.n_nodes

    def source_for(self, stamp_set: StampSet) -> str:
        """Where a set gives the features: as in training if it can, else the other way.

        Raises
        ------
        UserError
            If the set gives them neither way.
        """
        other = {"catalogue": "stamps", "stamps": "catalogue"}[self.features_from]
        for source in (self.features_from, other):
            try:
                return choose(stamp_set, source, self.forest.features)[0]
            except UserError:
                continue
        there = set(stamp_set.column_names) | set(FEATURES_FROM_STAMP)
        missing = [name for name in self.forest.features if name not in there]
        raise UserError(
            f"{self.facts.get('name', 'forest')}: {stamp_set.path.name} does not give all of its "
            f"features ({', '.join(missing) or 'no table, and no stamps to compute them from'}); "
            "train one on those that stamps determine: model.features=stamps"
        )

    def features(
        self, stamp_set: StampSet, rows: np.ndarray, console: Console | None = None
    ) -> FeatureTable:
        """What it is fed of some candidates, (n,) row numbers."""
        source = self.source_for(stamp_set)
        return features_of(stamp_set, rows, self.forest.features, source, self.cache, console)

    def score(
        self,
        stamp_set: StampSet,
        rows: np.ndarray | None = None,
        console: Console | None = None,
    ) -> np.ndarray:
        """p_real of `rows` (all by default) of a set, float64 (n,)."""
        rows = np.arange(len(stamp_set)) if rows is None else np.asarray(rows)
        return self.forest.predict(self.features(stamp_set, rows, console))

    def p_real(self, stamps: np.ndarray) -> np.ndarray:
        """Probability of being real, (N,), of raw stamps (N, 3, 51, 51).

        Raises
        ------
        UserError
            If the stamps have another shape, or do not determine all of its features.
        """
        from rb.features.autoscan import compute

        missing = [name for name in self.forest.features if name not in FEATURES_FROM_STAMP]
        if missing:
            raise UserError(f"stamps alone do not determine {', '.join(missing)}")
        return self.forest.predict(compute(np.asarray(stamps)))

    def p_real_of_features(self, features: pd.DataFrame) -> np.ndarray:
        """Probability of being real, (N,), of rows with a column a feature."""
        return self.forest.predict(features)


def load_forest(path: str | Path, cache: Path | None = None) -> TrainedForest:
    """Load a forest that `train.py` wrote. Nothing in the file is executed.

    Raises
    ------
    UserError
        If the file is missing, damaged, or not such a forest.
    """
    forest = AutoscanForest.load(path)
    facts = forest.facts
    threshold = facts.get("threshold", 0.5)
    if facts.get("features_from", "catalogue") not in ("catalogue", "stamps") or not (
        isinstance(threshold, int | float) and 0 <= threshold <= 1
    ):
        raise UserError(f"{path}: does not say what the forest is fed; train it again")
    whole = {"name": Path(path).stem, "features_from": "catalogue", "training_set": None} | facts
    return TrainedForest(forest, float(threshold), whole, cache)
