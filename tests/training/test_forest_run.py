"""The feature forest through the functions behind the command lines."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from rich.console import Console
from toys import REPOSITORY, TINY, write_set

import rb
from rb.config import register_resolvers, resolved
from rb.errors import UserError
from rb.features import FEATURES_FROM_STAMP
from rb.features.autoscan import compute
from rb.sources import open_stamps
from rb.stamps import StampSet
from rb.studies.run import run_study
from rb.tracking import Tracking
from rb.training.job import resume, train

FEW = "[SNR,NUMNEGRN,MAG_REF,AMP]"


def composed(script: str, root: Path, *overrides: str) -> dict[str, Any]:
    register_resolvers()
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        return resolved(compose(script, [*overrides, f"paths.root={root}"]))


def write_table(path: Path, n: int = 300, seed: int = 0) -> Path:
    """A table whose first two features tell the classes apart."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    frame = pd.DataFrame({"ID": np.arange(n) + 7, "OBJECT_TYPE": labels})
    for i, name in enumerate(FEW.strip("[]").split(",")):
        frame[name] = rng.normal(0, 1, n) + (2.5 - i if i < 2 else 0) * labels
    frame.loc[frame.index % 7 == 0, "MAG_REF"] = np.nan
    frame.to_csv(path, index=False)
    return path


@dataclass
class Project:
    root: Path
    tracking: Tracking

    def train(self, *overrides: str) -> str:
        console = Console(file=io.StringIO(), width=200)
        train(composed("train", self.root, *overrides), console=console)
        self.said = console.file.getvalue()
        return self.tracking.runs("training")[0].info.run_id

    def evaluate(self, *overrides: str) -> str:
        console = Console(file=io.StringIO(), width=200)
        run_study(composed("evaluate", self.root, "timing=false", *overrides), console=console)
        return console.file.getvalue()

    def artifact(self, run_id: str, name: str, folder: Path) -> Path:
        return self.tracking.artifact(run_id, name, folder)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    root = tmp_path_factory.mktemp("project")
    write_set(root / "set", 150)
    write_table(root / "table.csv")
    return Project(root, Tracking(None, root / "mlruns", "rb"))


@pytest.fixture(scope="module")
def forest(project) -> str:
    data = ("data=stamps", f"data.path={project.root / 'set'}")
    return project.train("model=autoscan", *data, "model.folds=3", "model.repeats=2")


@pytest.mark.slow
def test_a_run_holds_what_a_networks_does_and_the_forests_own(project, forest, tmp_path):
    data = project.tracking.client.get_run(forest).data
    assert data.tags["inputs"] == "features"
    assert data.params["features_from"] == "stamps"
    assert data.params["n_features"] == "23"
    assert not [key for key in data.params if key.startswith("trainer.")]  # none has an effect
    for key in ("best/val_acc", "val/acc", "cv/accuracy", "cv_low/auc", "cv_high/auc"):
        assert 0.8 < data.metrics[key] <= 1, key
    assert data.metrics["cv_low/accuracy"] <= data.metrics["cv/accuracy"]
    split = pd.read_parquet(project.artifact(forest, "split.parquet", tmp_path))
    scores = pd.read_parquet(project.artifact(forest, "tables/cv_scores.parquet", tmp_path))
    seen = split["id"][split["subset"] != "test"]
    assert sorted(scores["id"]) == sorted(seen)  # the test set stays shut
    importance = pd.read_csv(project.artifact(forest, "tables/importance.csv", tmp_path))
    assert set(importance["feature"]) == set(FEATURES_FROM_STAMP)
    points = pd.read_csv(project.artifact(forest, "tables/operating_points.csv", tmp_path))
    assert {"FPR <= 0.01", "threshold 0.5"} <= set(points["chosen_by"])
    for picture in ("importance", "cv_roc", "cv_operating_points", "val_confusion"):
        assert project.artifact(forest, f"figures/{picture}.png", tmp_path).stat().st_size > 5000


@pytest.mark.slow
def test_forest_and_network_are_compared_on_the_same_candidates(project, forest, tmp_path):
    data = ("data=stamps", f"data.path={project.root / 'set'}")
    network = project.train("model=nodia", *data, *TINY, "trainer.max_epochs=1")
    tags = [project.tracking.client.get_run(r).data.tags for r in (network, forest)]
    assert tags[0]["split.digest"] == tags[1]["split.digest"]
    said = project.evaluate(f"runs=[{network},{forest}]", f"report={tmp_path / 'report'}")
    assert "McNemar's exact test on 30 shared stamps" in said
    table = pd.read_csv(tmp_path / "report/comparison.csv", index_col=0)
    assert list(table["inputs"]) == ["nodia", "features"]
    assert table.loc["autoscan", "accuracy"] > 0.8
    assert table.loc["autoscan", "parameters"] > 200
    page = (tmp_path / "report/report.html").read_text()
    assert "Features: autoscan" in page
    assert "Operating points on these candidates" in page
    assert "3-fold cross-validation outside the test set" in page
    assert (tmp_path / "report/figures/importance_autoscan.png").is_file()
    test = project.tracking.client.get_run(forest).data.metrics
    assert test["test/accuracy"] == pytest.approx(table.loc["autoscan", "accuracy"])


@pytest.mark.slow
def test_the_logged_model_takes_raw_stamps(project, forest, tmp_path):
    stamps = np.array(StampSet.open(project.root / "set").stamps[:9])
    model = rb.load(project.artifact(forest, "checkpoint/best.skops", tmp_path))
    expected = model.forest.predict(compute(stamps))
    np.testing.assert_array_equal(model.p_real(stamps), expected)
    logged = mlflow.search_logged_models(output_format="list")
    (one,) = [m for m in logged if m.source_run_id == forest]
    served = mlflow.pyfunc.load_model(one.model_uri)
    np.testing.assert_allclose(served.predict(stamps), expected, rtol=1e-6)


@pytest.mark.slow
def test_a_table_without_stamps(project, tmp_path):
    data = ("data=features", f"data.table={project.root / 'table.csv'}")
    run_id = project.train("model=autoscan", *data, "model.folds=0", "name=table")
    assert "4 features from the catalogue" in project.said
    said = project.evaluate("runs=table", f"report={tmp_path / 'report'}")
    assert "report:" in said
    assert "Features: table" in (tmp_path / "report/report.html").read_text()
    metrics = project.tracking.client.get_run(run_id).data.metrics
    assert 0.8 < metrics["test/accuracy"] <= 1
    assert not any(key.startswith("cv/") for key in metrics)
    file = project.artifact(run_id, "checkpoint/best.skops", tmp_path)
    stamps = open_stamps({"name": "stamps", "path": str(project.root / "set")})
    with pytest.raises(UserError, match=r"does not give all of its features \(MAG_REF\)"):
        rb.load(file).score(stamps)
    with pytest.raises(UserError, match="stamps alone do not determine MAG_REF"):
        rb.load(file).p_real(np.zeros((1, 3, 51, 51), np.float32))


@pytest.mark.slow
def test_features_of_a_table_serve_on_stamps_where_stamps_determine_them(project, tmp_path):
    columns = "[NUMNEGRN,AMP]"
    data = ("data=features", f"data.table={project.root / 'table.csv'}")
    settings = ("model.folds=0", f"model.columns={columns}", "name=few")
    run_id = project.train("model=autoscan", *data, *settings)
    stamps = ("data=stamps", f"data.path={project.root / 'set'}")
    said = project.evaluate(f"runs={run_id}", *stamps, f"report={tmp_path / 'report'}")
    assert (
        "learned from features of the catalogue, those of toy survey come from the stamps" in said
    )


@pytest.mark.slow
def test_an_interrupted_forest_is_taken_up(project, monkeypatch):
    from rb.training import forest as module

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    data = ("data=features", f"data.table={project.root / 'table.csv'}")
    config = composed("train", project.root, "model=autoscan", *data, "model.folds=0")
    with monkeypatch.context() as patched:
        patched.setattr(module, "_history", stop)
        with pytest.raises(KeyboardInterrupt):
            train(config, console=Console(file=io.StringIO()))
    run_id = project.tracking.runs("training")[0].info.run_id
    best = resume(config | {"run": run_id}, [f"run={run_id}"], Console(file=io.StringIO()))
    found = project.tracking.client.get_run(run_id)
    assert found.info.status == "FINISHED"
    assert found.data.metrics["best/val_acc"] == best


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=dia"], "the network needs stamps (diff, srch, tmpl), but these are features"),
        (["model=autoscan", "model.learner=oracle"], "model.learner is 'oracle'; give forest, "),
        (["model=autoscan", "model.features=guess"], "model.features is 'guess'"),
        (["model=autoscan", "model.features=stamps"], "features of stamps need diff and tmpl"),
        (["model=autoscan", "model.columns=[SNR,COLOUR]"], "model.columns[1] is 'COLOUR'; give "),
        (["model=autoscan", "model.columns=[L1]"], "the catalogue has no feature L1"),
        (
            ["model=autoscan", "model.folds=1"],
            "model.folds is 1; give a whole number of at least 2, or 0",
        ),
        (["model=autoscan", "model.repeats=-1"], "model.repeats is -1"),
        (["model=autoscan", "model.folds=200"], "200 folds need at least 2 and at most"),
    ],
)
def test_what_is_refused(project, overrides, message):
    data = ("data=features", f"data.table={project.root / 'table.csv'}")
    with pytest.raises(UserError) as error:
        train(
            composed("train", project.root, *data, *overrides), console=Console(file=io.StringIO())
        )
    assert message in str(error.value)
    assert "\n" not in str(error.value)
