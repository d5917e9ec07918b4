"""The experiments of the paper: what they sweep, and that each runs to its end at toy size."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from command_lines import run, run_here
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from toys import REPOSITORY

from rb.config import check_training, config_digest, register_resolvers, resolved
from rb.stamps.splits import make_split

# Table 10 of the paper: kernels of the three convolutions, batch size.
TABLE_10 = [
    (5, 3, 3, 100), (5, 3, 3, 200), (7, 3, 3, 100), (7, 5, 3, 100), (7, 5, 3, 200),
    (7, 5, 5, 100), (7, 5, 5, 200), (10, 3, 3, 100), (10, 3, 3, 200), (10, 5, 3, 100),
    (10, 5, 3, 200), (10, 5, 5, 100), (10, 5, 5, 200), (15, 3, 3, 100), (15, 3, 3, 200),
    (15, 5, 3, 100), (15, 5, 3, 200), (15, 5, 5, 100), (15, 5, 5, 200),
]  # fmt: skip
EXPERIMENTS = sorted(f.stem for f in (REPOSITORY / "conf/experiment").glob("*.yaml"))
SWEPT = [name for name in EXPERIMENTS if name not in ("demo", "nodia", "scan")]  # the paper's


def composed(*overrides: str, with_hydra: bool = False):
    register_resolvers()
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        config = compose("train", list(overrides), return_hydra_config=with_hydra)
    return config if with_hydra else resolved(config)


def rows(experiment: str, *overrides: str) -> list[tuple[int, ...]]:
    config = composed(f"experiment={experiment}", "size=small", *overrides, with_hydra=True)
    return [tuple(row) for row in json.loads(f"[{config.hydra.sweeper.params['vary.row']}]")]


def test_table_10_is_swept_row_by_row():
    assert rows("table10") == TABLE_10


def test_the_grid_holds_every_combination_and_so_every_row_of_the_table():
    grid = rows("table10_grid")
    assert grid == list(itertools.product((5, 7, 10, 15), (3, 5), (3, 5), (100, 200)))
    assert set(TABLE_10) < set(grid)


def test_the_random_search_draws_from_the_grid_by_seed():
    drawn = rows("table10_random", "vary.draws=9")
    assert len(set(drawn)) == 9 and set(drawn) < set(rows("table10_grid"))
    assert drawn == rows("table10_random", "vary.draws=9")
    assert drawn != rows("table10_random", "vary.draws=9", "vary.draw_seed=2")


def test_more_draws_than_combinations_are_refused():
    done = run("train.py", "experiment=table10_random", "size=toy", "vary.draws=40", expect=2)
    assert done.stderr == "error: vary.draws is 40; the grid has 32 combinations\n"


def test_a_row_reaches_the_network_and_the_batches():
    config = composed("experiment=table10", "size=small", "vary.row=[15,5,3,100]")
    kernels = [layer["kernel"] for layer in config["model"]["network"]["convolutions"]]
    assert (*kernels, config["trainer"]["batch_size"]) == (15, 5, 3, 100)


def test_the_third_row_of_table_10_is_table_4_with_smaller_batches():
    plain = composed("model=nodia", "size=small")["model"]["network"]
    assert composed("experiment=table10", "size=small")["model"]["network"] == plain


# The study of networks without difference images is not the paper's, and has its own sizes.
@pytest.mark.parametrize("name", [name for name in SWEPT if name != "nodia"])
def test_full_size_is_the_papers(name):
    config = composed(f"experiment={name}", "data.root=.")
    assert [config["split"][k] for k in ("train", "val", "test")] == [80_000, 20_000, 20_000]
    assert config["data"]["name"] == "des"
    assert config["trainer"]["optimizer"] == {"_target_": "torch.optim.SGD", "lr": 0.01}
    assert config["trainer"]["patience"] == (None if name == "longer" else 100)
    check_training(config)


def test_the_study_without_difference_images_is_one_recipe_and_one_test_set():
    jobs = [
        composed("experiment=nodia", f"model={model}", f"vary.row={row}")
        for model in ("dia_modern", "nodia_matched", "nodia_pixelwise")
        for row in ("[60000,25]", "[5000,87]")
    ]
    for job in jobs:
        check_training(job)
        epochs = 25 if job["split"]["train"] == 60_000 else 87
        assert job["trainer"] == jobs[0]["trainer"] | {
            "max_epochs": epochs, "scheduler": jobs[0]["trainer"]["scheduler"]
            | {"total_steps": epochs},
        }  # fmt: skip
        assert (job["split"]["by"], job["split"]["test"]) == ("group", 20_000)
    labels, groups = np.arange(300) % 2, np.arange(300) // 5
    sizes = {"by": "group", "seed": 1, "val": 30, "test": 60}
    large, small = (make_split(labels, groups, train=n, **sizes) for n in (200, 50))
    np.testing.assert_array_equal(large.test, small.test)
    assert set(small.train) <= set(large.train)


def test_small_size_has_at_least_20000_simulated_candidates():
    config = composed("experiment=paper", "size=small")
    assert config["data"]["name"] == "simulated"
    assert config["data"]["candidates"] >= 20_000


def test_the_digest_of_a_job_is_that_of_its_result():
    job = composed("experiment=stacking", "size=small", "model=nodia")
    same = composed("experiment=richer", "size=small", "model=nodia", "name=x", "paths.root=/x")
    assert config_digest(job) == config_digest(same)
    for change in ("seed=2", "split.seed=2", "trainer.batch_size=50", "data.candidates=500"):
        other = composed("experiment=stacking", "size=small", "model=nodia", change)
        assert config_digest(other) != config_digest(job)
    assert config_digest(job | {"new_setting": None}) == config_digest(job)


def test_every_setting_has_a_comment():
    for file in (REPOSITORY / "conf").rglob("*.yaml"):
        assert file.read_text().lstrip().startswith(("#", "app_name", "hydra", "_target_")), file


# Table 10, its grid and the random search are one network: a few of their jobs do.
@pytest.mark.slow
@pytest.mark.parametrize("name", SWEPT)
def test_each_experiment_runs_at_toy_size(name, toy_root, monkeypatch, as_before):
    few = {
        "table10": ["vary.row=[5,3,3,100],[10,5,3,200],[15,5,5,200]"],
        "table10_grid": ["vary.grid=[[5,7],[3],[3],[100]]"],
    }.get(name, [])
    if name == "backbones":
        pytest.importorskip("timm")
    words = [f"experiment={name}", "size=toy", f"paths.root={toy_root}", *few]
    assert run_here(monkeypatch, "train.py", *words) == 0
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{toy_root / 'mlruns' / 'mlflow.db'}")
    (experiment,) = (e for e in client.search_experiments() if e.name == "rb")
    where = f"tags.`rb.experiment` = '{name}' and tags.`rb.kind` = "
    (parent,) = client.search_runs([experiment.experiment_id], where + "'sweep'")
    assert parent.data.tags["rb.size"] == "toy"
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["jobs/failed"] == 0
    wanted = {
        "paper": 2, "stacking": 4, "richer": 5, "backbones": 3, "longer": 3, "scalings": 6,
        "folds": 6, "table10": 3, "table10_grid": 2, "table10_random": 2,
    }[name]  # fmt: skip
    assert parent.data.metrics["jobs/finished"] == wanted


@pytest.fixture(scope="module")
def toy_root(tmp_path_factory):
    """One folder for all: its simulated candidates are made once."""
    return tmp_path_factory.mktemp("toy")


def test_the_experiments_are_known_here():
    assert {"paper", "table10", "folds", "stacking", "richer", "backbones"} <= set(SWEPT)
    assert OmegaConf.load(REPOSITORY / "conf/size/toy.yaml").size.name == "toy"
