"""The table of suspects, and the study that writes it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from reviews import write_table
from rich.console import Console
from toys import write_set

from rb.errors import UserError
from rb.labels.suspects import Scores, rank_suspects, read_suspects


def test_candidates_are_ranked_by_contradiction():
    ids = np.arange(10) + 100
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1, -1, 0])
    p_real = np.array([0.9, 0.95, 0.8, 0.02, 0.1, 0.05, 0.2, 0.99, 0.5, 0.9])
    rows = np.arange(9)  # the last one was not scored, the one before has no label
    table, joint = rank_suspects(ids, labels, [Scores(rows, p_real[rows])])
    assert table["id"].tolist()[:2] == [107, 103]
    assert table["suspect"].tolist() == [True, True] + [False] * 6
    assert table["suggested"].tolist()[:2] == [0, 1]
    np.testing.assert_allclose(table["margin"][:2], [0.01, 0.02])
    assert (np.diff(table["margin"][2:]) >= 0).all()
    assert table["rank"].tolist() == list(range(1, 9))
    assert not {108, 109} & set(table["id"])
    np.testing.assert_array_equal(joint.suspects, table["suspect"])


def test_several_scores_of_a_candidate_are_averaged():
    labels = np.array([0, 1, 0, 1])
    scores = [
        Scores(np.arange(4), np.array([0.9, 0.1, 0.4, 0.2])),
        Scores(np.array([2]), np.array([0.8])),
    ]
    table, _ = rank_suspects(np.arange(4), labels, scores)
    table = table.set_index("id")
    np.testing.assert_allclose(table.loc[2, "p_real"], 0.6)
    assert table["n_networks"].to_dict() == {0: 1, 1: 1, 2: 2, 3: 1}


def test_nothing_scored_is_said():
    with pytest.raises(UserError, match="nothing to rank"):
        rank_suspects(
            np.arange(2), np.array([-1, -1]), [Scores(np.arange(2), np.array([0.1, 0.9]))]
        )


def test_the_table_comes_back_with_its_facts(stamp_set, tmp_path):
    table = read_suspects(write_table(stamp_set, tmp_path / "s.parquet"))
    assert table.attrs["stamp_set"] == str(stamp_set.path)
    assert table["rank"].tolist() == list(range(1, len(stamp_set) + 1))
    with pytest.raises(UserError, match="has no column rank"):
        table.drop(columns="rank").to_parquet(tmp_path / "x.parquet")
        read_suspects(tmp_path / "x.parquet")


@pytest.fixture(scope="module")
def folds(tmp_path_factory) -> tuple[Path, list[str]]:
    """Two of three folds, trained in this process on labels of which two are wrong."""
    from hydra import compose, initialize_config_dir
    from toys import REPOSITORY, TINY

    from rb.config import register_resolvers, resolved
    from rb.tracking import Tracking
    from rb.training.job import train

    register_resolvers()
    root = tmp_path_factory.mktemp("folds")
    write_set(root / "set", 120)
    wrong = pd.DataFrame({"id": [1010, 1011], "verdict": [1, 0]})
    wrong.to_parquet(root / "wrong.parquet")
    for fold in (0, 2):
        with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
            composed = compose(
                "train",
                [*TINY, "data=stamps", f"data.path={root / 'set'}", f"paths.root={root}",
                 "split.folds=3", f"split.fold={fold}", f"data.labels={root / 'wrong.parquet'}",
                 "trainer.max_epochs=1"],
            )  # fmt: skip
        train(resolved(composed), console=Console(file=io.StringIO()))
    runs = Tracking(None, root / "mlruns", "rb").runs("training")
    return root, [r.info.run_id for r in runs]


def study(root: Path, *overrides: str) -> str:
    from hydra import compose, initialize_config_dir
    from toys import REPOSITORY

    from rb.config import resolved
    from rb.studies.run import run_study

    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        composed = compose("evaluate", ["study=labels", f"paths.root={root}", *overrides])
    stream = io.StringIO()
    run_study(resolved(composed), Console(file=stream, width=300))
    return stream.getvalue()


@pytest.mark.slow
def test_the_study_ranks_what_the_folds_have_not_seen(folds):
    root, ids = folds
    said = study(root, f"runs=[{','.join(ids)}]", f"report={root / 'report'}")
    assert "80 of 120 labelled candidates" in said
    assert "split.fold=1 of split.folds=3 is not among the runs" in said
    table = read_suspects(root / "labels" / "suspects.parquet")
    assert len(table) == 80
    assert table.attrs["runs"] == ids or table.attrs["runs"] == ids[::-1]
    # The labels ranked are those that were trained on, the wrong ones included.
    given = table.set_index("id")["label"]
    assert [given.get(i, d) for i, d in (("1010", 1), ("1011", 0))] == [1, 0]
    page = (root / "report" / "report.html").read_text()
    assert "Labels that the networks contradict" in page
    assert (root / "report" / "figures" / "suspects_scores.png").stat().st_size > 5000
    # The same runs asked about what they were trained on.
    with pytest.raises(UserError, match="subset=train: suspects need candidates"):
        study(root, f"runs=[{ids[0]}]", "subset=train")


@pytest.mark.slow
def test_runs_are_asked_about_what_they_have_not_seen_under_other_labels_too(folds):
    root, ids = folds
    said = study(root, f"runs=[{ids[0]}]", "data=stamps", f"data.path={root / 'set'}")
    assert "40 of 120 labelled candidates" in said
    table = read_suspects(root / "labels" / "suspects.parquet")
    given = table.set_index("id")["label"]
    assert all(label == int(i) % 2 for i, label in given.items())


@pytest.mark.slow
def test_a_run_keeps_the_labels_that_it_was_trained_on(folds, tmp_path):
    from rb.tracking import Tracking

    root, ids = folds
    tracking = Tracking(None, root / "mlruns", "rb")
    run = tracking.find(ids[0])
    assert len(run.data.tags["labels.digest"]) == 64
    table = tracking.artifact(ids[0], "labels/wrong.parquet", tmp_path)
    assert pd.read_parquet(table)["id"].tolist() == [1010, 1011]
    assert run.data.params["data.labels"] == str(root / "wrong.parquet")


def test_jobs_with_other_labels_are_other_jobs(tmp_path):
    """A sweep must not take a job for done because its table has the same name."""
    from rb.config import config_digest

    table = tmp_path / "v.csv"
    digests = set()
    for content in ("id,verdict\n1,0\n", "id,verdict\n1,1\n"):
        table.write_text(content)
        digests.add(config_digest({"data": {"name": "stamps", "labels": str(table)}}))
    table.rename(tmp_path / "w.csv")
    digests.add(config_digest({"data": {"name": "stamps", "labels": str(tmp_path / "w.csv")}}))
    assert len(digests) == 2
