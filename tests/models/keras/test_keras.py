from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
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
from rb.models.keras import file as keras_file
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


# -- files that are refused ----------------------------------------------------------------


@pytest.fixture
def good(tmp_path: Path) -> Path:
    layers = kf.small_stack()
    return kf.write(tmp_path / "good.h5", layers, SHAPE, kf.random_weights(layers, SHAPE))


def refused(path: Path, match: str) -> None:
    with pytest.raises(UserError, match=match) as caught:
        load_keras(path)
    assert "\n" not in str(caught.value)


def edited(edit: Callable[[list[dict]], object]) -> str:
    """Configuration of the small stack after `edit` of its layers."""
    config = json.loads(kf.model_json(kf.small_stack(), SHAPE))
    edit(config["config"]["layers"])
    return json.dumps(config)


def refused_config(text: str, match: str) -> None:
    with pytest.raises(UserError, match=match) as caught:
        KerasSequential(text, source="m.h5")
    assert "\n" not in str(caught.value)


def set_config(path: Path, text: str) -> None:
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = text


def replace(path: Path, node: str, **dataset) -> None:
    with h5py.File(path, "a") as file:
        del file[node]
        file.create_dataset(node, **dataset)


KERNEL = "model_weights/conv2d/conv2d/kernel:0"


def test_missing_and_foreign_files(tmp_path):
    refused(tmp_path / "none.h5", "no such file")
    refused(tmp_path, "no such file")
    (tmp_path / "text.h5").write_text("weights, honestly")
    refused(tmp_path / "text.h5", "not an HDF5 file")
    (tmp_path / "empty.h5").touch()
    refused(tmp_path / "empty.h5", "not an HDF5 file")
    (tmp_path / "zip.keras").write_bytes(b"PK\x03\x04" + bytes(100))
    refused(tmp_path / "zip.keras", r"zip archive.*\.h5")


def test_a_fifo_does_not_block(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.h5")
    refused(tmp_path / "pipe.h5", "no such file")


def test_truncated(good):
    data = good.read_bytes()
    good.write_bytes(data[: len(data) // 2])
    refused(good, "damaged or truncated")


@pytest.mark.parametrize(
    "kind", ["Lambda", "LSTM", "Sequential", "TFOpLambda", "SeparableConv2D", "ZeroPadding2D"]
)
def test_unknown_layers_are_named(kind):
    strange = kf.layer(kind, "strange", function="gASV")
    text = edited(lambda layers: layers.insert(2, strange))
    refused_config(text, rf"m.h5: layer strange \({kind}\).*cannot be translated")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "no model class"),
        ('{"class_name": "Functional", "config": {}}', "Functional model; only Sequential"),
        ('{"class_name": "Model", "config": {}}', "only Sequential"),
        ('{"class_name": "Sequential", "config": {"layers": []}}', "no layers"),
        ('{"class_name": "Sequential"}', "no layers"),
        ('{"class_name": "Sequential", "config": {"layers": [3]}}', "not a layer"),
        ('{"class_name": "Sequential", "config": [{"class_name": "Dense"}]}', "no configuration"),
    ],
)
def test_broken_configurations(text, match):
    refused_config(text, match)


@pytest.mark.parametrize(
    ("index", "values", "match"),
    [
        (0, {"filters": 0}, "filters is 0"),
        (0, {"filters": "many"}, "filters"),
        (0, {"filters": 10**12}, "filters"),
        (0, {"filters": 1 << 23}, "implausibl"),
        (0, {"kernel_size": [3]}, "kernel_size"),
        (0, {"kernel_size": [0, 3]}, "kernel_size"),
        (0, {"kernel_size": [10**9, 10**9], "padding": "same"}, "kernel_size"),
        (0, {"kernel_size": [11, 3]}, "too small"),
        (0, {"dilation_rate": [2, 2]}, "dilation and groups cannot be translated"),
        (0, {"groups": 2}, "dilation and groups cannot be translated"),
        (0, {"padding": "causal"}, "padding"),
        (0, {"data_format": "channels_first"}, "channels_first"),
        (0, {"activation": "mish_of_tomorrow"}, "activation mish_of_tomorrow"),
        (0, {"activation": {"class_name": "Custom>Thing", "config": {}}}, "Custom>Thing"),
        (0, {"use_bias": "yes"}, "use_bias"),
        (0, {"groups": 5}, "groups"),
        (0, {"activation": {"class_name": "ReLU", "config": {"max_value": 6}}}, "ceiling"),
        (0, {"activation": "elu"}, "activation elu cannot be translated"),
        (0, {"batch_input_shape": [None, None, None, 1]}, "input shape"),
        (0, {"batch_input_shape": [None, 51]}, "input shape"),
        (1, {"pool_size": [4096, 4096], "padding": "same", "strides": [1, 1]}, "implausibly large"),
        (2, {"rate": 1.5}, "rate"),
        (2, {"rate": float("nan")}, "rate"),
        (2, {"rate": 10**400}, "rate"),
        (4, {"units": 3}, "two classes"),
        (4, {"activation": "sigmoid"}, "neither softmax nor linear"),
        (4, {"name": "conv2d"}, "share a name"),
        (4, {"name": 7}, "no valid name"),
    ],
)
def test_settings_that_make_no_sense(index, values, match):
    refused_config(edited(lambda layers: layers[index]["config"].update(values)), match)


def test_layers_in_places_that_have_no_translation():
    def inserted(*layers: dict) -> str:
        return edited(lambda stack: stack.__setitem__(slice(2, 3), layers))

    average = kf.layer("AveragePooling2D", "a", pool_size=[2, 2], strides=[1, 1], padding="same")
    refused_config(inserted(average), "layer a .*padding is 'same', only valid can be translated")
    refused_config(inserted(kf.dense("pixelwise", 3)), "layer pixelwise .*needs a vector")
    refused_config(inserted(kf.layer("Softmax", "s", axis=1)), "layer s .*softmax over another")
    refused_config(
        inserted(kf.layer("GlobalAveragePooling2D", "g", keepdims=True)), "layer g .*keepdims"
    )


def test_no_input_shape():
    text = edited(lambda layers: layers[0]["config"].pop("batch_input_shape"))
    refused_config(text, "input's shape")


def test_probabilities_never_pass_for_logits():
    layers = [
        kf.conv("c", 2, activation="softmax"),
        kf.layer("GlobalAveragePooling2D", "g"),
    ]
    refused_config(kf.model_json(layers, SHAPE), "softmax has to be the network's last layer")


def test_missing_parts(good):
    with h5py.File(good, "a") as file:
        del file[KERNEL]
    refused(good, "listed but not in the file")
    with h5py.File(good, "a") as file:
        file["model_weights/conv2d"].attrs["weight_names"] = [b"conv2d/bias:0"]
    refused(good, "needs 2 weight arrays, the file has 1")
    with h5py.File(good, "a") as file:
        del file["model_weights"].attrs["layer_names"]
    refused(good, "layer_names")
    with h5py.File(good, "a") as file:
        del file.attrs["model_config"]
    refused(good, "weights only")


def test_wrong_shape_and_type(good):
    replace(good, KERNEL, data=np.zeros((3, 3, 2, 4), np.float32))
    refused(good, r"layer conv2d \(Conv2D\): kernel has shape \(3, 3, 2, 4\)")
    replace(good, KERNEL, data=np.zeros((3, 3, 2, 3), np.int32))
    refused(good, "not floating point")
    replace(good, KERNEL, data=np.full((3, 3, 2, 3), np.nan, np.float32))
    refused(good, "not finite")
    replace(good, KERNEL, shape=(3, 3, 2, 3), dtype=h5py.string_dtype())
    refused(good, "not floating point")
    replace(good, KERNEL, shape=(3, 3, 2, 3), dtype=h5py.ref_dtype)
    refused(good, "not floating point")


def test_shapes_that_lie_are_not_allocated(good):
    """16 GB promised by the configuration and the file alike, none of it stored."""
    units = 1 << 22
    layers = [
        kf.layer("Flatten", "f"),
        kf.dense("wide", units),
        kf.dense("last", 2),
    ]
    set_config(good, kf.model_json(layers, (50, 20, 1)))
    refused(good, "implausible number of weights")
    # 900 MB: plausible, but the file stores nothing of it.
    units = 225_000
    layers[1] = kf.dense("wide", units)
    set_config(good, kf.model_json(layers, (50, 20, 1)))
    for chunks in (None, (1000, 1000)):
        with h5py.File(good, "a") as file:
            top = file["model_weights"]
            top.attrs["layer_names"] = [b"wide", b"last"]
            if "wide" in top:
                del top["wide"]
            group = top.create_group("wide")
            group.attrs["weight_names"] = [b"kernel:0", b"bias:0"]
            group.create_dataset("kernel:0", (1000, units), np.float32, chunks=chunks)
            group["bias:0"] = np.zeros(units, np.float32)
        refused(good, "claims 900000000 bytes but the file stores 0")


def test_links_and_foreign_data_are_not_followed(good, tmp_path):
    shape = (3, 3, 2, 3)
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["kernel"] = np.zeros(shape, np.float32)
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(4 * 54))
    with h5py.File(good, "a") as file:
        del file[KERNEL]
        file[KERNEL] = h5py.ExternalLink(str(other), "kernel")
    refused(good, "link elsewhere")
    with h5py.File(good, "a") as file:
        del file[KERNEL]
        file[KERNEL] = h5py.SoftLink("/model_weights/dense/dense/kernel:0")
    refused(good, "link elsewhere")
    replace(good, KERNEL, shape=shape, dtype=np.float32, external=[(str(secret), 0, 216)])
    refused(good, "data in another file")
    layout = h5py.VirtualLayout(shape, np.float32)
    layout[...] = h5py.VirtualSource(str(other), "kernel", shape)
    with h5py.File(good, "a") as file:
        del file[KERNEL]
        file.create_virtual_dataset(KERNEL, layout)
    refused(good, "data in another file")
    with h5py.File(good, "a") as file:
        file.move("model_weights", "elsewhere")
        file["model_weights"] = h5py.ExternalLink(str(other), "/")
    refused(good, "link elsewhere")


def test_compressed_weights_are_read(good):
    before = load_keras(good).state_dict()
    with h5py.File(good, "r") as file:
        kernel = file[KERNEL][()]
    replace(good, KERNEL, data=kernel, compression="gzip", shuffle=True, chunks=(3, 3, 1, 3))
    for key, value in load_keras(good).state_dict().items():
        assert torch.equal(value, before[key])
    replace(good, KERNEL, data=kernel, compression="lzf")
    refused(good, "filter that is not read")


def test_attributes_that_are_not_text(good):
    with h5py.File(good, "a") as file:
        file.attrs["model_config"] = np.arange(5)
    refused(good, "not text")
    with h5py.File(good, "a") as file:
        file.attrs["model_config"] = [b"a", b"b"]
    refused(good, "holds 2 texts")


# -- damage --------------------------------------------------------------------------------


def outcome(path: Path) -> str:
    try:
        model = load_keras(path)
    except UserError as error:
        assert "\n" not in str(error)
        return "refused"
    assert model.n_parameters == 126_050
    return "read"


KINDS = ["anywhere", "metadata", "truncated"]


def mutants(data: np.ndarray, kind: str, n: int, seed: int = 0) -> Iterator[bytes]:
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    raw = data.tobytes()
    # The signatures of HDF5's own structures show where metadata lies.
    signatures = (b"TREE", b"HEAP", b"SNOD", b"OHDR", b"FRHP", b"GCOL", b"\x89HDF")
    marks = [i for i in range(len(raw)) if raw.startswith(signatures, i)]
    for _ in range(n):
        copy = data.copy()
        if kind == "truncated":
            copy = copy[: rng.integers(len(copy))]
        elif kind == "metadata":
            spots = rng.choice(marks) + rng.integers(0, 600, rng.integers(1, 5))
            copy[spots.clip(max=len(copy) - 1)] ^= rng.integers(1, 256, dtype=np.uint8)
        else:
            spots = rng.integers(0, len(copy), rng.integers(1, 2000))
            copy[spots] = rng.integers(0, 256, len(spots), dtype=np.uint8)
        yield copy.tobytes()


def check_mutants(source: Path, path: Path, kind: str, n: int, seed: int = 0) -> None:
    data = np.frombuffer(source.read_bytes(), np.uint8)
    expected = load_keras(source).n_parameters
    refusals = 0
    for copy in mutants(data, kind, n, seed):
        path.write_bytes(copy)
        try:
            assert load_keras(path).n_parameters == expected
        except UserError as error:
            assert "\n" not in str(error)
            refusals += 1
    assert refusals


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_copies_of_the_published_file(shared_data, tmp_path, kind):
    check_mutants(shared_data / REAL, tmp_path / "m.h5", kind, 7)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_mutated_copies(shared_data, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(keras_file, "_CPU_SECONDS", 3)
    check_mutants(shared_data / REAL, tmp_path / "m.h5", kind, 35, seed=1)


def test_a_heap_that_runs_in_circles_does_not_hang(tmp_path, monkeypatch):
    """The HDF5 library walks such a heap for ever; found by mutating files."""
    layers = kf.small_stack()
    weights = kf.random_weights(layers, SHAPE)
    path = kf.write(tmp_path / "m.h5", layers, SHAPE, weights, style="new")
    data = bytearray(path.read_bytes())
    text = b"sequential/dense/bias\0\0\0"
    size = data.index(text) + len(text) + 8
    data[size : size + 8] = (2**64 - 16).to_bytes(8, "little")
    path.write_bytes(data)
    monkeypatch.setattr(keras_file, "_CPU_SECONDS", 2)
    refused(path, "the HDF5 library gave up")


def test_the_original_is_left_alone(good, tmp_path):
    copy = tmp_path / "copy.h5"
    shutil.copy(good, copy)
    copy.chmod(0o444)
    before = copy.read_bytes()
    load_keras(copy)
    assert copy.read_bytes() == before
