"""Contestants that run in an environment of their own: Keras, which the paper used, at its best.

Nothing of `rb` is imported: it does not have to be installed beside TensorFlow.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
from worker import serve


def _model(network: dict[str, Any], shape: list[int]) -> Any:
    import keras
    from keras import layers

    model = keras.Sequential([keras.Input((*shape[1:], shape[0]))])
    for layer in network["convolutions"]:
        model.add(layers.Conv2D(layer["filters"], layer["kernel"], activation="relu"))
        model.add(layers.MaxPooling2D(layer["pool"]))
        if layer.get("dropout"):
            model.add(layers.Dropout(layer["dropout"]))
    model.add(layers.Flatten())
    for width in network["dense"]:
        model.add(layers.Dense(width, activation="relu"))
    model.add(layers.Dense(2, activation="softmax"))
    model.compile(
        keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def _opened(arrays: str, network: dict[str, Any], shape: list[int], n_parameters: int) -> Any:
    model = _model(network, shape)
    assert model.count_params() == n_parameters, "this is another network"
    with np.load(arrays) as found:  # prepared: scaled and side by side
        return model, found["x"], found["labels"], int(found["n_train"])


def fit(epochs: int, **data: Any) -> Callable[[], float]:
    """Keras `fit` with validation, from memory."""
    model, x, labels, n = _opened(**data)

    def run() -> float:
        model.fit(
            x[:n], labels[:n], batch_size=200, epochs=epochs, verbose=0,
            validation_data=(x[n:], labels[n:]), validation_batch_size=500,
        )  # fmt: skip
        return float(n * epochs)

    return run


def predict(epochs: int, **data: Any) -> Callable[[], float]:
    """Keras `predict` from memory, in the batch size that suits it best."""
    model, x, _, _ = _opened(**data)
    seconds = {}
    for size in (32, 64, 128, 256, 512):
        model.predict(x, batch_size=size, verbose=0)
        started = time.perf_counter()
        model.predict(x, batch_size=size, verbose=0)
        seconds[size] = time.perf_counter() - started
    best = min(seconds, key=lambda size: seconds[size])

    def run() -> float:
        model.predict(x, batch_size=best, verbose=0)
        return float(len(x))

    run.about = {"batch": best}  # type: ignore[attr-defined]
    return run


def one_by_one(epochs: int, **data: Any) -> Callable[[], float]:
    """Single stamps through a compiled function: the fastest way that Keras has for one."""
    import tensorflow as tf

    model, x, _, _ = _opened(**data)
    call = tf.function(lambda t: model(t, training=False))

    def run() -> float:
        for row in range(200):
            call(tf.convert_to_tensor(x[row : row + 1])).numpy()
        return 200.0

    return run


if __name__ == "__main__":
    serve({"Keras fit": fit, "Keras predict": predict, "Keras": one_by_one})
