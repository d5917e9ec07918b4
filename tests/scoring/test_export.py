"""What `rb export` writes is the network, or is not written; what is read is a model of ours."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from exported import exported
from hypothesis import given, settings
from hypothesis import strategies as st
from known_networks import CONVOLUTIONS, LinearNetwork, weights
from torch import nn
from toys import all_beside, toy_stamps, write_set

import rb
from rb.cli import main
from rb.errors import UserError
from rb.models.backbones import BackboneCNN
from rb.models.checkpoint import NetworkScorer
from rb.models.cnn import StampCNN
from rb.models.contract import Provenance
from rb.models.files import load_file
from rb.scoring import export as module
from rb.scoring.export import _content, export
from rb.scoring.graph import _float_beyond, scaled
from rb.scoring.trial import trial_stamps
from rb.stamps.inputs import InputSpec
from rb.stamps.layout import SCALINGS
from rb.stamps.scaling import _float_at_or_beyond, scale


def test_the_file_says_what_the_network_says():
    source, target = exported()
    network, model = load_file(source), rb.load(target)
    stamps, _ = toy_stamps(150)
    np.testing.assert_allclose(model.p_real(stamps), network.p_real(stamps), atol=1e-5)
    for _, some in trial_stamps(network.inputs):
        np.testing.assert_allclose(model.p_real(some), network.p_real(some), atol=1e-5)
    assert (model.inputs, model.threshold) == (network.inputs, network.threshold)
    assert (model.provenance, model.n_parameters) == (network.provenance, network.n_parameters)
    assert model.network is None


def test_the_file_needs_nothing_of_ours():
    source, target = exported(("srch", "tmpl"))
    session = onnxruntime.InferenceSession(target.read_bytes())
    stamps, _ = toy_stamps(7)
    p_real, embedding = session.run(None, {"stamps": stamps})
    network = load_file(source)
    np.testing.assert_allclose(p_real, network.p_real(stamps), atol=1e-5)
    hidden = network.network.with_embedding(network.inputs.prepare(stamps))[1].detach().numpy()
    np.testing.assert_allclose(embedding, hidden, atol=1e-4)
    about = json.loads(session.get_modelmeta().custom_metadata_map["rb"])
    assert about["arrays"][0]["order"] == ["diff", "srch", "tmpl"]
    assert about["arrays"][0]["shape"] == ["N", 3, 51, 51]
    assert about["inputs"]["channels"] == ["srch", "tmpl"]
    assert (about["labels"], about["threshold"]) == ("0 real, 1 bogus; positive = real", 0.5)
    assert about["calibration"] is None and about["licence"] is None
    assert len(about["weights_digest"]) == 64
    assert about["checked"]["largest_difference"] <= about["checked"]["tolerance"] == 1e-5
    assert b"/rb/models" not in target.read_bytes()  # no paths of the machine that made it


def test_last_layers_of_the_networks():
    for network in (
        StampCNN((3, 51, 51), CONVOLUTIONS, [8]),
        BackboneCNN((3, 51, 51), "vgg16", dense=[8]),
    ):
        network.eval()
        x = torch.randn(2, 3, 51, 51)
        logits, hidden = network.with_embedding(x)
        assert hidden.shape == (2, 8)
        torch.testing.assert_close(logits, network(x), rtol=0, atol=0)
        last = [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1]
        torch.testing.assert_close(last(hidden), logits, rtol=0, atol=0)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_scaling_in_the_graph_is_the_scaling_before_training(scaling):
    for name, some in trial_stamps(InputSpec()):
        for channel in range(3):
            plane = some.images[:, channel]
            expected, found = scale(plane, scaling), scaled(torch.from_numpy(plane), scaling)
            torch.testing.assert_close(
                found, expected, rtol=1e-5, atol=1e-5, equal_nan=True, msg=name
            )


@settings(max_examples=300, deadline=None)
@given(st.floats(-3e38, 3e38), st.sampled_from([-1, 1]))
def test_the_next_float_without_nextafter(value, sign):
    limit = torch.tensor([value], dtype=torch.float64)
    expected = _float_at_or_beyond(limit, sign * torch.inf)
    assert _float_beyond(limit, sign).item() == expected.item()


@pytest.mark.slow
@pytest.mark.parametrize("stacking", ["horizontal", "depth"])
def test_everything_beside_the_stamps(tmp_path, stacking):
    side = ("psf_fwhm_srch", "psf")
    inputs = InputSpec(
        channels=("srch", "diff_var", "tmpl"), stacking=stacking, size=20, side=side, psf_size=9
    )

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(int(np.prod(inputs.shape)) + inputs.n_side, 2)

        def forward(self, x: torch.Tensor, side: torch.Tensor) -> torch.Tensor:
            return self.linear(torch.cat([x.flatten(1), side], 1)) / 30

    scorer = NetworkScorer(Network().eval(), inputs, 0.4, Provenance("beside"))
    about = export(scorer, tmp_path / "beside.onnx")
    assert [a["name"] for a in about["arrays"]] == ["stamps", "variance", "side"]
    model = rb.load(tmp_path / "beside.onnx")
    stamps = all_beside(toy_stamps(9, size=20)[0])
    np.testing.assert_allclose(model.p_real(stamps), scorer.p_real(stamps), atol=1e-5)
    with pytest.raises(UserError, match="has no embedding"):
        model.run(stamps, embedding=True)
    with pytest.raises(UserError, match="came without"):
        model.p_real(stamps.images)
    found = write_set(tmp_path / "set", 30, size=20, beside=True)
    np.testing.assert_allclose(model.score(found), scorer.score(found), atol=1e-5)


def test_a_file_that_differs_is_not_written(tmp_path, monkeypatch):
    source, _ = exported()

    class Wrong(module.ScoringGraph):
        def forward(self, stamps, variance=None, side=None):
            # Wrong where a pixel is missing only.
            found = super().forward(stamps, variance, side)
            return found[0] + 0.01 * stamps.isnan().any((1, 2, 3)).float(), *found[1:]

    monkeypatch.setattr(module, "ScoringGraph", Wrong)
    target = tmp_path / "model.onnx"
    with pytest.raises(UserError, match=r"not written, because it differs .* on NaN stamps"):
        export(load_file(source), target)
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_cannot_be_exported(tmp_path):
    class Odd(LinearNetwork):
        def forward(self, x):
            return super().forward(x) if float(x.sum()) > 0 else super().forward(-x)

    scorer = NetworkScorer(Odd(weights(), "horizontal").eval(), InputSpec(), 0.5, Provenance("odd"))
    with pytest.raises(UserError, match="odd: the network cannot be exported") as error:
        export(scorer, tmp_path / "odd.onnx")
    assert "\n" not in str(error.value) and list(tmp_path.iterdir()) == []


def test_the_command(tmp_path, capsys):
    source, target = exported()
    file = tmp_path / "model.onnx"
    write_set(tmp_path / "set", 40)
    words = ["export", str(source), "--out", str(file), "--stamps", str(tmp_path / "set")]
    assert main(words) == 0
    assert "on real stamps and hopeless ones p_real differs" in capsys.readouterr().out
    assert main(words) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0
    assert main(["export", str(file), "--out", str(file), "--overwrite"]) == 2
    assert "that file is read" in capsys.readouterr().err
    assert main(["export", str(target), "--out", str(tmp_path / "again.onnx")]) == 2
    assert "is exported already" in capsys.readouterr().err
    assert main(["export", str(source), "--out", str(tmp_path / "model.pt")]) == 2
    assert "ending .onnx" in capsys.readouterr().err
    assert main(["export", str(source), "--out", str(tmp_path / "no" / "model.onnx")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_a_set_that_does_not_fit(tmp_path):
    model = rb.load(exported()[1])
    with pytest.raises(UserError, match="needs diff"):
        model.score(write_set(tmp_path / "two", channels=("srch", "tmpl")))
    with pytest.raises(UserError, match="takes stamps of 51 px, these have 30"):
        model.score(write_set(tmp_path / "small", size=30))
    with pytest.raises(UserError, match="the model takes"):
        model.p_real(np.zeros((2, 3, 50, 50), np.float32))
    rows = np.array([5, 3, 99, 0])
    found = write_set(tmp_path / "right")
    np.testing.assert_array_equal(model.score(found, rows), model.score(found)[rows])


def changed(file: Path, change) -> Path:
    """The exported file after `change` of its protobuf and of what it says."""
    proto = onnx.load(exported()[1])
    entry = next(e for e in proto.metadata_props if e.key == "rb")
    about = json.loads(entry.value)
    change(proto, about)
    file.write_bytes(_content(proto, about))  # with digests that are right
    return file


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, a: a.update(format=99), "exported in format 99"),
        (lambda p, a: a["inputs"].update(size=63), "not a model that"),
        (lambda p, a: a["inputs"].update(size=10**9), "not a model that"),
        (lambda p, a: a["inputs"].update(side=["psf_fwhm_srch"]), "not a model that"),
        (lambda p, a: a["inputs"].update(channels=["flux"]), "model.inputs.channels"),
        (lambda p, a: a["inputs"].update(new=1), "not a model that"),
        (lambda p, a: a.update(threshold=7), "not a model that"),
        (lambda p, a: a.update(threshold="0.5"), "not a model that"),
        (lambda p, a: a.pop("provenance"), "not a model that"),
        (lambda p, a: a.clear(), "not a model that"),
        (lambda p, a: p.graph.output.pop(0), "not a model that"),
        (lambda p, a: p.graph.initializer.pop(0), "damaged"),
        (lambda p, a: p.graph.initializer[0].dims.append(10**6), "damaged"),
        (lambda p, a: p.opset_import[0].ClearField("version"), "damaged"),
    ],
)
def test_files_that_promise_what_they_do_not_hold(tmp_path, change, message):
    with pytest.raises(UserError, match=message) as error:
        rb.load(changed(tmp_path / "bad.onnx", change))
    assert "bad.onnx" in str(error.value) and "\n" not in str(error.value)


def test_a_flipped_bit_is_noticed(tmp_path):
    content = exported()[1].read_bytes()
    file, rng = tmp_path / "bad.onnx", np.random.default_rng(1)
    places = [*rng.integers(0, len(content), 60), content.index(b'"threshold": 0.5') + 15]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8)) if place != places[-1] else 4
        file.write_bytes(damaged)
        with pytest.raises(UserError, match=r"bad\.onnx"):
            rb.load(file)


def test_damaged_and_foreign_files(tmp_path):
    content = exported()[1].read_bytes()
    rng = np.random.default_rng(0)
    file = tmp_path / "bad.onnx"
    for piece in (b"", b"PK\x03\x04", content[: len(content) // 2], content[100:], rng.bytes(5000)):
        file.write_bytes(piece)
        with pytest.raises(UserError, match=r"bad\.onnx"):
            rb.load(file)
    node = onnx.helper.make_node("Identity", ["a"], ["b"])
    value = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1]) for n in "ab"]
    graph = onnx.helper.make_graph([node], "other", value[:1], value[1:])
    onnx.save(
        onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9
        ),
        file,
    )
    with pytest.raises(UserError, match="not a model that `rb export` wrote"):
        rb.load(file)
    with pytest.raises(UserError, match="there is no such model"):
        rb.load(tmp_path / "none.onnx")


def test_weights_elsewhere_are_not_followed(tmp_path, monkeypatch):
    proto = onnx.load(exported()[1])
    monkeypatch.chdir(tmp_path)
    onnx.save_model(
        proto, "inside.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    assert Path("w.bin").stat().st_size > 1000
    for where in ("w.bin", str(tmp_path / "w.bin"), f"../{tmp_path.name}/w.bin"):
        proto = onnx.load("inside.onnx", load_external_data=False)
        for tensor in proto.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = where
        Path("outside.onnx").write_bytes(proto.SerializeToString())
        with pytest.raises(UserError, match="damaged"):
            rb.load("outside.onnx")


@pytest.mark.slow
def test_published_weights_on_real_stamps(tmp_path, shared_data: Path):
    network = load_file(shared_data / "des/model_checkpoint_AAD_3s3DH.h5")
    export(network, tmp_path / "keras.onnx")
    model = rb.load(tmp_path / "keras.onnx")
    stored = [np.load(file) for file in sorted((shared_data / "des").glob("*.npz"))]
    lacking = np.full((51, 51), np.nan)
    stamps = np.stack([[one.get(c, lacking) for c in ("diff", "srch", "tmpl")] for one in stored])
    np.testing.assert_allclose(model.p_real(stamps), network.p_real(stamps), atol=1e-5)


def test_without_the_packages_for_it(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"pip install 'rb\[export\]'"):
        export(load_file(exported()[0]), tmp_path / "model.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    file = shutil.copy(exported()[1], tmp_path / "there.onnx")
    with pytest.raises(UserError, match=r"pip install 'rb\[score\]'"):
        rb.load(file)
