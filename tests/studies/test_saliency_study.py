"""`python evaluate.py study=saliency`, in this process, on tiny data."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from known_networks import checkpoint
from rich.console import Console
from toys import REPOSITORY, write_set

from rb.config import register_resolvers, resolved
from rb.errors import UserError
from rb.studies import run as studies
from rb.studies.saliency import study as saliency

SMALL_STUDY = (
    "study.n_methods=6",
    "study.n_sanity=4",
    "study.examples=1",
    "study.method_examples=1",
    "study.deletion_steps=4",
    "study.bootstrap=100",
    "study.smoothgrad.samples=2",
    "study.integrated_gradients.steps=4",
    "study.occlusion={window: 17, stride: 17}",
)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("project")
    write_set(root / "set", 60)
    checkpoint(root / "dia.ckpt", ("diff", "srch", "tmpl"))
    checkpoint(root / "nodia.ckpt", ("srch", "tmpl"))
    return root


def study(root: Path, *overrides: str) -> str:
    register_resolvers()
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        config = compose(
            "evaluate",
            [
                "study=saliency",
                "data=stamps",
                f"data.path={root / 'set'}",
                f"paths.root={root}",
                *SMALL_STUDY,
                *overrides,
            ],
        )
    stream = io.StringIO()
    studies.run_study(resolved(config), Console(file=stream, width=300))
    return stream.getvalue()


@pytest.mark.slow
def test_a_report_with_everything(project):
    report = project / "report"
    said = study(project, f"runs={project / 'nodia.ckpt'}", f"report={report}")
    assert "nodia: panel shares of 60 saliency maps" in said
    page = (report / "report.html").read_text()
    for title in ("Which image decides", "Distribution of the shares", "Galleries: nodia"):
        assert title in page
    table = pd.read_parquet(report / "data" / "saliency_nodia.parquet")
    assert len(table) == 60 and table["id"].is_unique
    assert [c for c in table if c.startswith("I_")] == ["I_srch", "I_tmpl"]
    shares = table[["I_srch", "I_tmpl"]].to_numpy()
    np.testing.assert_allclose(shares.sum(1), 1)
    winner = np.array(["srch", "tmpl"])[shares.argmax(1)]
    assert (table["winner"] == winner).all() and (table["principal"] == winner).all()
    assert set(table["quadrant"]) <= {"TP", "FN", "FP", "TN"}
    for picture in ("maps", "methods", "randomised", "deletion"):
        file = report / "figures" / f"saliency_{picture}_nodia.png"
        assert file.stat().st_size > 5000 and file.with_suffix(".pdf").exists()
    decides = pd.read_csv(next((report / "tables").glob("saliency-winners_nodia*")))
    assert decides["wins"].sum() == 60 and "paper, Fig. 10 %" in decides


@pytest.mark.slow
def test_a_handful_of_candidates_is_shown_whole(project):
    write_set(project / "few", 12)
    report = project / "few_report"
    study(
        project,
        f"runs=[{project / 'dia.ckpt'},{project / 'nodia.ckpt'}]",
        f"data.path={project / 'few'}",
        f"report={report}",
        "study.n_methods=0",
    )
    each = pd.read_csv(next((report / "tables").glob("saliency-each_dia*")))
    np.testing.assert_allclose(each[["I_diff", "I_srch", "I_tmpl"]].sum(axis=1), 1, atol=2e-4)
    assert (report / "data" / "saliency_nodia.parquet").exists()
    assert not list((report / "figures").glob("saliency_winners*"))


def test_models_without_derivatives_are_left_out(project, monkeypatch):
    from rb.evaluation import scored_run as scoring

    whole = scoring.score_runs

    class Forest:
        """Has no network."""

    def with_a_forest(config, tracking, console):
        from dataclasses import replace

        (one,) = whole(config, tracking, console)
        forest = replace(one.candidate, model=Forest())
        return [replace(one, candidate=forest, result=replace(one.result, name="trees"))]

    monkeypatch.setattr(saliency, "score_runs", with_a_forest)
    with pytest.raises(UserError, match="none of them is a network"):
        study(project, f"runs={project / 'nodia.ckpt'}")


def test_settings_are_checked_before_anything_is_scored(project):
    with pytest.raises(UserError, match="study.score is 'margin'"):
        study(project, "runs=/nowhere.ckpt", "study.score=margin")
