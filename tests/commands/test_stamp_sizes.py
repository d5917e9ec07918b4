"""Stamps of any survey's size, from the set to the maps, as a user types it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from command_lines import run_here
from toys import TINY, write_set

from rb.models.checkpoint import load_model
from rb.stamps import StampSet

SALIENCY = (
    "study=saliency", "study.n_shares=8", "study.n_methods=4", "study.n_sanity=2",
    "study.examples=1", "study.method_examples=1", "study.deletion_steps=4",
    "study.bootstrap=100", "study.smoothgrad.samples=2",
    "study.integrated_gradients.steps=4", "study.occlusion={window: 9, stride: 9}",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("size", "model"), [(30, "dia"), (63, "nodia")])
def test_a_network_of_the_stamps_size_from_training_to_maps(
    tmp_path, monkeypatch, capsys, as_before, size, model
):
    write_set(tmp_path / "set", 80, size=size)
    where = (f"data.path={tmp_path / 'set'}", f"paths.root={tmp_path}")
    trained = run_here(
        monkeypatch, "train.py", f"model={model}", *TINY, "data=stamps", *where
    )  # fmt: skip
    assert trained == 0, capsys.readouterr()
    checkpoint = next((tmp_path / "mlruns").rglob("best.ckpt"))
    network = load_model(checkpoint)
    assert network.inputs.size == size
    stamps = StampSet.open(tmp_path / "set")
    p_real = network.score(stamps)
    assert ((p_real >= 0) & (p_real <= 1)).all()

    assert run_here(monkeypatch, "evaluate.py", "runs=latest", f"paths.root={tmp_path}") == 0
    scores = pd.concat([pd.read_parquet(f) for f in tmp_path.rglob("scores.parquet")])
    expected = dict(zip(stamps.ids, p_real, strict=True))
    np.testing.assert_allclose(
        scores["p_real"], [expected[i] for i in scores["id"]], atol=1e-5
    )  # fmt: skip

    assert run_here(monkeypatch, "evaluate.py", *SALIENCY, f"paths.root={tmp_path}") == 0
    capsys.readouterr()

    # Stamps of another survey are refused by name.
    write_set(tmp_path / "other", 20)
    other = f"data.path={tmp_path / 'other'}"
    assert run_here(
        monkeypatch, "evaluate.py", f"runs={checkpoint}", "data=stamps", other,
        f"paths.root={tmp_path}",
    ) == 2  # fmt: skip
    assert f"takes stamps of {size} px, these have 51" in capsys.readouterr().err


def test_features_are_refused_on_stamps_of_another_size(tmp_path, monkeypatch, capsys, as_before):
    write_set(tmp_path / "set", 40, size=63)
    where = (f"data.path={tmp_path / 'set'}", f"paths.root={tmp_path}")
    assert run_here(monkeypatch, "train.py", "model=autoscan", "data=stamps", *where) == 2
    assert "defined on stamps of 51 px, these have 63" in capsys.readouterr().err


@pytest.mark.slow
def test_variance_planes_are_channels_like_others(tmp_path, monkeypatch, capsys, as_before):
    write_set(tmp_path / "set", 40, size=20, beside=True)
    where = ("data=stamps", f"data.path={tmp_path / 'set'}", f"paths.root={tmp_path}")
    inputs = ("model.inputs.channels=[srch,tmpl,srch_var]", "model.inputs.stacking=depth")
    assert run_here(monkeypatch, "train.py", "model=nodia", *TINY, *inputs, *where) == 0
    network = load_model(next((tmp_path / "mlruns").rglob("best.ckpt")))
    assert network.inputs.shape == (3, 20, 20)
    assert np.isfinite(network.score(StampSet.open(tmp_path / "set"))).all()
    assert torch.is_tensor(next(network.network.parameters()))
    capsys.readouterr()
    assert run_here(monkeypatch, "evaluate.py", *SALIENCY, f"paths.root={tmp_path}") == 2
    assert "this one also takes srch_var" in capsys.readouterr().err
