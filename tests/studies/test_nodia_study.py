"""The study of networks with and without the difference image."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from composing import composed, quiet, tracking_of, train_tiny
from toys import REPOSITORY, write_set

from rb.errors import UserError
from rb.figures.studies.learning import learning_figure
from rb.studies.nodia import sections


def config_of(root, *overrides):
    return composed("evaluate", "study=nodia", "study.draws=30", f"paths.root={root}", *overrides)


def by_key(found):
    return {section.key: section for section in found}


@pytest.fixture
def folder(tmp_path):
    """Scores as the benchmark writes them: dia is right 98 times of 100, nodia 90 times."""
    rng = np.random.default_rng(1)
    n = 3000
    label = rng.integers(0, 2, n)
    candidates = pd.DataFrame(
        {"subset": np.where(np.arange(n) < 500, "val", "test"), "label": label,
         "group": np.arange(n) // 20, "snr": rng.uniform(4, 9, n),
         "kind": np.where(label == 0, "supernova", "star_residual")}
    )  # fmt: skip
    candidates.to_parquet(tmp_path / "candidates.parquet")
    rows, scores = [], {}
    for variant, good in (("dia", 0.98), ("nodia", 0.9), ("nodia_matched", 0.98)):
        for size in (500, 1000):
            for seed in (1, 2, 3):
                right = rng.random(n) < good
                logit = (0.5 - label) * 4 * np.where(right, 1, -1) + rng.normal(0, 0.1, n)
                scores[f"{variant}-{size}-{seed}"] = logit.astype("f2")
                scores[f"{variant}-{size}-{seed}-plain"] = logit.astype("f2")
                rows.append({"variant": variant, "n_train": size, "seed": seed,
                             "accuracy_val": good})  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "results.csv", index=False)
    np.savez(tmp_path / "scores0.npz", **scores)
    return tmp_path


def test_a_folder_of_scores_becomes_tables_with_intervals(folder):
    found = by_key(sections(config_of(folder, f"study.scores={folder}"), None, quiet()))
    assert list(found) == [
        "quality", "differences", "treatments", "faint", "kinds", "conditions", "calibration",
        "points",
    ]  # fmt: skip
    together = found["treatments"].tables["Treatments"]
    together = together[(together["networks"] == 3) & (together["n_train"] == 1000)]
    # Errors of independent trainings average out.
    assert float(together.set_index("model").loc[["nodia"], "accuracy"].iloc[0].split()[0]) >= 0.95
    calibration = found["calibration"].tables["Calibration"].set_index("model")
    errors = calibration.loc["dia"][["ECE before", "ECE after"]].map(lambda v: float(v.split()[0]))
    assert (errors["ECE after"] <= errors["ECE before"] + 0.003).all()
    points = found["points"].tables["Operating points"].set_index(["wanted", "model", "SNR"])
    fpr = points.loc[("fpr 0.05", "dia", "all"), "fpr"]
    assert float(fpr.split()[0]) == pytest.approx(0.05, abs=0.03)
    by_snr = found["conditions"].tables["By SNR"]
    assert set(by_snr["SNR"]) == {"0 to 5", "5 to 7", "7 to 10"}
    table = found["quality"].tables["Quality"].set_index(["model", "n_train"])
    assert table.loc[("dia", 1000), "trainings"] == 3
    value, half = table.loc[("nodia", 500), "accuracy"].split(" ± ")
    assert float(value) == pytest.approx(0.9, abs=0.01)
    assert 0.002 < float(half) < 0.03
    verdicts = found["differences"].tables["Minus dia"].set_index(["model", "n_train"])["verdict"]
    assert verdicts["nodia", 1000] == "worse"
    assert verdicts["nodia_matched", 1000] != "worse"
    kinds = found["kinds"].tables["Right, by what it is"].set_index("kind")
    assert float(kinds.loc["supernova", "nodia"].rstrip(" %")) == pytest.approx(90, abs=1.5)


def test_a_folder_without_scores_is_refused(tmp_path):
    with pytest.raises(UserError, match="study.scores: .* does not hold what benchmarks"):
        sections(config_of(tmp_path, f"study.scores={tmp_path}"), None, quiet())


@pytest.mark.slow
def test_the_benchmarks_own_files_are_read_and_it_goes_on_where_it_was(tmp_path):
    out = tmp_path / "out"
    command = [
        sys.executable, str(REPOSITORY / "benchmarks" / "nodia_gpu.py"), str(out), "--work",
        str(tmp_path / "work"), "--sizes", "40", "60", "--validation", "20", "--test", "60",
        "--seeds", "1", "--epochs", "1", "--processes", "1", "--kinds", "20", "30", "--only", "dia",
    ]  # fmt: skip
    first = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    assert first.count("seed 1: acc") == 2
    again = subprocess.run(
        [*command, "nodia_cross"], capture_output=True, text=True, check=True, timeout=300
    ).stdout
    assert again.count("seed 1: acc") == 1  # not worth a second size of an ablation
    found = by_key(sections(config_of(tmp_path, f"study.scores={out}"), None, quiet()))
    table = found["quality"].tables["Quality"]
    assert sorted(zip(table["model"], table["n_train"], strict=True)) == [
        ("dia", 40), ("dia", 60), ("nodia_cross", 60)
    ]  # fmt: skip
    assert len(list(out.iterdir())) <= 8


@pytest.mark.slow
def test_runs_become_the_same_tables(tmp_path):
    write_set(tmp_path / "set", 120)
    for model in ("dia", "nodia"):
        for seed in (1, 2):
            train_tiny(tmp_path, model, f"seed={seed}", f"name={model}{seed}")
    runs = "runs=[dia1,dia2,nodia1,nodia2]"
    found = by_key(sections(config_of(tmp_path, runs), tracking_of(tmp_path), quiet()))
    table = found["quality"].tables["Quality"]
    assert sorted(table["model"]) == ["dia", "nodia"]
    assert set(table["trainings"]) == {2}
    assert list(found["differences"].tables["Minus dia"]["model"]) == ["nodia"]
    train_tiny(tmp_path, "nodia", "split.seed=5", "name=other")
    with pytest.raises(UserError, match="runs: other was tested on other candidates than dia1"):
        sections(config_of(tmp_path, "runs=[dia1,other]"), tracking_of(tmp_path), quiet())


def test_a_picture_without_trainings_says_so():
    empty = learning_figure(pd.DataFrame({"model": [], "n_train": []}), {"accuracy": "accuracy"})
    assert empty.axes[0].texts[0].get_text() == "nothing was trained"
