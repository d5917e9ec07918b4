"""Starting a network of ours from a published Keras file."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import keras_files as kf
import numpy as np
import pytest
import torch

from rb.errors import UserError
from rb.models.cnn import StampCNN
from rb.models.initial_weights import load_weights
from rb.stamps.inputs import InputSpec
from rb.stamps.stampset import CHANNELS

SHAPE = (17, 20, 2)  # rows, columns, channels: all different, so that no order is right by chance
CONVOLUTIONS = [
    {"filters": 3, "kernel": 3, "pool": 2, "dropout": 0.4},
    {"filters": 5, "kernel": 2, "padding": "same"},
]
REAL = "des/model_checkpoint_AAD_3s3DH.h5"


def layers() -> list[dict]:
    return [
        kf.conv("first", 3, activation="relu"),
        kf.layer("MaxPooling2D", "pool", pool_size=[2, 2], strides=[2, 2], padding="valid"),
        kf.layer("Dropout", "dropout", rate=0.1),
        kf.conv("second", 5, (2, 2), padding="same", activation="relu"),
        kf.layer("Flatten", "flatten", data_format="channels_last"),
        kf.dense("hidden", 7, activation="relu"),
        kf.dense("out", 2, activation="softmax"),
    ]


def ours() -> StampCNN:
    return StampCNN((SHAPE[2], *SHAPE[:2]), CONVOLUTIONS, [7]).eval()


@pytest.mark.parametrize("style", ["old", "new"])
def test_outputs_are_those_of_keras(tmp_path, style):
    weights = kf.random_weights(layers(), SHAPE, seed=3)
    file = kf.write(tmp_path / "m.h5", layers(), SHAPE, weights, style)
    network = ours()
    load_weights(network, str(file))
    x = np.random.default_rng(0).normal(0, 0.3, (6, *SHAPE))
    expected = kf.forward(layers(), weights, x)
    found = network(torch.from_numpy(x.transpose(0, 3, 1, 2)).float()).softmax(1)
    assert np.ptp(expected[:, 0]) > 0.1
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-5)


def change(at: int, **config: object) -> list[dict]:
    changed = deepcopy(layers())
    changed[at]["config"] |= config
    return changed


@pytest.mark.parametrize(
    ("stack", "message"),
    [
        (
            change(0, filters=4),
            "layer first is 4 filters of 3x3 on 2 channels, model.network has 3",
        ),
        (change(3, kernel_size=[3, 3]), "layer second is 5 filters of 3x3"),
        (change(3, padding="valid"), "padded by (0, 1, 0, 1)"),
        (change(1, pool_size=[3, 3], strides=[3, 3]), "layer pool is a maximum of 3x3"),
        (change(5, units=9), "layer hidden is 9 dense units on 315 values"),
        (change(5, activation="tanh"), "layer hidden_act is Tanh, model.network has ReLU there"),
        (change(5, use_bias=False), "without bias"),
        (
            [*layers()[:6], kf.dense("more", 7, activation="relu"), layers()[6]],
            "layer more is 7 dense units on 7 values, model.network has 2 dense units",
        ),
    ],
)
def test_another_architecture_is_refused_by_its_layer(tmp_path, stack, message):
    file = kf.write(tmp_path / "m.h5", stack, SHAPE, kf.random_weights(stack, SHAPE))
    with pytest.raises(UserError) as error:
        load_weights(ours(), str(file))
    assert message in str(error.value)
    assert str(error.value).startswith("model.init_from: ")
    assert "\n" not in str(error.value)


def test_the_published_weights_in_the_papers_network(shared_data: Path):
    """The checkpoint's outputs, out of the `StampCNN` of model=dia."""
    description = [{"filters": f, "kernel": 5, "pool": 2, "dropout": 0.4} for f in (16, 32, 64)]
    network = StampCNN((1, 51, 153), description, [32]).eval()
    load_weights(network, str(shared_data / REAL))
    table = json.loads((shared_data / "des/published.json").read_text())
    references = {
        name: entry["reference_AAD_3s3DH"]["p_real"]
        for name, entry in table.items()
        if entry.get("reference_AAD_3s3DH")
    }
    assert len(references) == 7
    for name, p_real in references.items():
        stored = np.load(shared_data / f"des/{name}.npz")
        x = InputSpec().prepare(np.stack([stored[channel] for channel in CHANNELS])[None])
        assert network(x).softmax(1)[0, 0].item() == pytest.approx(p_real, abs=1e-5)
    nodia = StampCNN((1, 51, 102), description, [32])
    with pytest.raises(UserError, match="32 dense units on 1920 values, model.network has 32"):
        load_weights(nodia, str(shared_data / REAL))
