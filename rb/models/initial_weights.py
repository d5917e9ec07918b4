"""The network of a configuration, and trained weights to start it from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from rb.errors import UserError
from rb.models.build import check_network
from rb.models.contract import required_network
from rb.models.files import load_file
from rb.models.pretrained import published_file, published_model


def complete_model(model: Mapping[str, Any]) -> dict[str, Any]:
    """Check the network of a model, or fill it in where a Keras file describes it.

    Parameters
    ----------
    model : mapping
        A `model` configuration. One with a `checkpoint` (`model=keras`) takes its network
        and, where they are not set, its inputs from that file. One whose `init_from` names a
        published network of stamps takes name, network and inputs from there. Others are returned
        as they are.

    Raises
    ------
    UserError
        If a checkpoint of the network could not be loaded again, or the file cannot be
        translated or does not say what it is fed.
    """
    model = dict(model)
    model |= published_model(str(model.get("init_from"))) or {}
    file = model.get("checkpoint")
    if not file:
        if model.get("network"):
            check_network(model["network"])
        return model
    from rb.models.keras.network import load_keras
    from rb.models.keras.scorer import inputs_of

    network = load_keras(file)
    if not model.get("inputs"):
        spec = inputs_of(Path(file), network)
        model["inputs"] = {
            "channels": list(spec.channels),
            "stacking": spec.stacking,
            "scaling": dict(spec.scaling),
            "size": spec.size,
        }
    model["network"] = {
        "_target_": "rb.models.keras.network.KerasSequential",
        "config": network.config,
        "keras_version": network.keras_version,
    }
    model["init_from"] = model.get("init_from") or file
    return model


def load_weights(network: nn.Module, file: str) -> None:
    """Copy the weights of `file` (.ckpt of `train.py`, Keras .h5, published) into `network`.

    Raises
    ------
    UserError
        If the file cannot be read, or its weights are for another network.
    """
    weights: dict[str, Tensor]
    if Path(file).suffix in (".h5", ".hdf5", ".keras"):
        from rb.models.cnn import StampCNN
        from rb.models.keras.network import load_keras
        from rb.models.keras.weights import stamp_cnn_weights

        published = load_keras(file)
        if isinstance(network, StampCNN):
            weights = stamp_cnn_weights(published, network, file)
        else:
            weights = published.state_dict()
    else:
        weights = required_network(load_file(published_file(file) or file)).state_dict()
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        raise UserError(
            f"model.init_from: the weights in {file} are for another network than "
            "model.network describes"
        ) from None
