"""Networks trained with Keras, as torch modules: no TensorFlow, no Keras.

The authors of the paper published their trained networks as Keras HDF5 files (Acero-Cuellar et
al., arXiv 2203.07390). `load_keras` builds the network from the model configuration inside
such a file and fills in its weights, for any Sequential model of the layer types in
`rb.models.keras.layers`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from rb.errors import UserError
from rb.models.keras.config import LayerConfig, parse_model_config
from rb.models.keras.file import KerasFile, read_keras_file
from rb.models.keras.layers import Piece, Translation, translate

_ALL_CHANNELS = ("diff", "srch", "tmpl")


class KerasSequential(nn.Module):
    """A Keras Sequential classifier of two classes as a torch module.

    The softmax at the end is left out, so that the module returns logits like every network here.
    Column 0 is real, column 1 bogus, as in the labels of the paper. Each use of an activation or
    a pool has a module of its own and nothing works in place, as attribution methods need.

    Parameters
    ----------
    config
        The model's configuration as Keras' JSON; kept in `config`, so that a saved
        `state_dict` can be loaded into `KerasSequential(config)` without the HDF5 file.
    weights
        Arrays by layer and weight name, as `load_keras` reads them; Keras' default
        initialisation (Glorot uniform, zero bias) where None.
    keras_version
        Version that wrote the file, if known.
    source
        File name for messages.
    input_shape
        (C, H, W) of what the network will be fed, checked where it is given.

    Attributes
    ----------
    input_shape : tuple of int
        (H, W, C) of the network's input; the module takes (N, C, H, W).
    channels : tuple of str or None
        The stamps that the shape suggests: `("diff", "srch", "tmpl")` for S x 3S or S x S x 3,
        `("srch", "tmpl")` for S x 2S or S x S x 2; None where the shape does not say.
    stacking : {"horizontal", "depth"} or None
        Whether those are side by side or in depth.
    n_parameters : int
        Keras' count, moving means and variances included.

    Raises
    ------
    UserError
        Where a layer or setting cannot be translated, the model does not end in two classes, or
        the inputs have another shape.
    """

    def __init__(
        self,
        config: str,
        weights: Mapping[str, Mapping[str, np.ndarray]] | None = None,
        keras_version: str | None = None,
        source: str = "model configuration",
        input_shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        plan, self.input_shape = _plan(config, source)
        height, width, depth = self.input_shape
        if input_shape is not None and tuple(input_shape) != (depth, height, width):
            raise UserError(
                f"{source}: the network takes {height}x{width}x{depth}, but its inputs are "
                f"configured as {'x'.join(map(str, (*input_shape[1:], input_shape[0])))}; set "
                "model.inputs to the channels and the stacking that it was trained with"
            )
        self.config = config
        self.keras_version = keras_version
        self.channels, self.stacking = _guess_channels(self.input_shape)
        self.n_parameters = sum(prod(s) for _, step in plan for s in step.weights.values())
        self.network = nn.Sequential()
        for position, (layer, piece) in enumerate(_without_softmax(plan, source)):
            stem = re.sub(r"\W", "_", layer.name)
            name = "_".join(filter(None, (f"{position:02d}", stem, piece.role)))
            given = None if weights is None else weights.get(layer.name, {})
            self.network.add_module(name, piece.make(given))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of real and bogus.

        Parameters
        ----------
        x
            Scaled and stacked stamps, float32, (N, C, H, W).

        Returns
        -------
        torch.Tensor
            (N, 2).
        """
        return self.network(x)


def load_keras(path: str | Path) -> KerasSequential:
    """Build a network from a Keras HDF5 file.

    Parameters
    ----------
    path
        File with the whole model: `model.save("….h5")`, or a checkpoint written so.

    Returns
    -------
    KerasSequential
        In evaluation mode.

    Raises
    ------
    UserError
        Where the file is missing, damaged, holds weights only, holds a model that is not
        Sequential, a layer that cannot be translated, or weights that do not fit.
    """
    file = read_keras_file(path)
    plan, _ = _plan(file.config, str(path))
    return KerasSequential(file.config, _fit_weights(file, plan), file.version, str(path)).eval()


_Plan = list[tuple[LayerConfig, Translation]]


def _plan(config: str, source: str) -> tuple[_Plan, tuple[int, int, int]]:
    """Walk through the layers with shapes only; nothing is allocated before this went well."""
    layers, input_shape = parse_model_config(config, source)
    plan: _Plan = []
    shape: tuple[int, ...] = input_shape
    for layer in layers:
        step = translate(layer, shape)
        plan.append((layer, step))
        shape = step.shape
    if shape != (2,):
        raise UserError(f"{source}: the network ends with shape {shape}, not with two classes")
    _without_softmax(plan, source)
    return plan, input_shape


def _without_softmax(plan: _Plan, source: str) -> list[tuple[LayerConfig, Piece]]:
    pieces = [(layer, piece) for layer, step in plan for piece in step.pieces]
    while pieces and pieces[-1][1].kind == "identity":
        pieces.pop()
    if pieces and pieces[-1][1].kind == "softmax":
        pieces.pop()
    elif pieces and pieces[-1][1].kind == "activation":
        raise UserError(
            f"{source}: layer {pieces[-1][0].name} ends the network with an activation that is "
            "neither softmax nor linear, so there are no class probabilities"
        )
    elif _softmax_is_last_change(pieces):
        raise UserError(f"{source}: the softmax has to be the network's last layer")
    return pieces


def _softmax_is_last_change(pieces: list[tuple[LayerConfig, Piece]]) -> bool:
    """Whether probabilities would pass for logits: a softmax, then only pools and reshaping."""
    for _, piece in reversed(pieces):
        if piece.kind in ("softmax", "trained"):
            return piece.kind == "softmax"
    return False


def _guess_channels(shape: tuple[int, int, int]) -> tuple[tuple[str, ...] | None, str | None]:
    height, width, depth = shape
    if depth == 1 and width in (2 * height, 3 * height):
        return _ALL_CHANNELS[3 - width // height :], "horizontal"
    if height == width and depth in (2, 3):
        return _ALL_CHANNELS[3 - depth :], "depth"
    return None, None


def _fit_weights(file: KerasFile, plan: _Plan) -> dict[str, dict[str, np.ndarray]]:
    """Weights by layer and Keras' name for them, each of the shape that the layer needs."""
    groups = _match_groups(file, [layer for layer, step in plan if step.weights])
    weights: dict[str, dict[str, np.ndarray]] = {}
    for layer, step in plan:
        if not step.weights:
            continue
        arrays = groups[layer.name]
        if len(arrays) != len(step.weights):
            raise layer.error(
                f"needs {len(step.weights)} weight arrays, the file has {len(arrays)}"
            )
        # The path in front of a weight's name is arbitrary ("conv2d_3_1/kernel:0"); where its
        # last part does not say which weight it is, Keras' order does.
        found = {name.rsplit("/", 1)[-1].partition(":")[0]: a for name, a in arrays.items()}
        if set(found) != set(step.weights):
            found = dict(zip(step.weights, arrays.values(), strict=True))
        for key, shape in step.weights.items():
            if found[key].shape != shape:
                raise layer.error(f"{key} has shape {found[key].shape}, {shape} is needed")
        weights[layer.name] = found
    return weights


def _match_groups(
    file: KerasFile, layers: list[LayerConfig]
) -> dict[str, Mapping[str, np.ndarray]]:
    """Weight group of each layer that has weights: by name, else in order, as Keras does."""
    if all(layer.name in file.groups for layer in layers):
        return {layer.name: file.groups[layer.name] for layer in layers}
    filled = [group for group in file.groups.values() if group]
    if len(filled) != len(layers):
        raise UserError(
            f"{file.path}: the configuration has {len(layers)} layers with weights, "
            f"the file {len(filled)}"
        )
    return {layer.name: group for layer, group in zip(layers, filled, strict=True)}
