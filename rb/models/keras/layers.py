"""What each Keras layer is in torch: output shape, weights needed, modules.

Keras keeps images as (height, width, channels), torch as (channels, height, width). Shapes here
are Keras': `(H, W, C)` for a feature map, `(C,)` for a vector; the modules work on torch's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rb.models.keras.config import LayerConfig

Shape = tuple[int, ...]
Weights = Mapping[str, np.ndarray]

# Values of one feature map of one stamp (64 MB as float32): more than any network for stamps
# needs, and little enough that a lying configuration cannot exhaust the memory.
_MAX_MAP = 1 << 24
_MAX_WEIGHTS = 1 << 28


@dataclass(frozen=True)
class Piece:
    """One torch module of a translated layer.

    Parameters
    ----------
    role
        Name beside the layer's own: "" for the main module, "pad" or "act" for its companions.
    make
        Builds the module, with Keras' own initialisation where weights are not given.
    kind
        "trained" where there are weights, "softmax" for class probabilities, "activation",
        "identity" (at prediction), "map" for pools and reshaping.
    """

    role: str
    make: Callable[[Weights | None], nn.Module]
    kind: str = "map"


@dataclass(frozen=True)
class Translation:
    """A layer: what comes out, which weights it needs, what it is made of."""

    shape: Shape
    pieces: tuple[Piece, ...] = ()
    weights: Mapping[str, Shape] = field(default_factory=dict)


class FlattenChannelsLast(nn.Module):
    """Flatten (N, C, H, W) in Keras' order: rows, columns, channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, H*W*C)."""
        return x.permute(0, 2, 3, 1).flatten(1)


def translate(layer: LayerConfig, shape: Shape) -> Translation:
    """Translate one layer.

    Parameters
    ----------
    layer
        The layer's configuration.
    shape
        Its input without the batch: `(H, W, C)` or `(C,)`.

    Returns
    -------
    Translation

    Raises
    ------
    rb.errors.UserError
        Names the layer, where its type or a setting has no translation or does not fit `shape`.
    """
    rule = _RULES.get(layer.kind)
    if rule is None:
        raise layer.error(
            "this type of layer cannot be translated; known are " + ", ".join(sorted(_RULES))
        )
    if layer.kind in _ON_MAPS:
        layer.choice("data_format", ("channels_last",), "channels_last")
        if len(shape) != 3:
            raise layer.error(f"needs a feature map, its input has shape {shape}")
    result = rule(layer, shape)
    _check_size(layer, result.shape)
    if sum(math.prod(s) for s in result.weights.values()) > _MAX_WEIGHTS:
        raise layer.error("asks for an implausible number of weights")
    return result


def _check_size(layer: LayerConfig, shape: Shape) -> None:
    if min(shape) < 1:
        raise layer.error(f"its input is too small, the output would have shape {shape}")
    if math.prod(shape) > _MAX_MAP:
        raise layer.error(f"its output of shape {shape} is implausibly large")


def _conv2d(layer: LayerConfig, shape: Shape) -> Translation:
    kernel, strides = layer.pair("kernel_size"), layer.pair("strides", (1, 1))
    if layer.pair("dilation_rate", (1, 1)) != (1, 1) or layer.count("groups", 1) != 1:
        raise layer.error("dilation and groups cannot be translated")
    filters, bias = layer.count("filters"), layer.flag("use_bias", True)
    padded, pieces = _padded(layer, shape, kernel, strides, nn.ZeroPad2d)
    rows, columns = _window(padded, kernel, strides)

    def make(weights: Weights | None) -> nn.Module:
        module = nn.Conv2d(shape[2], filters, kernel, strides, bias=bias)
        # Keras (row, column, in, out) -> torch (out, in, row, column).
        return _filled(module, weights, lambda k: k.transpose(3, 2, 0, 1))

    pieces += [Piece("", make, "trained"), *_activation(layer, layer.values.get("activation"))]
    needs: dict[str, Shape] = {"kernel": (*kernel, shape[2], filters)}
    if bias:
        needs["bias"] = (filters,)
    return Translation((rows, columns, filters), tuple(pieces), needs)


def _dense(layer: LayerConfig, shape: Shape) -> Translation:
    if len(shape) != 1:
        raise layer.error(f"needs a vector, its input has shape {shape}; flatten it first")
    units, bias, width = layer.count("units"), layer.flag("use_bias", True), shape[0]

    def make(weights: Weights | None) -> nn.Module:
        return _filled(nn.Linear(width, units, bias=bias), weights, lambda k: k.T)

    needs: dict[str, Shape] = {"kernel": (width, units)}
    if bias:
        needs["bias"] = (units,)
    pieces = (Piece("", make, "trained"), *_activation(layer, layer.values.get("activation")))
    return Translation((units,), pieces, needs)


def _batch_norm(layer: LayerConfig, shape: Shape) -> Translation:
    if layer.axis(len(shape) + 1) != len(shape):
        raise layer.error("normalises another axis than the channels")
    if layer.flag("renorm", False):
        raise layer.error("renorm cannot be translated")
    scale, center, width = layer.flag("scale", True), layer.flag("center", True), shape[-1]
    epsilon, momentum = layer.number("epsilon", 1e-3), layer.number("momentum", 0.99)
    names = ["gamma"] * scale + ["beta"] * center + ["moving_mean", "moving_variance"]

    def make(weights: Weights | None) -> nn.Module:
        kind = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
        # torch's momentum is the weight of the new batch, Keras' that of the old mean.
        module = kind(width, eps=epsilon, momentum=1 - momentum)
        module.weight.requires_grad_(scale)
        module.bias.requires_grad_(center)
        targets: dict[str, Any] = {
            "gamma": module.weight,
            "beta": module.bias,
            "moving_mean": module.running_mean,
            "moving_variance": module.running_var,
        }
        if weights is not None:
            with torch.no_grad():
                for name, values in weights.items():
                    targets[name].copy_(torch.from_numpy(values))
        return module

    return Translation(shape, (Piece("", make, "trained"),), {name: (width,) for name in names})


def _max_pool(layer: LayerConfig, shape: Shape) -> Translation:
    pool = layer.pair("pool_size", (2, 2))
    strides = layer.pair("strides", pool)
    # Every window holds at least one true pixel, and an edge pixel's copies are only in windows
    # that hold the edge pixel itself: replicating changes no maximum.
    padded, pieces = _padded(layer, shape, pool, strides, nn.ReplicationPad2d)
    pieces.append(Piece("", lambda _: nn.MaxPool2d(pool, strides)))
    return Translation((*_window(padded, pool, strides), shape[2]), tuple(pieces))


def _average_pool(layer: LayerConfig, shape: Shape) -> Translation:
    pool = layer.pair("pool_size", (2, 2))
    strides = layer.pair("strides", pool)
    layer.choice("padding", ("valid",), "valid")
    piece = Piece("", lambda _: nn.AvgPool2d(pool, strides))
    return Translation((*_window(shape, pool, strides), shape[2]), (piece,))


def _global_average(layer: LayerConfig, shape: Shape) -> Translation:
    if layer.flag("keepdims", False):
        raise layer.error("keepdims cannot be translated")
    # The size is known, so the ordinary pool serves, which attribution methods understand.
    pool = Piece("", lambda _: nn.AvgPool2d((shape[0], shape[1])))
    return Translation((shape[2],), (pool, Piece("flat", lambda _: nn.Flatten())))


def _flatten(layer: LayerConfig, shape: Shape) -> Translation:
    layer.choice("data_format", ("channels_last",), "channels_last")
    if len(shape) == 1:
        return Translation(shape)
    return Translation((math.prod(shape),), (Piece("", lambda _: FlattenChannelsLast()),))


def _dropout(layer: LayerConfig, shape: Shape) -> Translation:
    rate = layer.number("rate", 0.5)
    if not 0 <= rate < 1:
        raise layer.error(f"rate is {rate}, expected 0 to 1")
    return Translation(shape, (Piece("", lambda _: nn.Dropout(rate), "identity"),))


def _activation_layer(layer: LayerConfig, shape: Shape) -> Translation:
    if layer.kind == "Activation":
        return Translation(shape, _activation(layer, layer.values.get("activation")))
    if layer.kind == "Softmax" and layer.axis(len(shape) + 1) != len(shape):
        raise layer.error("softmax over another axis than the channels cannot be translated")
    return Translation(shape, _activation(layer, {"class_name": layer.kind}))


def _activation(layer: LayerConfig, setting: object) -> tuple[Piece, ...]:
    """Modules of an activation given by name, as a Keras 3 function or as a layer."""
    name = setting
    options = layer
    if isinstance(setting, Mapping):
        name, inner = setting.get("class_name"), setting.get("config")
        if name == "function":
            name = inner
        elif layer.kind != name:
            options = LayerConfig(
                layer.source, str(name)[:60], layer.name, inner if isinstance(inner, dict) else {}
            )
    if name is None or name == "linear":
        return ()
    if name in ("softmax", "Softmax"):
        return (Piece("act", lambda _: nn.Softmax(1), "softmax"),)
    make: Callable[[], nn.Module] | None = None
    if name == "LeakyReLU":
        # Renamed in Keras 3; 0.3 is the layer's default in both.
        slope = options.number("negative_slope", options.number("alpha", 0.3))
        make = lambda: nn.LeakyReLU(slope)  # noqa: E731
    elif name == "ReLU":
        bounds = [options.number(key, 0.0) for key in ("negative_slope", "threshold")]
        if options.values.get("max_value") is not None or any(bounds):
            raise options.error("a ceiling, leak or threshold cannot be translated")
        make = nn.ReLU
    elif isinstance(name, str):
        make = _FUNCTIONS.get(name)
    if make is None:
        raise layer.error(f"activation {str(name)[:60]} cannot be translated")
    build = make
    return (Piece("act", lambda _: build(), "activation"),)


def _filled(
    module: nn.Conv2d | nn.Linear,
    weights: Weights | None,
    turn: Callable[[np.ndarray], np.ndarray],
) -> nn.Module:
    """Give the module Keras' weights, or Keras' default initialisation."""
    with torch.no_grad():
        if weights is not None:
            module.weight.copy_(torch.from_numpy(np.ascontiguousarray(turn(weights["kernel"]))))
        else:
            nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            if weights is not None:
                module.bias.copy_(torch.from_numpy(weights["bias"]))
            else:
                module.bias.zero_()
    return module


def _window(shape: Shape, kernel: tuple[int, int], strides: tuple[int, int]) -> tuple[int, int]:
    rows, columns = ((n - k) // s + 1 for n, k, s in zip(shape[:2], kernel, strides, strict=True))
    return rows, columns


def _padded(
    layer: LayerConfig,
    shape: Shape,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    pad: Callable[[tuple[int, int, int, int]], nn.Module],
) -> tuple[Shape, list[Piece]]:
    """Shape with the margins of the layer's padding, and the module that puts them on.

    With "same", ceil(n / stride) windows fit; the odd margin goes last.
    """
    if layer.choice("padding", ("valid", "same"), "valid") == "valid":
        return shape, []
    sides: list[int] = []
    for n, k, s in zip(shape[:2], kernel, strides, strict=True):
        total = max((math.ceil(n / s) - 1) * s + k - n, 0)
        sides += [total // 2, total - total // 2]
    top, bottom, left, right = sides
    padded = (shape[0] + top + bottom, shape[1] + left + right, shape[2])
    _check_size(layer, padded)
    margins = (left, right, top, bottom)
    return padded, [Piece("pad", lambda _: pad(margins))] if any(margins) else []


_FUNCTIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}
_ON_MAPS: dict[str, Callable[[LayerConfig, Shape], Translation]] = {
    "Conv2D": _conv2d,
    "MaxPooling2D": _max_pool,
    "AveragePooling2D": _average_pool,
    "GlobalAveragePooling2D": _global_average,
}
_RULES = _ON_MAPS | {
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Dense": _dense,
    "BatchNormalization": _batch_norm,
    "Activation": _activation_layer,
    "ReLU": _activation_layer,
    "LeakyReLU": _activation_layer,
    "Softmax": _activation_layer,
}
