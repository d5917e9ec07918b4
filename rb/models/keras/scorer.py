"""A network out of a Keras file as a thing to use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rb.errors import UserError
from rb.models.checkpoint import NetworkScorer
from rb.models.contract import Provenance
from rb.models.keras.described import Described, described
from rb.models.keras.network import KerasSequential, load_keras
from rb.stamps.inputs import InputSpec


def load_keras_scorer(
    path: Path, cache: Path | None = None, inputs: Mapping[str, Any] | None = None
) -> NetworkScorer:
    """The network in a Keras file, fed as its user says, or as the shape of its input suggests.

    Parameters
    ----------
    path : Path
        The file.
    cache : Path, optional
        Not used.
    inputs : mapping, optional
        The keys of `rb.models.keras.described.Described`; by default those of the YAML file beside
        `path`.

    Raises
    ------
    UserError
        If the file cannot be translated, or its input is no stack of square stamps.
    """
    said = described(path, inputs)
    network = load_keras(path, said.label_1)
    spec = inputs_of(path, network, said)
    provenance = Provenance(path.stem, licence=said.licence)
    return NetworkScorer(network, spec, said.threshold, provenance)


def inputs_of(path: Path, network: KerasSequential, said: Described | None = None) -> InputSpec:
    """What the network in `path` is fed, as is `said`, else as the shape of its input suggests.

    Raises
    ------
    UserError
        If neither tells it, or they contradict each other.
    """
    said = said or described(path)
    channels = said.channels or network.channels
    stacking = said.stacking or network.stacking
    height, width, depth = network.input_shape
    beside = path.with_suffix(".yaml").name
    if channels is None or stacking is None:
        raise UserError(
            f"{path}: takes {network.input_shape}, which does not tell the channels; set "
            f"model.inputs, or write channels and stacking into {beside} beside it"
        )
    spec = InputSpec(
        channels, stacking, {**InputSpec(channels).scaling, **said.scaling}, size=height
    )
    if spec.shape != (depth, height, width):
        raise UserError(
            f"{path}: takes {height}x{width}x{depth}, not {', '.join(channels)} ({stacking}); put "
            f"right channels and stacking in {beside}"
        )
    return spec
