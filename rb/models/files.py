"""Files of models: which there are, and the scorer in one."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

from rb.errors import UserError
from rb.models.contract import Scorer

# By the end of a file's name: module and function that make a scorer of it. A function takes the
# file and a folder where it may keep what is slow to compute, or None; it executes nothing that
# the file holds. Modules are imported when such a file is met.
_KERAS = "rb.models.keras.scorer:load_keras_scorer"
_LOADERS = {
    ".ckpt": "rb.models.checkpoint:load_checkpoint",
    ".skops": "rb.models.forest.files:load_forest",
    ".h5": _KERAS,
    ".hdf5": _KERAS,
    ".keras": _KERAS,
}


def model_file(name: str | os.PathLike[str]) -> Path | None:
    """The file of a model that `name` stands for; None for the name of a run.

    What is known by a name of its own and not by a run (published weights) is looked up here.
    """
    path = Path(name)
    return path if path.suffix.lower() in _LOADERS else None


def load_file(path: str | os.PathLike[str], cache: Path | None = None) -> Scorer:
    """The model in a file, or in the one file of a folder.

    Parameters
    ----------
    path : path
        A checkpoint or forest of `train.py`, or a Keras file; told apart by the end of the name.
    cache : path, optional
        Folder where a scorer may keep what is slow to compute, such as features of stamps.

    Raises
    ------
    UserError
        If there is no such file, or it is damaged or something else.
    """
    path = Path(path)
    if path.is_dir():
        path = next((f for f in sorted(path.iterdir()) if model_file(f)), path)
    where = _LOADERS.get(path.suffix.lower())
    if where is None:
        raise UserError(f"{path}: no model; its file ends in one of {', '.join(_LOADERS)}")
    module, _, function = where.partition(":")
    scorer: Scorer = getattr(importlib.import_module(module), function)(path, cache)
    return scorer
