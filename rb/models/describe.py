"""A network layer by layer, in the words of the paper's tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

_KINDS: dict[type[nn.Module], str] = {
    nn.Conv2d: "Conv2D",
    nn.MaxPool2d: "MaxPooling",
    nn.Dropout: "Dropout",
    nn.Flatten: "Flatten",
    nn.Linear: "Dense",
}


@dataclass(frozen=True)
class Layer:
    """One row of a table such as Tables 3 to 9.

    Attributes
    ----------
    kind : str
        Conv2D, MaxPooling, Dropout, Flatten, Dense, or the name of a whole architecture.
    filters : int or None
        Filters of a convolution, units of a dense layer.
    size : tuple of int, float or None
        Kernel or pooling window in px; rate of a dropout.
    padding : str or None
        `valid` or `same`, of a convolution.
    activation : str or None
        `relu` or `softmax`.
    output : tuple of int
        Shape of what comes out for one stamp: (channels, height, width) or (units,).
    parameters : int
        Weights and biases.
    """

    kind: str
    filters: int | None
    size: tuple[int, ...] | float | None
    padding: str | None
    activation: str | None
    output: tuple[int, ...]
    parameters: int


def describe(network: nn.Module, input_shape: Sequence[int]) -> list[Layer]:
    """List the layers of a network in the order in which a stamp goes through them.

    A part that is an architecture of its own (`convolutions` of `BackboneCNN`) is one row, as
    in Table 5. ReLU is named with the layer before it, although it may be computed after the
    pooling; the last dense layer has the softmax of the loss.

    Parameters
    ----------
    network : Module
        Of `rb.models`.
    input_shape : (int, int, int)
        Channels, height, width of what it is fed.
    """
    rows: list[Layer] = []
    hooks = []
    whole = getattr(network, "convolutions", None)
    inside = set(whole.modules()) if whole is not None else set()

    def keep(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        if isinstance(module, nn.ReLU):
            last = max(i for i, row in enumerate(rows) if row.kind in ("Conv2D", "Dense"))
            rows[last] = replace(rows[last], activation="relu")
        else:
            rows.append(_row(module, tuple(output.shape[1:]), whole, network))

    for module in network.modules():
        known = isinstance(module, (*_KINDS, nn.ReLU)) and module not in inside
        if known or (whole is not None and module is whole):
            hooks.append(module.register_forward_hook(keep))
    was_training = network.training
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, *input_shape))
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    rows[-1] = replace(rows[-1], activation="softmax")
    return rows


def _row(
    module: nn.Module, output: tuple[int, ...], whole: nn.Module | None, network: nn.Module
) -> Layer:
    parameters = sum(p.numel() for p in module.parameters())
    if module is whole:
        name = getattr(network, "architecture", type(module).__name__)
        return Layer(f"convolutions of {name}", None, None, None, None, output, parameters)
    kind = next(name for of, name in _KINDS.items() if isinstance(module, of))
    if isinstance(module, nn.Conv2d):
        padding = "valid" if module.padding in ("valid", 0, (0, 0)) else "same"
        return Layer(
            kind, module.out_channels, tuple(module.kernel_size), padding, None, output, parameters
        )
    if isinstance(module, nn.MaxPool2d):
        window = module.kernel_size
        pair = (window, window) if isinstance(window, int) else tuple(window)
        return Layer(kind, None, pair, None, None, output, 0)
    if isinstance(module, nn.Dropout):
        return Layer(kind, None, float(module.p), None, None, output, 0)
    if isinstance(module, nn.Linear):
        return Layer(kind, module.out_features, None, None, None, output, parameters)
    return Layer(kind, None, None, None, None, output, 0)
