"""Files of models: which there are, and the scorer in one."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rb.errors import UserError
from rb.models.contract import Scorer
from rb.models.pretrained import published_file

PACKAGE_FORMAT = 2
"""Of what a checkpoint says of its network beside the weights."""

# By the end of a file's name: module and function that make a scorer of it. A function takes the
# file and a folder where it may keep what is slow to compute, or None; it executes nothing that
# the file holds. Modules are imported when such a file is met.
_KERAS = "rb.models.keras.scorer:load_keras_scorer"
_LOADERS = {
    ".ckpt": "rb.models.checkpoint:load_checkpoint",
    ".skops": "rb.models.forest.files:load_forest",
    ".onnx": "rb.scoring.exported:load_exported",
    ".h5": _KERAS,
    ".hdf5": _KERAS,
    ".keras": _KERAS,
}


def model_file(name: str | os.PathLike[str]) -> Path | None:
    """The file of a model that `name` stands for; None for the name of a run.

    `published:NAME` is a network of the package.
    """
    path = published_file(name, in_full=True) or Path(name)
    return path if path.suffix.lower() in _LOADERS else None


def load_file(
    path: str | os.PathLike[str],
    cache: Path | None = None,
    inputs: Mapping[str, Any] | None = None,
) -> Scorer:
    """The model in a file, or in the one file of a folder.

    Parameters
    ----------
    path : path
        A checkpoint or forest of `train.py`, what `rb export` wrote, or a Keras file; told apart
        by the end of the name.
    cache : path, optional
        Folder where a scorer may keep what is slow to compute, such as features of stamps.
    inputs : mapping, optional
        How a Keras network is fed, see `rb.load`; all other files say it themselves.

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
    if inputs is not None and where != _KERAS:
        raise UserError(f"{path}: says itself how it is fed; leave inputs out")
    # Said before torch is imported, which takes seconds.
    if path.suffix.lower() == ".ckpt" and not path.is_file():
        raise UserError(f"{path}: there is no such checkpoint")
    module, _, function = where.partition(":")
    load = getattr(importlib.import_module(module), function)
    scorer: Scorer = load(path, cache) if inputs is None else load(path, cache, inputs)
    return scorer
