"""A network out of a Keras file as a thing to use."""

from __future__ import annotations

from pathlib import Path

from rb.errors import UserError
from rb.models.checkpoint import NetworkScorer
from rb.models.contract import Provenance
from rb.models.keras.network import load_keras
from rb.stamps.inputs import InputSpec


def load_keras_scorer(path: Path, cache: Path | None = None) -> NetworkScorer:
    """The network in a Keras file, fed as the shape of its input suggests.

    Raises
    ------
    UserError
        If the file cannot be translated, or its input is no stack of square stamps.
    """
    network = load_keras(path)
    if network.channels is None or network.stacking is None:
        raise UserError(f"{path}: takes {network.input_shape}, which is no stack of square stamps")
    inputs = InputSpec(network.channels, network.stacking, size=network.input_shape[0])
    return NetworkScorer(network, inputs, 0.5, Provenance(path.stem))
