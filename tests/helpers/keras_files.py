"""Small Keras files, written as Keras writes them, and an independent forward pass in NumPy."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np

OLD_DTYPE: object = "float32"
NEW_DTYPE: object = {
    "module": "keras",
    "class_name": "DTypePolicy",
    "config": {"name": "float32"},
    "registered_name": None,
}


class EmptyMapError(Exception):
    """A stack that runs out of pixels."""


def layer(kind: str, name: str, **config: object) -> dict:
    return {"class_name": kind, "config": {"name": name, **config}}


def conv(name: str, filters: int, kernel=(3, 3), **config: object) -> dict:
    defaults = {
        "filters": filters,
        "kernel_size": list(kernel),
        "strides": [1, 1],
        "padding": "valid",
        "data_format": "channels_last",
        "dilation_rate": [1, 1],
        "activation": "linear",
        "use_bias": True,
    }
    return layer("Conv2D", name, **{**defaults, **config})


def dense(name: str, units: int, **config: object) -> dict:
    return layer("Dense", name, **{"units": units, "activation": "linear", **config})


def small_stack() -> list[dict]:
    return [
        conv("conv2d", 3, activation="relu"),
        layer("MaxPooling2D", "pool", pool_size=[2, 2], strides=[2, 2], padding="valid"),
        layer("Dropout", "dropout", rate=0.4),
        layer("Flatten", "flatten", data_format="channels_last"),
        dense("dense", 2, activation="softmax"),
    ]


def model_json(layers: list[dict], shape: tuple[int, ...], style: str = "old") -> str:
    """`style`: "old" (Keras 2), "new" (Keras 3), "list" (Keras before 2.2.3), "build"."""
    layers = json.loads(json.dumps(layers))
    batch = [None, *shape]
    for one in layers:
        one["config"]["dtype"] = NEW_DTYPE if style == "new" else OLD_DTYPE
        one["config"]["trainable"] = True
    if style == "new":
        first = layer("InputLayer", "input", batch_shape=batch, sparse=False, ragged=False)
        body: object = {"name": "sequential", "layers": [first, *layers]}
        layers[0]["module"] = "keras.layers"
        layers[0]["registered_name"] = None
        layers[0]["build_config"] = {"input_shape": batch}
    elif style == "build":
        body = {"name": "sequential", "layers": layers, "build_input_shape": batch}
    else:
        layers[0]["config"]["batch_input_shape"] = batch
        body = layers if style == "list" else {"name": "sequential", "layers": layers}
    return json.dumps({"class_name": "Sequential", "config": body})


def weight_shapes(one: dict, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    config = one["config"]
    if one["class_name"] == "Conv2D":
        shapes = {"kernel": (*config["kernel_size"], shape[-1], config["filters"])}
        return shapes | ({"bias": (config["filters"],)} if config["use_bias"] else {})
    if one["class_name"] == "Dense":
        shapes = {"kernel": (shape[-1], config["units"])}
        return shapes | ({"bias": (config["units"],)} if config.get("use_bias", True) else {})
    if one["class_name"] == "BatchNormalization":
        names = ["gamma"] * config.get("scale", True) + ["beta"] * config.get("center", True)
        return {name: (shape[-1],) for name in [*names, "moving_mean", "moving_variance"]}
    return {}


def random_weights(
    layers: list[dict], shape: tuple[int, ...], seed: int = 0
) -> dict[str, dict[str, np.ndarray]]:
    """Weights that suit the layers, in float32."""
    rng = np.random.default_rng(seed)
    weights: dict[str, dict[str, np.ndarray]] = {}
    x = np.zeros((1, *shape))
    for one in layers:
        shapes = weight_shapes(one, x.shape[1:])
        values = {k: rng.normal(0, 0.5, s).astype(np.float32) for k, s in shapes.items()}
        if "moving_variance" in values:
            values["moving_variance"] = np.abs(values["moving_variance"]) + np.float32(0.1)
        if values:
            weights[one["config"]["name"]] = values
        x = apply(one, values, x)
    return weights


def write(
    path: Path,
    layers: list[dict],
    shape: tuple[int, ...],
    weights: dict[str, dict[str, np.ndarray]],
    style: str = "old",
    rename: bool = False,
    root: bool = False,
) -> Path:
    """Write an HDF5 file as Keras does; `rename` as Keras does to a model loaded twice."""
    with h5py.File(path, "w") as file:
        file.attrs["backend"] = "tensorflow"
        file.attrs["keras_version"] = "3.4.1" if style == "new" else "2.2.4-tf"
        file.attrs["model_config"] = model_json(layers, shape, style)
        top = file if root else file.create_group("model_weights")
        names = [one["config"]["name"] for one in layers]
        groups = {n: f"{n}_7" if rename else n for n in names}
        text = list(groups.values())
        top.attrs["layer_names"] = text if style == "new" else [n.encode() for n in text]
        for name, group in groups.items():
            node = top.create_group(group)
            paths = {}
            for key in weights.get(name, {}):
                if style == "new":
                    paths[key] = f"sequential/{name}/{key}"
                else:
                    paths[key] = f"{group}{'_1' if rename else ''}/{key}:0"
            listed = list(paths.values())
            node.attrs["weight_names"] = listed if style == "new" else [p.encode() for p in listed]
            for key, where in paths.items():
                node.create_dataset(where, data=weights[name][key])
    return path


def forward(
    layers: list[dict], weights: dict[str, dict[str, np.ndarray]], x: np.ndarray
) -> np.ndarray:
    """What Keras would answer to `x` (N, H, W, C), in float64, window by window."""
    x = x.astype(np.float64)
    for one in layers:
        x = apply(one, weights.get(one["config"]["name"], {}), x)
    return x


def apply(one: dict, weights: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    kind, config = one["class_name"], one["config"]
    if kind == "Conv2D":
        return activate(config["activation"], convolve(config, weights, x))
    if kind in ("MaxPooling2D", "AveragePooling2D"):
        return pool(config, x, np.nanmax if kind[0] == "M" else np.nanmean)
    if kind == "Dense":
        y = x @ weights["kernel"].astype(np.float64) + weights.get("bias", 0)
        return activate(config["activation"], y)
    if kind == "BatchNormalization":
        scale = weights.get("gamma", 1) / np.sqrt(
            weights["moving_variance"].astype(np.float64) + config.get("epsilon", 1e-3)
        )
        return (x - weights["moving_mean"]) * scale + weights.get("beta", 0)
    if kind == "GlobalAveragePooling2D":
        return x.mean(axis=(1, 2))
    if kind == "Flatten":
        return x.reshape(len(x), -1)
    if kind == "Dropout":
        return x
    if kind == "Activation":
        return activate(config["activation"], x)
    if kind == "Softmax":
        return activate("softmax", x)
    if kind == "LeakyReLU":
        slope = config.get("alpha", config.get("negative_slope", 0.3))
        return np.where(x > 0, x, slope * x)
    assert kind == "ReLU"
    return np.maximum(x, 0)


def activate(name: str, x: np.ndarray) -> np.ndarray:
    if name == "softmax":
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)
    return {
        "linear": lambda: x,
        "relu": lambda: np.maximum(x, 0),
        "sigmoid": lambda: 1 / (1 + np.exp(-x)),
        "tanh": lambda: np.tanh(x),
    }[name]()


def starts(n: int, kernel: int, stride: int, padding: str) -> tuple[int, int]:
    """(first window's row, number of windows) along a side of `n` pixels."""
    if padding == "valid":
        return 0, (n - kernel) // stride + 1
    count = -(-n // stride)
    return -(max((count - 1) * stride + kernel - n, 0) // 2), count


def windows(config: dict, kernel: list[int], x: np.ndarray, fill: float):
    """Each output pixel's index and its window (N, kh, kw, C)."""
    grids = []
    for n, k, s in zip(x.shape[1:3], kernel, config["strides"], strict=True):
        first, count = starts(n, k, s, config["padding"])
        grids.append([first + i * s + np.arange(k) for i in range(count)])
    for i, rows in enumerate(grids[0]):
        for j, columns in enumerate(grids[1]):
            inside = np.ix_(
                (rows >= 0) & (rows < x.shape[1]), (columns >= 0) & (columns < x.shape[2])
            )
            window = np.full((len(x), len(rows), len(columns), x.shape[3]), fill)
            inner = x[:, rows.clip(0, x.shape[1] - 1)][:, :, columns.clip(0, x.shape[2] - 1)]
            window[:, inside[0], inside[1]] = inner[:, inside[0], inside[1]]
            yield (i, j), window


def convolve(config: dict, weights: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    kernel = weights["kernel"].astype(np.float64)
    cells = {
        where: np.einsum("nabc,abcf->nf", window, kernel) + weights.get("bias", 0)
        for where, window in windows(config, config["kernel_size"], x, 0.0)
    }
    return gather(cells)


def pool(config: dict, x: np.ndarray, how) -> np.ndarray:
    found = windows(config, config["pool_size"], x, np.nan)
    return gather({where: how(window, axis=(1, 2)) for where, window in found})


def gather(cells: dict[tuple[int, int], np.ndarray]) -> np.ndarray:
    if not cells:
        raise EmptyMapError
    rows, columns = max(cells)
    y = [[cells[i, j] for j in range(columns + 1)] for i in range(rows + 1)]
    return np.moveaxis(np.array(y), 2, 0)
