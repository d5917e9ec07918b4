"""A model from its file, with the fastest way to run it; imports torch only if it has to."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rb.errors import UserError
from rb.models.contract import Scorer
from rb.models.files import load_file

if TYPE_CHECKING:
    import numpy as np

    from rb.stamps import StampSet


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


def embeddings_of(scorer: Scorer, stamp_set: StampSet, rows: np.ndarray) -> np.ndarray:
    """Last hidden layer (n, E) of candidates of a set.

    Raises
    ------
    UserError
        If the model has none, or the set cannot feed it.
    """
    import numpy as np

    run = getattr(scorer, "run", None)
    if run is None:
        raise UserError(f"{scorer.provenance.name} has no last hidden layer; choose a network")
    parts: dict[int, np.ndarray] = {}
    for places, stamps in scorer.inputs.pieces(stamp_set, rows):  # type: ignore[attr-defined]
        hidden = run(stamps, embedding=True)[1]
        parts |= dict(zip(places.tolist(), hidden, strict=True))
    return np.stack([parts[i] for i in range(len(rows))])


def weights_digest_of(scorer: Scorer) -> str:
    """SHA-256 over the weights of a network, the same of its checkpoint and its exported file."""
    known = getattr(scorer, "weights_digest", None)
    if known is not None:
        return str(known)
    if scorer.network is None:
        raise UserError(f"{scorer.provenance.name} has no last hidden layer; choose a network")
    from rb.scoring.export import network_scorer, weights_digest

    return weights_digest(network_scorer(scorer))


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
