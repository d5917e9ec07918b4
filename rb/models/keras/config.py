"""Typed, checked access to the model configuration that Keras writes into its files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rb.errors import UserError

# No kernel, pool or stride of a stamp network comes near this; a larger one is a lie.
_MAX_SIDE = 4096


@dataclass(frozen=True)
class LayerConfig:
    """The configuration of one layer, with getters that name the layer when they fail.

    Parameters
    ----------
    source
        File or description for messages.
    kind
        Keras class name, such as `Conv2D`.
    name
        Name of the layer in the model.
    values
        The layer's `config` mapping.
    """

    source: str
    kind: str
    name: str
    values: Mapping[str, Any]

    def error(self, what: str) -> UserError:
        """Return an error about this layer, to be raised."""
        return UserError(f"{self.source}: layer {self.name} ({self.kind}): {what}")

    def flag(self, key: str, default: bool) -> bool:
        """Return a true/false setting."""
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.error(f"{key} is {value!r}, expected true or false")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Return a finite number; old files wrap one in `{"value": ...}`."""
        value = self.values.get(key, default)
        if isinstance(value, Mapping):
            value = value.get("value")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(f"{key} is {value!r}, expected a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self.error(f"{key} is not a finite number")
        return number

    def count(self, key: str, default: int | None = None) -> int:
        """Return a positive integer."""
        return self._whole(key, self.values.get(key, default), 1, 1 << 24)

    def pair(self, key: str, default: Any = None) -> tuple[int, int]:
        """Return (rows, columns) of a kernel, pool or stride; one number means both."""
        value = self.values.get(key, default)
        if value is None:
            value = default
        if isinstance(value, int | float):
            value = (value, value)
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise self.error(f"{key} is {value!r}, expected two positive integers")
        rows, columns = (self._whole(key, v, 1, _MAX_SIDE) for v in value)
        return rows, columns

    def choice(self, key: str, options: tuple[str, ...], default: str) -> str:
        """Return a setting that has to be one of `options`."""
        value = self.values.get(key, default)
        if value not in options:
            raise self.error(f"{key} is {value!r}, only {' and '.join(options)} can be translated")
        return value

    def axis(self, rank: int) -> int:
        """Return the layer's axis counted from 0 over (batch, ...), for inputs of `rank`."""
        value = self.values.get("axis", -1)
        if isinstance(value, list | tuple) and len(value) == 1:
            value = value[0]
        axis = self._whole("axis", value, -rank, rank - 1)
        return axis % rank

    def _whole(self, key: str, value: Any, low: int, high: int) -> int:
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not whole or not low <= value <= high:
            raise self.error(f"{key} is {str(value)[:60]}, expected an integer {low} to {high}")
        return int(value)


def parse_model_config(text: str, source: str) -> tuple[list[LayerConfig], tuple[int, int, int]]:
    """Take a Sequential model's configuration apart.

    Parameters
    ----------
    text
        JSON as Keras writes it: `model_config` of an HDF5 file or `model.to_json()`.
    source
        File name for messages.

    Returns
    -------
    layers
        One entry a layer, InputLayer left out.
    input_shape
        (height, width, channels) of the input.

    Raises
    ------
    UserError
        Where this is not the configuration of a Sequential model with a known input shape.
    """
    try:
        model = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source}: the model configuration is not valid JSON") from error
    if not isinstance(model, dict) or not isinstance(model.get("class_name"), str):
        raise UserError(f"{source}: the model configuration names no model class")
    if model["class_name"] != "Sequential":
        raise UserError(
            f"{source}: a {model['class_name'][:60]} model; only Sequential models are translated"
        )
    body = model.get("config")
    # Keras before 2.2.3 wrote the list of layers itself.
    entries = body.get("layers") if isinstance(body, dict) else body
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{source}: the model configuration lists no layers")
    layers = [_layer(entry, i, source) for i, entry in enumerate(entries)]
    shape = _input_shape(layers[0], entries[0], body, source)
    kept = [layer for layer in layers if layer.kind != "InputLayer"]
    names = [layer.name for layer in kept]
    if len(set(names)) < len(names):
        raise UserError(f"{source}: two layers of the model configuration share a name")
    return kept, shape


def _layer(entry: Any, index: int, source: str) -> LayerConfig:
    if not isinstance(entry, dict) or not isinstance(entry.get("class_name"), str):
        raise UserError(f"{source}: entry {index} of the model configuration is not a layer")
    values = entry.get("config")
    kind = entry["class_name"][:60]
    if not isinstance(values, dict):
        raise UserError(f"{source}: layer {index} ({kind}) has no configuration")
    name = values.get("name", f"layer_{index}")
    if not isinstance(name, str) or not name:
        raise UserError(f"{source}: layer {index} ({kind}) has no valid name")
    return LayerConfig(source, kind, name, values)


def _input_shape(
    first: LayerConfig, entry: dict[str, Any], body: Any, source: str
) -> tuple[int, int, int]:
    """(H, W, C), from any of the four places where Keras versions keep it."""
    build = entry.get("build_config")
    candidates = [
        first.values.get("batch_input_shape"),
        first.values.get("batch_shape"),
        build.get("input_shape") if isinstance(build, dict) else None,
        body.get("build_input_shape") if isinstance(body, dict) else None,
    ]
    shape = next((c for c in candidates if c is not None), None)
    if shape is None:
        raise UserError(f"{source}: the model configuration does not state the input's shape")
    if (
        not isinstance(shape, list)
        or len(shape) != 4
        or not all(type(n) is int and 0 < n <= _MAX_SIDE for n in shape[1:])
    ):
        raise UserError(
            f"{source}: input shape {str(shape)[:60]}; expected (batch, height, width, channels)"
        )
    return shape[1], shape[2], shape[3]
