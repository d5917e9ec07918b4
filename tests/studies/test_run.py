"""What every study leaves behind, whatever it is about."""

from __future__ import annotations

import importlib.machinery
import math
import sys
import types

import pandas as pd
import pytest
from composing import composed, quiet, tracking_of

from rb.errors import UserError
from rb.report.sections import Picture, Section
from rb.studies.run import run_study


@pytest.fixture
def study(monkeypatch, tmp_path):
    """A study of the test's own, and its configuration."""
    module = types.ModuleType("rb.studies.mine")
    module.__spec__ = importlib.machinery.ModuleSpec("rb.studies.mine", None)
    monkeypatch.setitem(sys.modules, "rb.studies.mine", module)
    config = composed("evaluate", f"paths.root={tmp_path}", f"report={tmp_path / 'out'}")
    return module, config | {"study": {"name": "mine"}}


def picture() -> Picture:
    from rb.figures.style import new_figure

    figure = new_figure()
    figure.add_subplot().plot([0, 1])
    return Picture("line", figure, "a line")


def test_page_pictures_tables_and_run(study, tmp_path):
    module, config = study
    given = {}

    def sections(config, tracking, console):
        given.update(config)
        (tmp_path / "out" / "data").mkdir(parents=True)
        (tmp_path / "out" / "data" / "left.txt").write_text("kept")
        tables = {
            "Named rows": pd.DataFrame({"x": [1, 2]}, index=pd.Index(["a", "b"], name="row")),
            "Plain/rows?": pd.DataFrame({"y": [3.5]}),
        }
        return [
            Section("one", "One", ["Made by:", "$ python train.py a=1 <b>"], [picture()], tables)
        ]

    module.sections = sections
    assert math.isnan(run_study(config, quiet()))  # nothing for a sweeper to maximise
    assert given["report"] == str(tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert '<a href="#s-one">One</a>' in page
    assert "<code>python train.py a=1 &lt;b&gt;</code>" in page
    assert {f.name for f in (tmp_path / "out" / "figures").iterdir()} == {"line.png", "line.pdf"}
    tables = tmp_path / "out" / "tables"
    assert pd.read_csv(tables / "one_named_rows.csv", index_col="row")["x"].tolist() == [1, 2]
    assert pd.read_csv(tables / "one_plain_rows.csv")["y"].tolist() == [3.5]
    tracking = tracking_of(tmp_path)
    (run,) = tracking.runs("evaluation")
    assert run.info.status == "FINISHED"
    assert run.data.tags["study"] == "mine"
    kept = {a.path for a in tracking.client.list_artifacts(run.info.run_id)}
    assert {"report.html", "figures", "tables", "data", "config.yaml"} <= kept


def test_a_study_that_cannot_be_made_is_a_failed_run(study, tmp_path):
    module, config = study

    def sections(config, tracking, console):
        raise UserError("study.x is 7; give less")

    module.sections = sections
    with pytest.raises(UserError, match="give less"):
        run_study(config, quiet())
    (run,) = tracking_of(tmp_path).runs("evaluation")
    assert run.info.status == "FAILED"
    assert "give less" in run.data.tags["rb.error"]
    assert not (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize("name", ["nothing", "../run", "a.b", "run"])
def test_an_unknown_study_is_one_clear_line(tmp_path, name):
    config = composed("evaluate", f"paths.root={tmp_path}") | {"study": {"name": name}}
    with pytest.raises(UserError, match=r"study.name: there is no study"):
        run_study(config, quiet())
    assert not (tmp_path / "mlruns").exists()
