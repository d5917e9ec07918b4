"""Networks and optimisers from their descriptions in a configuration or a checkpoint."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from rb.errors import UserError
from rb.stamps.inputs import InputSpec

# A checkpoint names the class of its network. Only these are built from one, never any callable
# that a file names; what is installed and registers itself is the user's own choice.
_OWN_NETWORKS = "rb.models."
ENTRY_POINTS = "rb.networks"


def check_network(network: Mapping[str, Any]) -> None:
    """Refuse a network that could not be built again from its checkpoint.

    Raises
    ------
    UserError
        If its class is neither in `rb.models` nor registered by an installed package under the
        entry point group `rb.networks`.
    """
    target = str(network.get("_target_", ""))
    if target.startswith(_OWN_NETWORKS):
        return
    registered = {
        entry.value.replace(":", ".")
        for entry in importlib.metadata.entry_points(group=ENTRY_POINTS)
    }
    if target not in registered:
        raise UserError(
            f"model.network._target_: '{target}' is not one of rb's own networks, and no installed "
            f"package registers it (entry point group {ENTRY_POINTS}), so a checkpoint of it is "
            "not loaded; register it, or choose a class of rb.models"
        )


def build_network(network: Mapping[str, Any], inputs: InputSpec) -> nn.Module:
    """Build the network that `network` describes, for the shape of `inputs`.

    Parameters
    ----------
    network : mapping
        `_target_`, the dotted name of a class, and its arguments. The class is called with
        `input_shape=(C, H, W)` besides, and with `n_side` if it is fed side information.
    inputs : InputSpec
        What the network is fed.

    Raises
    ------
    UserError
        If the class is missing, not allowed, or does not take these arguments.
    """
    check_network(network)
    arguments = dict(network)
    found = _locate(target := str(arguments.pop("_target_")), "model.network._target_")
    if not (inspect.isclass(found) and issubclass(found, nn.Module)):
        raise UserError(f"model.network._target_: '{target}' is not a network (torch.nn.Module)")
    arguments["input_shape"] = inputs.shape
    if inputs.side:
        arguments["n_side"] = inputs.n_side
    return _call(found, arguments, "model.network")


def build_optimizer(
    optimizer: Mapping[str, Any], scheduler: Mapping[str, Any] | None, parameters: Iterable[Any]
) -> Any:
    """Build the optimiser and the scheduler in the form that Lightning wants."""
    arguments = dict(optimizer)
    target = str(arguments.pop("_target_", ""))
    made = _call(
        _locate(target, "trainer.optimizer._target_"),
        {"params": parameters} | arguments,
        "trainer.optimizer",
    )
    if not scheduler:
        return made
    arguments = dict(scheduler)
    target = str(arguments.pop("_target_", ""))
    step = _call(
        _locate(target, "trainer.scheduler._target_"),
        {"optimizer": made} | arguments,
        "trainer.scheduler",
    )
    return {"optimizer": made, "lr_scheduler": {"scheduler": step, "interval": "epoch"}}


def _locate(target: str, key: str) -> Any:
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise UserError(f"{key}: there is no '{target}'") from None


def _call(found: Any, arguments: dict[str, Any], key: str) -> Any:
    try:
        inspect.signature(found).bind(**arguments)
    except TypeError as error:
        raise UserError(f"{key}: {error}") from None
    try:
        return found(**arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"{key}: {error}") from error
