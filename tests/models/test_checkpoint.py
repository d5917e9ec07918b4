"""A checkpoint is a whole model, and nothing in it is executed."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from toys import toy_stamps, write_set

import rb
from rb.errors import UserError
from rb.models.classifier import Classifier
from rb.models.contract import Provenance, TrainingSet
from rb.models.pyfunc import _load_pyfunc

NETWORK = {
    "_target_": "rb.models.cnn.StampCNN",
    "convolutions": [{"filters": 2, "kernel": 5, "pool": 4}],
    "dense": [4],
}

TRAINED_ON = TrainingSet("toy survey", "toy", "abc", "def", "123", 80)


def checkpoint(path, network=NETWORK, **changes):
    classifier = Classifier(
        NETWORK,
        {"channels": ["srch", "tmpl"]},
        {"_target_": "torch.optim.SGD"},
        seed=3,
        threshold=0.4,
        provenance=Provenance("small", "run", TRAINED_ON, licence="CC0"),
    )
    content = {"state_dict": classifier.state_dict()}
    classifier.on_save_checkpoint(content)
    content["rb"] |= {"network": network} | changes
    torch.save(content, path)
    return classifier


def test_a_loaded_model_scores_raw_stamps_as_the_network_does(tmp_path):
    classifier = checkpoint(tmp_path / "m.ckpt").eval()
    model = rb.load(tmp_path / "m.ckpt")
    stamps, _ = toy_stamps(10)
    with torch.no_grad():
        expected = classifier(model.inputs.prepare(stamps)).softmax(1)[:, 0]
    np.testing.assert_allclose(model.p_real(stamps), expected, rtol=1e-5)
    assert (model.threshold, model.inputs.kind) == (0.4, "nodia")
    assert model.provenance.training_set.digest == "abc"
    assert model.provenance == Provenance("small", "run", TRAINED_ON, licence="CC0")
    served = _load_pyfunc(str(tmp_path))
    np.testing.assert_allclose(served.predict(stamps), expected, rtol=1e-5)


def test_scores_do_not_depend_on_the_order_of_rows(tmp_path):
    checkpoint(tmp_path / "m.ckpt")
    model = rb.load(tmp_path / "m.ckpt")
    stamp_set = write_set(tmp_path / "s", 30)
    rows = np.random.default_rng(0).permutation(30)[:17]
    np.testing.assert_allclose(
        model.score(stamp_set, rows), model.score(stamp_set)[rows], rtol=1e-5
    )


def test_stamps_of_another_size_are_refused(tmp_path):
    checkpoint(tmp_path / "m.ckpt")
    with pytest.raises(UserError, match=r"the model takes \(N, 3, 51, 51\)"):
        rb.load(tmp_path / "m.ckpt").p_real(np.zeros((2, 3, 63, 63)))


def test_the_same_seed_gives_the_same_weights(tmp_path):
    one, two = (checkpoint(tmp_path / "m.ckpt").state_dict() for _ in range(2))
    assert all(torch.equal(one[k], two[k]) for k in one)


class Evil:
    def __reduce__(self):
        return print, ("executed",)


def test_a_pickle_is_not_executed(tmp_path, capsys):
    file = tmp_path / "evil.ckpt"
    torch.save({"state_dict": {}, "rb": Evil()}, file)
    with pytest.raises(UserError, match="evil.ckpt: damaged, or not a checkpoint of plain weights"):
        rb.load(file)
    file.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match="plain weights"):
        rb.load(file)
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 7}, "model of format 7"),
        ({"network": {"_target_": "torch.nn.Linear"}}, "not one of rb's own"),
        ({"network": {**NETWORK, "dense": [5]}}, "do not fit"),
        ({"inputs": {"channels": ["srch"]}}, "do not fit"),
        ({"inputs": {"colour": 1}}, "do not fit"),
        ({"threshold": 7}, "do not fit"),
        ({"provenance": {"name": "small", "training_set": {"digest": "abc"}}}, "do not fit"),
        ({"provenance": {"name": ["small"]}}, "do not fit"),
    ],
)
def test_foreign_descriptions_are_refused(tmp_path, changes, message):
    checkpoint(tmp_path / "m.ckpt", **changes)
    with pytest.raises(UserError, match=message):
        rb.load(tmp_path / "m.ckpt")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"\x80\x02garbage"])
def test_damaged_files(tmp_path, content):
    (tmp_path / "m.ckpt").write_bytes(content)
    with pytest.raises(UserError, match="m.ckpt: damaged"):
        rb.load(tmp_path / "m.ckpt")
    with pytest.raises(UserError, match="there is no such checkpoint"):
        rb.load(tmp_path / "none.ckpt")


def test_a_checkpoint_of_something_else(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "m.ckpt")
    with pytest.raises(UserError, match="not a checkpoint written by train.py"):
        rb.load(tmp_path / "m.ckpt")


def test_a_flipped_bit_never_gives_other_weights(tmp_path):
    file = tmp_path / "m.ckpt"
    expected = checkpoint(file).state_dict()
    whole = file.read_bytes()
    noticed = 0
    for bit in np.random.default_rng(1).integers(8 * len(whole), size=100).tolist():
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(content)
        try:
            found = rb.load(file).network.state_dict()
        except UserError as error:
            assert str(file) in str(error)
            noticed += 1
        else:
            assert all(torch.equal(found[k], expected[f"network.{k}"]) for k in found)
    assert noticed > 30
