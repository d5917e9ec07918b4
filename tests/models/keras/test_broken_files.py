"""Keras files that are broken, hostile or not of this kind: refused in one line, read in bounds."""

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

from rb.errors import UserError
from rb.models.keras import file as keras_file
from rb.models.keras.network import KerasSequential, load_keras

REAL = "des/model_checkpoint_AAD_3s3DH.h5"
SHAPE = (10, 12, 2)


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
