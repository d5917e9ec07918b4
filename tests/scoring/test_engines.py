"""Whatever engine predicts, it says what PyTorch says, and which one it was."""

from __future__ import annotations

import numpy as np
import pytest
from exported import exported
from toys import toy_stamps, write_set

import rb
from rb.errors import UserError
from rb.models.files import load_file
from rb.scoring import engines
from rb.scoring.load import engine_of
from rb.stamps.batch import Stamps


@pytest.fixture
def eager(monkeypatch):
    """Engines are looked for at once."""
    monkeypatch.setattr(engines, "_WORTH_IT_S", 0.0)
    monkeypatch.setattr(engines, "_WORTH_A_KEPT_ONE_S", 0.0)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_engines_agree_with_torch(tmp_path, monkeypatch, eager, name):
    pytest.importorskip(name)
    source, _ = exported(("srch", "tmpl"))
    network, scorer = load_file(source), engines.EngineScorer(load_file(source), tmp_path)
    predict = getattr(scorer, f"_{name}")()
    monkeypatch.setattr(scorer, f"_{name}", lambda: predict)
    # The fastest, whatever the clock says.
    monkeypatch.setattr(engines, "_seconds", lambda engine, stamps: float(engine is not predict))
    found = write_set(tmp_path / "set", 300, absent={3: 1})
    rows = np.random.default_rng(0).permutation(300)
    expected = network.score(found, rows)
    np.testing.assert_allclose(scorer.score(found, rows), expected, atol=1e-5)
    assert scorer.engine == engine_of(scorer) == name
    np.testing.assert_allclose(scorer.p_real(found[rows]), expected, atol=1e-5)


def test_an_engine_that_differs_is_not_used(tmp_path, monkeypatch, eager):
    scorer = engines.EngineScorer(load_file(exported()[0]))
    wrong = scorer._torch
    monkeypatch.setattr(scorer, "_onnxruntime", lambda: lambda s: wrong(s) + np.float32(2e-5))
    monkeypatch.setattr(scorer, "_openvino", broken)
    stamps, _ = toy_stamps(300)
    np.testing.assert_array_equal(scorer.p_real(stamps), wrong(Stamps(stamps)))
    assert scorer.engine == "torch"
    assert scorer.refused["onnxruntime"].startswith("differs from torch by 2")
    assert scorer.refused["openvino"] == "failed (RuntimeError)"


def broken():
    raise RuntimeError("no such instruction")


def test_few_stamps_are_not_worth_an_engine():
    model = rb.load(exported()[0])
    stamps, _ = toy_stamps(20)
    np.testing.assert_array_equal(model.p_real(stamps), load_file(exported()[0]).p_real(stamps))
    assert model.engine == "torch" and not model.refused
    assert model.network is not None  # saliency and the like work on it


def test_embeddings(tmp_path):
    source, target = exported()
    stamps, _ = toy_stamps(70)
    p_real, hidden = rb.load(source).run(stamps, embedding=True)
    again = rb.load(target).run(stamps, embedding=True)
    np.testing.assert_allclose(again[0], p_real, atol=1e-5)
    np.testing.assert_allclose(again[1], hidden, atol=1e-4)
    assert hidden.shape == (70, 16)
    assert [part.shape for part in rb.load(target).run(stamps[:0], embedding=True)] == [
        (0,),
        (0, 16),
    ]
    with pytest.raises(UserError, match="the model takes"):
        rb.load(source).run(stamps[:, :2])


def test_a_graph_is_made_once_for_a_network(tmp_path, monkeypatch):
    scorer = engines.EngineScorer(load_file(exported()[0]), tmp_path)
    predict = scorer._onnxruntime()
    (kept,) = (tmp_path / "engines").iterdir()
    monkeypatch.setattr(engines, "export", broken)
    stamps = Stamps(toy_stamps(5)[0])
    again = engines.EngineScorer(load_file(exported()[0]), tmp_path)._onnxruntime()
    np.testing.assert_array_equal(again(stamps), predict(stamps))
    kept.write_bytes(b"damaged")
    monkeypatch.undo()
    np.testing.assert_array_equal(scorer._onnxruntime()(stamps), predict(stamps))


def test_a_graph_is_made_for_much_work_and_a_kept_one_used_for_less(tmp_path, monkeypatch):
    stamps, _ = toy_stamps(300)
    before = engines.EngineScorer(load_file(exported()[0]), tmp_path)
    monkeypatch.setattr(engines, "_WORTH_A_KEPT_ONE_S", 0.0)
    before.p_real(stamps)
    assert before._fastest is None and not (tmp_path / "engines").exists()
    before._onnxruntime()
    after = engines.EngineScorer(load_file(exported()[0]), tmp_path)
    asked = []
    monkeypatch.setattr(
        after, "_choose", lambda *some: asked.append(some) or ("torch", after._torch)
    )
    after.p_real(stamps)
    assert len(asked) == 1


def test_a_network_without_a_graph_is_not_exported_again(tmp_path, monkeypatch):
    def refuse(scorer, target):
        raise UserError(f"{target}: not written, because it differs from the network")

    for attempt in (refuse, broken):
        monkeypatch.setattr(engines, "export", attempt)
        scorer = engines.EngineScorer(load_file(exported()[0]), tmp_path)
        with pytest.raises(UserError, match="because it differs from the network"):
            scorer._onnxruntime()
