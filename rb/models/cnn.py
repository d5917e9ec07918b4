"""The small convolutional network of the paper and its relatives, from a description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rb.errors import UserError
from rb.models.layers import Dropout, conv_max_pool

_FILTERS_AT_ONCE = 8  # up to here a CPU's vector units have room for more filters
_CONVOLUTION_KEYS = {"filters", "kernel", "pool", "dropout", "padding"}


class StampCNN(nn.Module):
    """Convolutions with optional pooling and dropout, then dense layers.

    One class covers Tables 3, 4 and 6–9 of the paper and the kernel grid of Table 10.
    Weights start as in Keras, which the paper used: Glorot uniform, biases zero.

    Parameters
    ----------
    input_shape : (int, int, int)
        Channels, height and width of the input.
    convolutions : sequence of mapping
        From input to output, each with `filters` and `kernel` (px, square) and optionally
        `pool` (px, max pooling; none by default), `dropout` (rate after the pooling;
        none by default) and `padding` (`valid`, the default, or `same`).
    dense : sequence of int
        Widths of the hidden dense layers.
    n_classes : int
        Outputs. Class 0 is real, class 1 bogus.

    Raises
    ------
    UserError
        If the description is not complete or the image shrinks to nothing.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        convolutions: Sequence[Mapping[str, Any]],
        dense: Sequence[int] = (32,),
        n_classes: int = 2,
    ) -> None:
        super().__init__()
        channels, height, width = input_shape
        layers: list[nn.Module] = []
        for number, layer in enumerate(convolutions, 1):
            where = f"model.network.convolutions, layer {number}"
            _check_convolution(layer, where)
            kernel, pool = int(layer["kernel"]), int(layer.get("pool") or 1)
            padding = layer.get("padding", "valid")
            layers.append(nn.Conv2d(channels, int(layer["filters"]), kernel, padding=padding))
            if padding == "valid":
                height, width = height - kernel + 1, width - kernel + 1
            height, width = height // pool, width // pool
            if height < 1 or width < 1:
                raise UserError(f"{where}: nothing is left of the image; use smaller kernels")
            if pool > 1:
                layers.append(nn.MaxPool2d(pool))
            # ReLU and the maximum commute, so pooling first is the same function on a
            # quarter of the pixels.
            layers.append(nn.ReLU())
            if layer.get("dropout"):
                layers.append(Dropout(float(layer["dropout"])))
            channels = int(layer["filters"])
        layers.append(nn.Flatten())
        features = channels * height * width
        for units in dense:
            if isinstance(units, bool) or not isinstance(units, int) or units < 1:
                raise UserError(f"model.network.dense has {units}; give widths of at least 1")
            layers += [nn.Linear(features, int(units)), nn.ReLU()]
            features = int(units)
        layers.append(nn.Linear(features, n_classes))
        self.layers = nn.Sequential(*layers)
        self.apply(keras_initialisation)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, n_classes) of prepared stamps (N, C, H, W)."""
        return self.with_embedding(x)[0]

    def with_embedding(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and the last hidden layer (N, E), of prepared stamps (N, C, H, W)."""
        x = x.contiguous(memory_format=torch.channels_last)
        first, pool = self.layers[0], self.layers[1]
        if x.device.type == "cpu" and isinstance(first, nn.Conv2d) and _at_once(first, pool):
            hidden = self.layers[2:-1](conv_max_pool(first, int(pool.kernel_size), x))  # type: ignore[arg-type]
        else:
            hidden = self.layers[:-1](x)
        return self.layers[-1](hidden), hidden


def _at_once(first: nn.Conv2d, pool: nn.Module) -> bool:
    """Whether `conv_max_pool` is the faster way, and nobody watches the two modules."""
    return (
        isinstance(pool, nn.MaxPool2d)
        and first.padding != "same"
        and first.out_channels * int(pool.kernel_size) ** 2 <= _FILTERS_AT_ONCE  # type: ignore[arg-type]
        and not (first._forward_hooks or pool._forward_hooks)
        and not torch.jit.is_tracing()  # OpenVINO traces, and is faster with the two
    )


def keras_initialisation(module: nn.Module) -> None:
    """Initialise convolutions and dense layers as Keras does by default."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _check_convolution(layer: Mapping[str, Any], where: str) -> None:
    unknown = set(layer) - _CONVOLUTION_KEYS
    if unknown:
        raise UserError(
            f"{where}: unknown key '{sorted(unknown)[0]}'; known: "
            f"{', '.join(sorted(_CONVOLUTION_KEYS))}"
        )
    for key in ("filters", "kernel"):
        if not isinstance(layer.get(key), int) or layer[key] < 1:
            raise UserError(f"{where}: {key} is {layer.get(key)}; give a positive whole number")
    if layer.get("padding", "valid") not in ("valid", "same"):
        raise UserError(f"{where}: padding is '{layer['padding']}'; choose valid or same")
    if not 0 <= float(layer.get("dropout") or 0) < 1:
        raise UserError(f"{where}: dropout is {layer['dropout']}; give a rate below 1")
