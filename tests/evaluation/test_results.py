from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from results_factory import run_result

from rb.errors import UserError
from rb.evaluation.results import RunResult


def same(a: RunResult, b: RunResult) -> bool:
    plain = (
        "name", "run_id", "inputs", "model", "data_name", "data_digest", "subset", "threshold",
    )  # fmt: skip
    arrays = all(
        np.array_equal(getattr(a, key), getattr(b, key)) for key in ("ids", "labels", "p_real")
    )
    return arrays and all(getattr(a, key) == getattr(b, key) for key in plain)


@pytest.mark.parametrize("text_ids", [False, True])
def test_round_trip(tmp_path, text_ids):
    ids = np.arange(50)
    result = run_result(n=50, ids=ids.astype(str) if text_ids else ids, threshold=0.4)
    loaded = RunResult.load(result.save(tmp_path / "deep" / "run"))
    assert same(result, loaded)
    assert loaded.ids.dtype.kind == ("U" if text_ids else "i")
    pd.testing.assert_frame_equal(loaded.history, result.history)
    assert loaded.cost == result.cost
    assert loaded.settings == result.settings
    assert loaded.metrics() == result.metrics()
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["run"]


def test_round_trip_of_the_least(tmp_path):
    result = run_result(n=3, history=None, cost={"epochs": math.nan}, settings={})
    loaded = RunResult.load(result.save(tmp_path / "run"))
    assert loaded.history is None
    assert math.isnan(loaded.cost_of("epochs"))
    assert math.isnan(loaded.cost_of("ms_per_stamp"))


def test_saving_again_replaces(tmp_path):
    run_result(n=5).save(tmp_path / "run")
    run_result(n=7, history=None).save(tmp_path / "run")
    assert RunResult.load(tmp_path / "run").n == 7
    assert not (tmp_path / "run" / "history.parquet").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(UserError, match="no saved result"):
        run_result(n=5).save(tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"


def test_settings_that_json_cannot_hold_leave_nothing_behind(tmp_path):
    with pytest.raises(TypeError):
        run_result(n=5, settings={"x": object()}).save(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["missing", "json", "scores", "history", "format", "key"])
def test_damaged_results_are_one_line(tmp_path, damage):
    path = tmp_path / "run"
    run_result(n=5).save(path)
    if damage == "missing":
        path = tmp_path / "nothing"
    elif damage == "json":
        (path / "result.json").write_text('{"format": 1, ')
    elif damage == "scores":
        (path / "scores.parquet").write_bytes((path / "scores.parquet").read_bytes()[:100])
    elif damage == "history":
        (path / "history.parquet").unlink()
    elif damage == "format":
        text = (path / "result.json").read_text()
        (path / "result.json").write_text(text.replace('"format": 1', '"format": 99'))
    else:
        (path / "result.json").write_text('{"format": 1}')
    with pytest.raises(UserError) as caught:
        RunResult.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_a_result():
    with pytest.raises(UserError, match="more than once"):
        run_result(n=3, ids=np.array([1, 2, 2]))
    with pytest.raises(UserError, match="NaN"):
        run_result(n=2, p_real=np.array([0.1, math.nan]))
    with pytest.raises(ValueError, match="inputs"):
        run_result(n=2, inputs="both")
    with pytest.raises(ValueError, match="ids"):
        run_result(n=2, ids=np.arange(3))


def test_counts():
    result = run_result(n=4, labels=np.array([0, 1, -1, -1]))
    assert (result.n, result.n_labelled) == (4, 2)
    assert result.confusion().n == 2
