"""A trained feature forest as a thing to use, as a network is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.console import Console

from rb.errors import UserError
from rb.features.columns import ALL_38, FEATURES_FROM_STAMP
from rb.features.source import SETTINGS, choose, features_of
from rb.metrics.timing import time_prediction
from rb.models.contract import Provenance
from rb.models.forest.learners import LEARNERS, AutoscanForest
from rb.stamps import StampSet
from rb.stamps.batch import Stamps

if TYPE_CHECKING:
    from rb.features.table import FeatureTable

_UNKNOWN = Provenance("forest")
_OTHER = {"catalogue": "stamps", "stamps": "catalogue"}


@dataclass(frozen=True)
class FeatureInputs:
    """What a forest is fed, where a network has an `InputSpec`.

    Parameters
    ----------
    features : str
        Where they come from, see `rb.features.source.choose`.
    columns : sequence of str, optional
        Which ones; None for all that there are.
    """

    features: str = "auto"
    columns: tuple[str, ...] | None = None
    channels = ()
    stacking = "none"
    kind = "features"

    def check(self, stamp_set: StampSet) -> None:
        """Raise UserError if a set cannot give the features."""
        channels = stamp_set.channels
        if self.features == "stamps" and not {"diff", "tmpl"} <= set(channels):
            raise UserError(
                f"{stamp_set.path.name}: features of stamps need diff and tmpl, the set has only "
                f"{', '.join(channels) or 'features'}; choose model.features=catalogue or "
                "other data"
            )

    def __str__(self) -> str:
        which = f"{len(self.columns)} features" if self.columns else "features"
        return f"{which} from the {self.features}"


def feature_inputs(model: Mapping[str, Any]) -> FeatureInputs:
    """What a `model` configuration with a `learner` asks for.

    Raises
    ------
    UserError
        If one of its settings cannot work.
    """
    if model["learner"] not in LEARNERS:
        raise UserError(
            f"model.learner is '{model['learner']}'; choose one of {', '.join(LEARNERS)}"
        )
    if model["features"] not in SETTINGS:
        raise UserError(
            f"model.features is '{model['features']}'; choose one of {', '.join(SETTINGS)}"
        )
    for key, least in (("folds", 0), ("repeats", 0), ("jobs", 1)):
        value = model[key]
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int) or value < least
        ):
            raise UserError(f"model.{key} is {value}; give a whole number of at least {least}")
    if model["folds"] == 1:
        raise UserError("model.folds is 1; give at least 2, or 0 for no cross-validation")
    columns = model["columns"]
    if columns is not None:
        known = columns if isinstance(columns, list) else []
        unknown = [str(name) for name in known if name not in ALL_38]
        if not known or unknown or len(set(known)) < len(known):
            raise UserError(
                f"model.columns: {', '.join(unknown) or columns} is no list of autoscan features; "
                f"give some of {', '.join(ALL_38)}, each once"
            )
    return FeatureInputs(model["features"], None if columns is None else tuple(columns))


@dataclass(frozen=True)
class ForestScorer:
    """A forest with all that is needed to feed it.

    Parameters
    ----------
    forest : AutoscanForest
        Trained.
    features_from : str
        Where the features that it was trained on came from: `catalogue` or `stamps`.
    threshold : float
        Candidates with p_real at or above it are called real.
    provenance : Provenance
        Name, training set and its digest.
    cache : path, optional
        Folder for features computed from stamps.
    """

    forest: AutoscanForest
    features_from: str = "catalogue"
    threshold: float = 0.5
    provenance: Provenance = _UNKNOWN
    cache: Path | None = None
    network = None

    @property
    def inputs(self) -> FeatureInputs:
        """What it is fed."""
        return FeatureInputs(self.features_from, self.forest.features)

    @property
    def n_parameters(self) -> int:
        """Number of nodes of all trees; each holds a cut or a value."""
        return self.forest.n_nodes

    def p_real(self, stamps: np.ndarray | Stamps) -> np.ndarray:
        """Probability of being real, (N,), of raw stamps (N, 3, S, S).

        Raises
        ------
        UserError
            If the stamps have another shape, or do not determine all of its features.
        """
        from rb.features.autoscan import compute

        missing = [name for name in self.forest.features if name not in FEATURES_FROM_STAMP]
        if missing:
            raise UserError(f"stamps alone do not determine {', '.join(missing)}")
        return self.forest.predict(compute(Stamps.of(stamps).images))

    def score(
        self,
        stamp_set: StampSet,
        rows: np.ndarray | None = None,
        progress: Console | None = None,
    ) -> np.ndarray:
        """p_real of `rows` (all by default) of a set, float64 (n,)."""
        rows = np.arange(len(stamp_set)) if rows is None else np.asarray(rows)
        return self.forest.predict(self._features(stamp_set, rows, progress))

    def timing(self, stamp_set: StampSet, rows: np.ndarray, **how: Any) -> pd.DataFrame:
        """Time of the trees alone and, where the features come from stamps, with computing them.

        Column `ms_per_stamp_with_features` is the second measurement.
        """
        features = self._features(stamp_set, rows).features
        index = np.arange(len(rows))
        trees = time_prediction(lambda i: self.forest.predict(features.iloc[i]), index, **how)
        if self._source(stamp_set) == "stamps":
            whole = time_prediction(self.p_real, np.asarray(stamp_set.stamps[rows]), **how)
            trees["ms_per_stamp_with_features"] = whole["ms_per_stamp"]
        return trees

    def note_on(self, stamp_set: StampSet) -> str | None:
        """Says so where the features come from elsewhere than in training."""
        source = self._source(stamp_set)
        if source == self.features_from:
            return None
        return (
            f"learned from features of the {self.features_from}, those of {stamp_set.name} come "
            f"from the {source}"
        )

    def _features(
        self, stamp_set: StampSet, rows: np.ndarray, console: Console | None = None
    ) -> FeatureTable:
        source = self._source(stamp_set)
        return features_of(stamp_set, rows, self.forest.features, source, self.cache, console)

    def _source(self, stamp_set: StampSet) -> str:
        """Where a set gives the features: as in training if it can, else the other way."""
        for source in (self.features_from, _OTHER[self.features_from]):
            try:
                return choose(stamp_set, source, self.forest.features)[0]
            except UserError:
                continue
        there = set(stamp_set.column_names) | set(FEATURES_FROM_STAMP)
        missing = [name for name in self.forest.features if name not in there]
        raise UserError(
            f"{self.provenance.name}: {stamp_set.path.name} does not give all of its features "
            f"({', '.join(missing) or 'no table, and no stamps to compute them from'}); train one "
            "on those that stamps determine: model.features=stamps"
        )
