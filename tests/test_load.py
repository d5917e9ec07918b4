"""`rb.load`, with which a notebook begins."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from composing import tracking_of, train_tiny
from known_networks import checkpoint
from toys import toy_stamps, write_set

import rb
from rb.errors import UserError


def test_importing_is_instant():
    code = (
        "import sys, rb; print(sorted({'torch', 'mlflow', 'pandas', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_file(tmp_path):
    file = checkpoint(tmp_path / "some.ckpt", ("srch", "tmpl"))
    model = rb.load(file)
    assert (model.provenance.name, model.inputs.kind, model.threshold) == ("some", "nodia", 0.5)
    np.testing.assert_array_equal(
        model.p_real(toy_stamps(4)[0]), rb.load(str(file)).p_real(toy_stamps(4)[0])
    )


def test_the_published_keras_file(shared_data: Path):
    model = rb.load(shared_data / "des/model_checkpoint_AAD_3s3DH.h5")
    assert model.n_parameters == 126_050
    assert model.inputs.channels == ("diff", "srch", "tmpl")
    assert model.provenance.training_set is None


@pytest.mark.slow
def test_runs_by_id_start_of_it_and_name(tmp_path):
    write_set(tmp_path / "set", 60)
    train_tiny(tmp_path, "nodia", "trainer.max_epochs=1", "name=first")
    train_tiny(tmp_path, "nodia", "trainer.max_epochs=1", "name=second", "seed=2")
    runs = tmp_path / "mlruns"
    newest = tracking_of(tmp_path).runs("training")[0]
    stamps, _ = toy_stamps(5)
    expected = rb.load("second", runs).p_real(stamps)
    assert newest.info.run_name == "second"
    for what in (newest.info.run_id, newest.info.run_id[:8], "latest"):
        np.testing.assert_array_equal(rb.load(what, runs).p_real(stamps), expected)
    assert (rb.load("first", runs).p_real(stamps) != expected).any()
    found = rb.load("second", runs).provenance
    assert found.run == newest.info.run_id
    assert found.training_set.digest == newest.data.tags["data.digest"]
    assert found.training_set.split_digest == newest.data.tags["split.digest"]
    assert found.code_version
    with pytest.raises(UserError, match="there is no run 'third'"):
        rb.load("third", runs)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("none.ckpt", "none.ckpt: there is no such checkpoint"),
        ("none.skops", "none.skops: no such file"),
        ("none.h5", "none.h5: no such file"),
        ("some_run", "some_run is no file of a model, and there are no runs in"),
    ],
)
def test_what_is_not_there(tmp_path, what, message):
    with pytest.raises(UserError, match=message) as error:
        rb.load(what, tmp_path / "mlruns")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "mlruns").exists()
