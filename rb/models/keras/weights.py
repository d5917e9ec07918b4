"""Weights of a Keras network for a `StampCNN` of the same architecture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from rb.errors import UserError
from rb.models.cnn import StampCNN
from rb.models.keras.layers import FlattenChannelsLast
from rb.models.keras.network import KerasSequential

_Step = tuple[str, nn.Module, tuple[Any, ...]]  # name of the layer, module, what it does


def stamp_cnn_weights(keras: KerasSequential, network: StampCNN, file: str) -> dict[str, Tensor]:
    """Weights of `keras` under the names, and in the order, of `network`.

    Keras flattens a feature map by rows, columns, channels, torch by channels, rows, columns; the
    columns of the first dense layer are put in torch's order, so that the outputs are equal.
    Rates of dropout may differ; they do not matter for the outputs.

    Parameters
    ----------
    keras : KerasSequential
        Out of the file.
    network : StampCNN
        What the weights are for.
    file : str
        Name of the file, for messages.

    Returns
    -------
    dict of str to Tensor
        A `state_dict` of `network`.

    Raises
    ------
    UserError
        If the architectures differ; names the first layer that does.
    """
    theirs = list(_steps(keras.network))
    ours = list(_steps(network.layers))
    for (name, _, their), (_, _, our) in zip(theirs, ours, strict=False):
        if their != our:
            raise _differs(file, f"layer {name} is {_words(their)}", _words(our))
    if len(theirs) != len(ours):
        longer = theirs if len(theirs) > len(ours) else ours
        name, _, what = longer[min(len(theirs), len(ours))]
        if longer is theirs:
            raise _differs(file, f"layer {name} is {_words(what)}", "no further layer")
        raise _differs(file, "it has no further layer", _words(what))
    state = {}
    names = {module: name for name, module in network.named_modules()}
    shape = _flattened_shape(keras)
    first_dense = True
    for (_, source, _), (_, target, _) in zip(theirs, ours, strict=True):
        if not isinstance(source, nn.Conv2d | nn.Linear):
            continue
        weight = source.weight.detach().clone()
        if isinstance(source, nn.Linear) and first_dense:
            channels, rows, columns = shape
            weight = weight.reshape(-1, rows, columns, channels).permute(0, 3, 1, 2).flatten(1)
            first_dense = False
        state[f"{names[target]}.weight"] = weight
        assert source.bias is not None  # what a step does says so
        state[f"{names[target]}.bias"] = source.bias.detach().clone()
    return state


def _differs(file: str, theirs: str, ours: str) -> UserError:
    return UserError(
        f"model.init_from: {file} holds another network than model.network describes: {theirs}, "
        f"model.network has {ours} there"
    )


def _steps(layers: nn.Sequential) -> Iterator[_Step]:
    """What the layers do, in an order that does not depend on how they are written down.

    Dropout does nothing in prediction. ReLU and maximum commute, so it does not matter which is
    first. Padding is part of the convolution that it is for.
    """
    margins: tuple[int, ...] = (0, 0, 0, 0)
    waiting: _Step | None = None  # a ReLU, until it is known whether a pool follows
    for name, module in layers.named_children():
        name = name.partition("_")[2] or name
        if isinstance(module, nn.Dropout):
            continue
        if isinstance(module, nn.ZeroPad2d):
            margins = _sum(margins, tuple(module.padding))
            continue
        if isinstance(module, nn.ReLU):
            if waiting is None:
                waiting = (name, module, ("ReLU",))
            continue
        step = (name, module, _what(module, margins))
        if not isinstance(module, nn.MaxPool2d) and waiting is not None:
            yield waiting
            waiting = None
        margins = (0, 0, 0, 0)
        yield step
    if waiting is not None:
        yield waiting


def _what(module: nn.Module, margins: tuple[int, ...]) -> tuple[Any, ...]:
    if isinstance(module, nn.Conv2d):
        return (
            "convolution",
            module.in_channels,
            module.out_channels,
            tuple(module.kernel_size),
            _sum(margins, _padding(module)),
            tuple(module.stride),
            module.bias is not None,
        )
    if isinstance(module, nn.MaxPool2d) and margins == (0, 0, 0, 0):
        return "pool", _pair(module.kernel_size), _pair(module.stride)
    if isinstance(module, nn.Linear):
        return "dense", module.in_features, module.out_features, module.bias is not None
    if isinstance(module, nn.Flatten | FlattenChannelsLast):
        return ("flatten",)
    return (type(module).__name__,)


def _padding(module: nn.Conv2d) -> tuple[int, ...]:
    """(left, right, top, bottom), also where it is given as a word."""
    if isinstance(module.padding, str):
        if module.padding == "valid":
            return 0, 0, 0, 0
        totals = [k - 1 for k in module.kernel_size]
        top, left = (total // 2 for total in totals)
        return left, totals[1] - left, top, totals[0] - top
    vertical, horizontal = module.padding
    return horizontal, horizontal, vertical, vertical


def _sum(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(first, second, strict=True))


def _pair(size: int | tuple[int, ...]) -> tuple[int, ...]:
    return (size, size) if isinstance(size, int) else tuple(size)


def _words(step: tuple[Any, ...]) -> str:
    if step[0] == "convolution":
        _, inputs, filters, kernel, margins, stride, bias = step
        text = f"{filters} filters of {kernel[0]}x{kernel[1]} on {inputs} channels"
        text += f", padded by {margins}" * any(margins)
        text += f", stride {stride}" * (stride != (1, 1))
        return text + ", without bias" * (not bias)
    if step[0] == "pool":
        _, size, stride = step
        return f"a maximum of {size[0]}x{size[1]}" + f", stride {stride}" * (stride != size)
    if step[0] == "dense":
        return f"{step[2]} dense units on {step[1]} values" + ", without bias" * (not step[3])
    return str(step[0])


def _flattened_shape(keras: KerasSequential) -> tuple[int, int, int]:
    """(C, H, W) of the map that is flattened."""
    height, width, depth = keras.input_shape
    x = torch.zeros(1, depth, height, width)
    with torch.inference_mode():
        for module in keras.network:
            if isinstance(module, FlattenChannelsLast):
                break
            x = module(x)
    return int(x.shape[1]), int(x.shape[2]), int(x.shape[3])
