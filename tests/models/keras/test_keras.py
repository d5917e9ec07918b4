from __future__ import annotations

import json
from pathlib import Path

import h5py
import keras_files as kf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rb.errors import UserError
from rb.models.keras.network import KerasSequential, load_keras
from rb.stamps.inputs import InputSpec
from rb.stamps.stampset import CHANNELS

REAL = "des/model_checkpoint_AAD_3s3DH.h5"
SHAPE = (10, 12, 2)


def probabilities(model: KerasSequential, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        logits = model(torch.from_numpy(np.moveaxis(x, 3, 1).astype(np.float32)))
    return torch.softmax(logits.double(), 1).numpy()


# -- the published checkpoint ---------------------------------------------------------------


@pytest.fixture(scope="module")
def published(shared_data: Path) -> KerasSequential:
    return load_keras(shared_data / REAL)


def test_the_published_network_is_the_papers(published):
    assert published.n_parameters == 126_050
    assert published.input_shape == (51, 153, 1)
    assert published.channels == ("diff", "srch", "tmpl")
    assert published.stacking == "horizontal"
    assert published.keras_version == "2.2.4-tf"
    assert not published.training
    assert [m.in_features for m in published.modules() if isinstance(m, nn.Linear)] == [1920, 32]
    assert sum(p.numel() for p in published.parameters()) == 126_050


def test_published_outputs_and_saliency_shares(published, shared_data):
    table = json.loads((shared_data / "des/published.json").read_text())
    checked = 0
    for name, entry in table.items():
        if not entry.get("reference_AAD_3s3DH"):
            continue  # the one candidate whose difference image was never printed
        stored = np.load(shared_data / f"des/{name}.npz")
        stamps = np.stack([stored[channel] for channel in CHANNELS])[None]
        x = InputSpec().prepare(stamps).requires_grad_()
        reference = entry["reference_AAD_3s3DH"]
        assert published(x).softmax(1)[0, 0].item() == pytest.approx(reference["p_real"], abs=1e-5)
        peak = torch.softmax(published(x), 1).max()
        slope = torch.autograd.grad(peak, x)[0].abs().double().numpy()[0, 0]
        shares = [slope[:, 51 * i : 51 * (i + 1)].sum() / slope.sum() for i in range(3)]
        np.testing.assert_allclose(shares, reference["gm_diff_srch_temp"], atol=1e-5)
        checked += 1
    assert checked == 7


# -- numerics against an independent forward pass ------------------------------------------


def check(tmp_path: Path, layers: list[dict], shape: tuple[int, ...], seed: int, **how) -> None:
    weights = kf.random_weights(layers, shape, seed)
    path = kf.write(tmp_path / "m.h5", layers, shape, weights, **how)
    compare(load_keras(path), layers, weights, shape, seed)


def compare(model: KerasSequential, layers, weights, shape, seed: int) -> None:
    x = np.random.default_rng(seed + 1).normal(0, 1, (2, *shape)).astype(np.float32)
    expected = kf.forward(layers, weights, x)
    np.testing.assert_allclose(probabilities(model, x), expected, atol=2e-4)
    assert model.n_parameters == sum(v.size for w in weights.values() for v in w.values())


ACTIVATIONS = ["linear", "relu", "softmax", "sigmoid", "tanh"]
side = st.integers(1, 3)
padding = st.sampled_from(["valid", "same"])


@st.composite
def map_layers(draw, index: int) -> dict:
    name = f"layer{index}"
    kind = draw(st.sampled_from(["conv", "pool", "norm", "act", "drop"]))
    if kind == "conv":
        return kf.conv(
            name,
            draw(st.integers(1, 4)),
            [draw(side), draw(side)],
            strides=[draw(side), draw(side)],
            padding=draw(padding),
            activation=draw(st.sampled_from(ACTIVATIONS)),
            use_bias=draw(st.booleans()),
        )
    if kind == "pool":
        pool = draw(st.sampled_from(["MaxPooling2D", "AveragePooling2D"]))
        return kf.layer(
            pool,
            name,
            pool_size=[draw(side), draw(side)],
            strides=[draw(side), draw(side)],
            padding=draw(padding) if pool == "MaxPooling2D" else "valid",
        )
    if kind == "norm":
        return kf.layer(
            "BatchNormalization",
            name,
            axis=draw(st.sampled_from([-1, 3, [3]])),
            epsilon=0.01,
            momentum=0.9,
            scale=draw(st.booleans()),
            center=draw(st.booleans()),
        )
    if kind == "drop":
        return kf.layer("Dropout", name, rate=0.25)
    return draw(
        st.sampled_from(
            [
                kf.layer("Activation", name, activation="tanh"),
                kf.layer("ReLU", name, max_value=None, negative_slope=0.0, threshold=0.0),
                kf.layer("LeakyReLU", name, alpha=0.3),
                kf.layer("LeakyReLU", name, negative_slope=0.07),
                kf.layer("Softmax", name, axis=draw(st.sampled_from([-1, 3]))),
            ]
        )
    )


@st.composite
def stacks(draw) -> list[dict]:
    layers = [draw(map_layers(i)) for i in range(draw(st.integers(1, 4)))]
    if draw(st.booleans()):
        layers.append(kf.layer("Flatten", "flatten", data_format="channels_last"))
    else:
        layers.append(kf.layer("GlobalAveragePooling2D", "pooled"))
    if draw(st.booleans()):
        layers.append(kf.dense("hidden", 3, activation=draw(st.sampled_from(ACTIVATIONS))))
        layers.append(kf.layer("BatchNormalization", "normed", axis=[1]))
    if draw(st.booleans()):
        layers.append(kf.dense("last", 2, use_bias=False, activation="softmax"))
    else:
        layers += [kf.dense("last", 2), kf.layer("Softmax", "classes", axis=-1)]
    return layers


@settings(max_examples=80, deadline=None)
@given(layers=stacks(), style=st.sampled_from(["old", "new", "list", "build"]), seed=st.integers(0))
def test_random_stacks_equal_an_independent_forward_pass(layers, style, seed):
    config = kf.model_json(layers, SHAPE, style)
    try:
        weights = kf.random_weights(layers, SHAPE, seed)
    except kf.EmptyMapError:
        with pytest.raises(UserError, match="too small"):
            KerasSequential(config)
        return
    compare(KerasSequential(config, weights).eval(), layers, weights, SHAPE, seed)


def test_flatten_is_translated_from_channels_last(tmp_path):
    layers = [
        kf.layer("Flatten", "flatten"),
        kf.dense("dense", 2, activation="softmax"),
    ]
    check(tmp_path, layers, (3, 4, 5), 3)


def test_channels_are_guessed_from_the_shape(tmp_path):
    layers = [kf.layer("GlobalAveragePooling2D", "g"), kf.dense("d", 2)]
    for shape, channels, stacking in [
        ((51, 153, 1), ("diff", "srch", "tmpl"), "horizontal"),
        ((51, 102, 1), ("srch", "tmpl"), "horizontal"),
        ((51, 51, 3), ("diff", "srch", "tmpl"), "depth"),
        ((51, 51, 2), ("srch", "tmpl"), "depth"),
        ((51, 51, 1), None, None),
    ]:
        weights = kf.random_weights(layers, shape)
        model = load_keras(kf.write(tmp_path / "m.h5", layers, shape, weights))
        assert (model.channels, model.stacking) == (channels, stacking)


@pytest.mark.parametrize(
    ("style", "rename", "root"),
    [
        ("old", False, False),
        ("old", True, False),
        ("old", True, True),
        ("new", False, False),
        ("new", True, True),
        ("list", False, True),
        ("build", True, False),
    ],
)
def test_where_keras_versions_put_things(tmp_path, style, rename, root):
    check(tmp_path, kf.small_stack(), SHAPE, 5, style=style, rename=rename, root=root)


def test_names_that_outgrow_one_attribute(tmp_path):
    layers = kf.small_stack()
    path = kf.write(tmp_path / "m.h5", layers, SHAPE, kf.random_weights(layers, SHAPE))
    expected = load_keras(path).state_dict()
    with h5py.File(path, "a") as file:
        top = file["model_weights"]
        names = top.attrs["layer_names"]
        del top.attrs["layer_names"]
        top.attrs["layer_names0"], top.attrs["layer_names1"] = names[:2], names[2:]
    for key, value in load_keras(path).state_dict().items():
        assert torch.equal(value, expected[key])


def test_a_saved_network_needs_no_hdf5_file(tmp_path):
    layers = kf.small_stack()
    path = kf.write(tmp_path / "m.h5", layers, SHAPE, kf.random_weights(layers, SHAPE))
    model = load_keras(path)
    torch.save({"config": model.config, "state": model.state_dict()}, tmp_path / "m.pt")
    saved = torch.load(tmp_path / "m.pt", weights_only=True)
    again = KerasSequential(saved["config"]).eval()
    again.load_state_dict(saved["state"])
    x = torch.randn(3, 2, 10, 12)
    assert torch.equal(again(x), model(x))


def test_the_shape_of_the_inputs_is_checked():
    config = kf.model_json(kf.small_stack(), (51, 153, 1))
    assert KerasSequential(config, input_shape=InputSpec().shape).channels == InputSpec().channels
    with pytest.raises(UserError, match="takes 51x153x1, .* configured as 51x51x3"):
        KerasSequential(config, input_shape=InputSpec(stacking="depth").shape)


def test_without_weights_it_starts_like_keras():
    config = kf.model_json(
        [kf.conv("c", 64), kf.layer("Flatten", "f"), kf.dense("d", 2)], (12, 12, 8)
    )
    torch.manual_seed(1)
    model = KerasSequential(config)
    first = model.network[0]
    limit = np.sqrt(6 / (9 * 8 + 9 * 64))
    assert not first.bias.any()
    assert 0.95 * limit < first.weight.abs().max() <= limit


def test_no_module_is_shared_or_in_place(tmp_path):
    layers = [kf.conv("a", 4, activation="relu"), kf.conv("b", 4, activation="relu")]
    layers += [kf.layer("Flatten", "f"), kf.dense("d", 2, activation="softmax")]
    model = KerasSequential(kf.model_json(layers, SHAPE))
    leaves = [m for m in model.network.modules() if not list(m.children())]
    assert len({id(m) for m in leaves}) == len(leaves) == 6
    assert not any(getattr(m, "inplace", False) for m in leaves)


def test_it_can_be_fine_tuned(tmp_path):
    layers = kf.small_stack()
    path = kf.write(tmp_path / "m.h5", layers, SHAPE, kf.random_weights(layers, SHAPE))
    model = load_keras(path).train()
    x, y = torch.randn(32, 2, 10, 12), torch.arange(32) % 2
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_files_of_the_installed_keras(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras", exc_type=ImportError)
    stack = keras.layers
    original = keras.Sequential(
        [
            stack.Input((21, 42, 1)),
            stack.Conv2D(4, 5, activation="relu"),
            stack.MaxPooling2D(2, padding="same"),
            stack.Dropout(0.4),
            stack.Conv2D(6, 3, padding="same", strides=2, use_bias=False),
            stack.BatchNormalization(),
            stack.LeakyReLU(),
            stack.AveragePooling2D(3, strides=2),
            stack.ReLU(),
            stack.Flatten(),
            stack.Dense(8, activation=stack.LeakyReLU(0.1)),
            stack.Dense(2, activation="softmax"),
        ]
    )
    rng = np.random.default_rng(0)
    original.set_weights([rng.uniform(0.1, 0.6, w.shape) for w in original.get_weights()])
    original.save(tmp_path / "m.h5")
    model = load_keras(tmp_path / "m.h5")
    x = rng.normal(0, 1, (4, 21, 42, 1)).astype(np.float32)
    expected = original.predict(x, verbose=0)
    np.testing.assert_allclose(probabilities(model, x), expected, atol=1e-5)
    assert (model.channels, model.stacking) == (("srch", "tmpl"), "horizontal")
    original.save_weights(tmp_path / "only.weights.h5")
    with pytest.raises(UserError, match="weights only"):
        load_keras(tmp_path / "only.weights.h5")
