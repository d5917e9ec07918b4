"""Files of trained forests: no pickle, and nothing in them is believed unchecked.

A file is a zip archive of `forest.json` (features, learner, seed, threshold, provenance, version
of scikit-learn) and one `skops` archive a member. skops builds only objects of known
types; the trees' own arrays it cannot vouch for, since scikit-learn follows the node numbers in
them without looking, so they are checked here.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from rb.errors import UserError
from rb.io.files import written
from rb.models.contract import Provenance, checked_threshold
from rb.models.forest.learners import LEARNERS, AutoscanForest
from rb.models.forest.scorer import ForestScorer

_FORMAT = 2
_META = "forest.json"
_MAX_META_BYTES = 1 << 20
_MAX_MEMBER_BYTES = 8 << 30
_MAX_MEMBERS = 1000
# What scikit-learn's trees are made of; reviewed: plain node arrays, checked by `_check_nodes`.
_TRUSTED = [
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
]


def save_forest(scorer: ForestScorer, path: Path) -> Path:
    """Write a trained forest, whole or not at all.

    Raises
    ------
    UserError
        Where it is not trained, or the file cannot be written.
    """
    import sklearn
    import skops.io

    forest = scorer.forest
    if not forest.members:
        raise UserError("this autoscan forest is not trained yet; fit it on a feature table")
    meta = {
        "format": _FORMAT,
        "learner": forest.learner,
        "features": list(forest.features),
        "seed": forest.seed,
        "trained_on": forest.trained_on,
        "members": len(forest.members),
        "scikit_learn": sklearn.__version__,
        "features_from": scorer.features_from,
        "threshold": scorer.threshold,
        "provenance": scorer.provenance.to_dict(),
    }
    with written(path, "the forest") as temporary, zipfile.ZipFile(temporary, "w") as archive:
        archive.writestr(_META, json.dumps(meta, indent=1))
        for i, member in enumerate(forest.members):
            packed = skops.io.dumps(member, compression=zipfile.ZIP_DEFLATED)
            archive.writestr(f"member_{i}.skops", packed)
    return path


def load_forest(path: Path, cache: Path | None = None) -> ForestScorer:
    """Read a forest that `train.py` wrote. Nothing in the file is executed.

    Parameters
    ----------
    path : path
        The file.
    cache : path, optional
        Folder where it may keep features of stamps.

    Raises
    ------
    UserError
        Where the file is missing or damaged, is something else, was written by another version
        of scikit-learn, or holds trees that lead out of themselves.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file (a saved autoscan forest is expected)")
    try:
        with zipfile.ZipFile(path) as archive:
            meta = _meta(archive, path)
            _check_version(meta, path)
            if meta.get("learner") not in LEARNERS:
                raise UserError(f"{path}: made by an unknown learner")
            features, count = meta.get("features"), meta.get("members")
            if (
                not isinstance(features, list)
                or not all(isinstance(f, str) for f in features)
                or not isinstance(count, int)
                or not 0 < count <= _MAX_MEMBERS
                or not isinstance(meta.get("seed"), int)
                or meta.get("features_from") not in ("catalogue", "stamps")
            ):
                raise UserError(f"{path}: {_META} makes no sense; train the forest again")
            forest = AutoscanForest(meta["learner"], features, meta["seed"])
            forest.trained_on = meta.get("trained_on")
            threshold = checked_threshold(meta.get("threshold"))
            provenance = Provenance.from_dict(meta.get("provenance"))
            columns = forest.matrix(_empty(features)).shape[1]
            forest.members = [
                _member(archive, f"member_{i}.skops", columns, path) for i in range(count)
            ]
    except (zipfile.BadZipFile, KeyError, OSError, EOFError, NotImplementedError) as error:
        raise UserError(f"{path}: damaged, or not a saved autoscan forest ({error})") from error
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: {_META} makes no sense; train the forest again") from error
    return ForestScorer(forest, meta["features_from"], threshold, provenance, cache)


def _empty(features: list[str]) -> Any:
    import pandas as pd

    return pd.DataFrame(columns=features, dtype=np.float64)


def _meta(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    if archive.getinfo(_META).file_size > _MAX_META_BYTES:
        raise UserError(f"{path}: {_META} is implausibly large")
    try:
        meta = json.loads(archive.read(_META))
    except (ValueError, RecursionError, zipfile.zlib.error) as error:  # type: ignore[attr-defined]
        raise UserError(f"{path}: {_META} is damaged; train the forest again") from error
    if not isinstance(meta, dict) or meta.get("format") != _FORMAT:
        raise UserError(f"{path}: not a saved autoscan forest of format {_FORMAT}; train it again")
    return meta


def _check_version(meta: dict[str, Any], path: Path) -> None:
    """Trees of another scikit-learn may load and yet mean something else."""
    import sklearn

    theirs = str(meta.get("scikit_learn"))
    if theirs.split(".")[:2] != sklearn.__version__.split(".")[:2]:
        raise UserError(
            f"{path}: saved with scikit-learn {theirs[:20]}, this is {sklearn.__version__}; train "
            f"the forest again (training table digest {str(meta.get('trained_on'))[:12]})"
        )


def _member(archive: zipfile.ZipFile, name: str, columns: int, path: Path) -> Any:
    import skops.io
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

    if archive.getinfo(name).file_size > _MAX_MEMBER_BYTES:
        raise UserError(f"{path}: {name} is implausibly large")
    try:
        member = skops.io.loads(archive.read(name), trusted=_TRUSTED)
        if type(member) not in (HistGradientBoostingClassifier, RandomForestClassifier):
            raise ValueError("not a forest")
        _check_member(member, columns)
    # A damaged archive can fail in any way inside skops and scikit-learn; none of it runs code.
    except Exception as error:
        reason = " ".join(str(error).split())[:150]
        raise UserError(f"{path}: {name} is damaged or not to be trusted ({reason})") from error
    return member


def _check_member(member: Any, columns: int) -> None:
    if sorted(member.classes_) != [0, 1] or member.n_features_in_ != columns:
        raise ValueError("other classes or features than stated")
    if hasattr(member, "estimators_"):
        for estimator in member.estimators_:
            tree = estimator.tree_
            left, right = tree.children_left, tree.children_right
            _check_nodes(left, right, tree.feature, left < 0, columns)
            if tree.value.shape != (tree.node_count, 1, 2):
                raise ValueError("tree with values of another shape")
        return
    if member._bin_mapper is None or member.is_categorical_ is not None:
        raise ValueError("categorical features were never used here")
    for iteration in member._predictors:
        for predictor in iteration:
            nodes = predictor.nodes
            if nodes["is_categorical"].any():
                raise ValueError("categorical split")
            leaf = nodes["is_leaf"].astype(bool)
            left, right = nodes["left"].astype(np.int64), nodes["right"].astype(np.int64)
            _check_nodes(left, right, nodes["feature_idx"], leaf, columns)


def _check_nodes(
    left: np.ndarray, right: np.ndarray, feature: np.ndarray, leaf: np.ndarray, columns: int
) -> None:
    """Every walk from the root stays inside the tree and ends."""
    inner = ~leaf
    number = np.arange(len(leaf))
    if not len(leaf):
        raise ValueError("tree without nodes")
    for child in (left, right):
        # Children come after their parent, so no walk turns in circles.
        if (child[inner] <= number[inner]).any() or (child[inner] >= len(leaf)).any():
            raise ValueError("tree with links out of itself")
    if (feature[inner] < 0).any() or (feature[inner] >= columns).any():
        raise ValueError("tree that asks for features that are not there")
