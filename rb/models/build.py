"""Networks and optimisers from their descriptions in a configuration or a checkpoint."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from rb.errors import UserError
from rb.stamps.inputs import InputSpec

# What may be built from a file that somebody sends: only our own networks, never any
# callable that the file names.
_OWN_NETWORKS = "rb.models."


def build_network(network: Mapping[str, Any], inputs: InputSpec, trusted: bool = True) -> nn.Module:
    """Build the network that `network` describes, for the shape of `inputs`.

    Parameters
    ----------
    network : mapping
        ``_target_``, the dotted name of a class, and its arguments. The class is called with
        ``input_shape=(C, H, W)`` besides, and with ``n_side`` if it is fed side information.
    inputs : InputSpec
        What the network is fed.
    trusted : bool
        False for descriptions out of a file: then only classes of `rb.models` are built.

    Raises
    ------
    UserError
        If the class is missing, not allowed, or does not take these arguments.
    """
    arguments = dict(network)
    target = str(arguments.pop("_target_", ""))
    if not trusted and not target.startswith(_OWN_NETWORKS):
        raise UserError(
            f"the checkpoint asks for the network '{target}', which is not one of rb's own; "
            "it is not loaded"
        )
    found = _locate(target, "model.network._target_")
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
