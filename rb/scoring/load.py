"""A model from its file, with the fastest way to run it; imports torch only if it has to."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rb.models.contract import Scorer
from rb.models.files import load_file


def load_scorer(
    path: str | os.PathLike[str],
    cache: Path | None = None,
    inputs: Mapping[str, Any] | None = None,
) -> Scorer:
    """The model in a file, see `rb.models.files.load_file`.

    A network uses the fastest engine that is installed, see `rb.scoring.engines`.
    """
    scorer = load_file(path, cache, inputs)
    if scorer.network is None:
        return scorer
    from rb.scoring.engines import EngineScorer

    return EngineScorer(scorer, cache)


def engine_of(scorer: Scorer) -> str:
    """What predicted last: ``torch``, ``onnxruntime``, ``openvino``, or ``scikit-learn``."""
    return getattr(scorer, "engine", "scikit-learn" if scorer.network is None else "torch")


def model_digest(scorer: Scorer, name: str | os.PathLike[str]) -> str:
    """SHA-256 of the file `name`, or of the weights of a run's network.

    A forest of a run is known by the run: it cannot be trained again under the same ID.
    """
    if Path(name).is_file():
        with Path(name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if scorer.network is None:
        return hashlib.sha256(f"{scorer.provenance.run}".encode()).hexdigest()
    from rb.scoring.export import network_scorer, weights_digest

    return weights_digest(network_scorer(scorer))
