"""python evaluate.py study=paper: numbers, contents, and what is said where runs are missing."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from composing import composed, quiet, tracking_of, train_tiny
from toys import REPOSITORY, write_set

from rb.errors import UserError
from rb.evaluation.choose import select
from rb.evaluation.paired import compare
from rb.paper.runs import Experiment, PaperRuns
from rb.paper.values import TABLE_1, TABLE_10
from rb.paper.variants import longer_part
from rb.report.page import render_report
from rb.stamps import StampSet
from rb.stamps.splits import make_split
from rb.studies.paper import sections
from rb.tracking import EXPERIMENT_TAG, SIZE_TAG, SWEEP_TAG, TrackedRun


def config_of(root, *overrides: str):
    return composed("evaluate", "study=paper", f"paths.root={root}", "timing=false", *overrides)


def make(root, *overrides: str, studies: str = "[]"):
    config = config_of(root, f"study.studies={studies}", *overrides)
    found = sections(config | {"report": str(root / "out")}, tracking_of(root), quiet())
    return {section.key: section for section in found}


def words(section) -> str:
    return " ".join(section.paragraphs)


def only_table(section):
    (table,) = section.tables.values()
    return table


# Real networks, tiny ones


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Networks of both kinds, one also stacked in depth, as jobs of a sweep of three."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        root = tmp_path_factory.mktemp("paper")
        write_set(root / "set", 120)
        train_tiny(root, "dia")
        train_tiny(root, "nodia")
        train_tiny(root, "dia", "model.inputs.stacking=depth", "name=deep")
        tracking = tracking_of(root)
        runs = tracking.runs("training")
        with tracking.run("s", "sweep", {EXPERIMENT_TAG: "stacking", SIZE_TAG: "toy"}) as sweep:
            for run in runs:
                job = {SWEEP_TAG + sweep.run_id: json.dumps({"job": 0})}
                TrackedRun(tracking, run.info.run_id).tag(job)
        deep = next(run for run in runs if run.info.run_name == "deep")
        # So that the plain pair is that of Table 1.
        TrackedRun(tracking, deep.info.run_id).tag({EXPERIMENT_TAG: "stacking"})
    return root


def own_accuracy(root, name: str, subset: str) -> float:
    (candidate,) = select(tracking_of(root), name)
    stamp_set = StampSet.open(root / "set")
    split = make_split(stamp_set.labels, stamp_set.groups, **candidate.config["split"])
    rows = split[subset]
    called_real = candidate.model.score(stamp_set, rows) >= 0.5
    return float(np.mean(called_real == (stamp_set.labels[rows] == 0)))


@pytest.fixture(scope="module")
def whole(trained):
    """The sections made of these networks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return make(trained, studies="[labels]")


@pytest.mark.slow
def test_the_page_of_two_networks(whole):
    page = render_report("The paper", [], list(whole.values()))
    # Nothing is loaded from elsewhere.
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:|#)""", page)
    assert "@import" not in page and "url(" not in page
    assert page.count('src="data:image/') == 5
    # Every section can be reached from the contents.
    contents = re.findall(r'<li><a href="#([^"]+)">', page.split("</nav>")[0])
    anchors = re.findall(r'<section id="([^"]+)">', page)
    assert contents == anchors
    assert {"s-overview", "s-table-1", "s-figure-7", "s-figure-14", "s-table-10"} <= set(anchors)
    # What does not exist says how to make it.
    for experiment in ("folds", "table10", "richer", "longer", "premade", "scalings"):
        assert f"<code>python train.py experiment={experiment} size=small</code>" in page
    assert "<code>python evaluate.py study=labels</code>" in page


@pytest.mark.slow
def test_table_1_holds_what_the_networks_do(trained, whole):
    table = only_table(whole["table-1"])
    for kind, name in (("dia", "DIA"), ("nodia", "noDIA")):
        here, paper = table[f"{name}, here"], table[f"{name}, paper (DES)"]
        for subset, row in (("test", "accuracy, test"), ("train", "accuracy, train")):
            assert here[row].startswith(f"{100 * own_accuracy(trained, kind, subset):.1f} ")
        assert paper["accuracy, test"].startswith(f"{100 * TABLE_1[kind].test:.1f} ±")
        run = tracking_of(trained).find(kind)
        # Measured once, and kept with the run.
        assert run.data.metrics["test/accuracy"] == pytest.approx(
            own_accuracy(trained, kind, "test")
        )
        assert "trained_on/accuracy" in run.data.metrics
    assert {p.key for k in ("figure-5", "figure-6", "figure-7") for p in whole[k].pictures} == {
        "figure_5_confusion", "figure_6_roc", "figure_7_curves",
    }  # fmt: skip
    assert "24 to test" in words(whole["table-1"])
    overview = only_table(whole["overview"])
    assert overview.loc["DIA: test accuracy (Table 1)", "paper, DES"] == "96.1 ± 0.4 %"
    assert overview.loc["noDIA: six-fold test accuracy", "here"] == "not made yet"


@pytest.mark.slow
def test_stacking_is_compared_on_the_same_candidates(whole):
    found = whole["figure-14"]
    networks = only_table(found)["network"].tolist()
    assert networks == ["DIA, horizontal", "DIA, depth", "noDIA, horizontal"]
    assert "DIA, depth minus horizontal, the same candidates: accuracy" in words(found)
    assert "noDIA, depth minus" not in words(found)
    assert "At toy size the numbers mean nothing." in words(found)


@pytest.mark.slow
def test_variants_are_set_against_the_first_on_the_same_candidates(trained, monkeypatch):
    gathered = PaperRuns(config_of(trained), tracking_of(trained), quiet())
    of = {job.run.info.run_name: job for job in gathered.experiment("stacking").jobs}
    jobs = [of["dia"], of["deep"], of["nodia"]]
    monkeypatch.setattr(gathered, "experiment", lambda name: Experiment(name, "toy", None, jobs))
    (section,) = longer_part(gathered).sections
    table = only_table(section)
    difference = compare(gathered.result(of["deep"]), gathered.result(of["dia"])).accuracy
    first, second, third = (
        text.replace("\N{NO-BREAK SPACE}", " ") for text in table[f"− {table['trained'][0]}, %"]
    )
    sign, points = ("−" if difference.value < 0 else "+"), 100 * abs(difference.value)
    assert second.startswith(f"{sign}{points:.1f} ± {100 * difference.half_width:.1f}, p = ")
    assert first == third == "–"  # itself, and a network of another kind
    assert "McNemar" in words(section)


@pytest.mark.slow
def test_the_user_names_the_networks_of_table_1(trained):
    gathered = PaperRuns(config_of(trained, "runs=[nodia]"), tracking_of(trained), quiet())
    assert [job.name for job in gathered.pair().jobs] == ["nodia"]
    with pytest.raises(UserError, match="there is no run 'gone'"):
        make(trained, "runs=[gone]")


# Known numbers


def nodia(kernels=(7, 3, 3), batch=200, dense=(32,), name="nodia", **params) -> dict:
    found = {f"model.network.convolutions.{i}.kernel": k for i, k in enumerate(kernels)}
    found |= {"model.name": name, "model.network.dense": list(dense), "trainer.batch_size": batch}
    return found | {"n_train": 700, "n_val": 200, "n_test": 1000} | params


def record(tracking, experiment, size, jobs, *, data="simulated", broken=0, kind="nodia") -> None:
    """A sweep of this experiment as MLflow keeps it: (parameters, metrics) a job."""
    tags = {"inputs": kind, "data": data, "stacking": "horizontal"}
    with tracking.run("sweep", "sweep", {EXPERIMENT_TAG: experiment, SIZE_TAG: size}) as parent:
        for params, metrics in jobs:
            with tracking.run("job", "training", tags, parent=parent.run_id) as run:
                run.log_params(params)
                run.log_metrics(metrics)
        for _ in range(broken):
            job = tracking.run("job", "training", tags, parent=parent.run_id)
            with pytest.raises(MemoryError), job:
                raise MemoryError


FOLDS = (0.900, 0.910, 0.920, 0.905, 0.915, 0.910)
ROWS = TABLE_10[::3]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Experiments with known results, without anything trained."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        root = tmp_path_factory.mktemp("recorded")
        tracking = tracking_of(root)

        def result(accuracy: float, **more: float) -> dict[str, float]:
            return {"test/accuracy": accuracy, "test/auc": 0.97, "best/val_acc": 0.91} | more

        folds = [
            (nodia(**{"split.fold": k, "split.folds": 6}), result(a)) for k, a in enumerate(FOLDS)
        ]
        record(tracking, "folds", "small", folds)
        record(tracking, "folds", "toy", [(p, result(0.5)) for p, _ in folds[:2]])
        record(
            tracking, "table10", "small",
            [
                (nodia(row[:3], row.batch_size, n_test=10_000), result(row.accuracy + 0.02))
                for row in ROWS
            ],
            broken=1,
        )  # fmt: skip
        record(tracking, "table10", "full", [(nodia(), result(0.99))], data="des")
        record(
            tracking, "richer", "small",
            [
                (nodia(), result(0.91)),
                (nodia(dense=(32, 24, 16, 8), name="deeper"), result(0.912)),
                (nodia((7, 5, 3, 3, 3), dense=(32,)), result(0.9)),
                (nodia((9, 9), name="own"), result(0.8)),
            ],
        )  # fmt: skip
        record(
            tracking, "longer", "small",
            [(nodia(), result(0.91 + n / 1e5, epochs=n, **{"best/epoch": n - 2}))
             for n in (144, 36, 72)],
        )  # fmt: skip
        record(
            tracking, "premade", "small",
            [({"model.name": m, "n_test": 1000, "n_val": 10, "n_train": 10}, result(a))
             for m, a in (("dia", 0.97), ("vgg16", 0.961), ("resnet50v2", 0.94))],
            kind="dia",
        )  # fmt: skip
        record(
            tracking, "scalings", "small",
            [(nodia(**{"model.inputs.scaling.srch": how}), result(a))
             for how, a in (("three_sigma", 0.91), ("standardise", 0.9))],
        )  # fmt: skip
    return root


@pytest.fixture(scope="module")
def simulated(recorded):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return make(recorded, "study.source=simulated")


def test_folds_are_summed_up_as_mean_and_deviation(simulated):
    mean, deviation = np.mean(FOLDS), np.std(FOLDS, ddof=1)
    expected = f"{100 * mean:.2f} ± {100 * deviation:.2f} %"
    assert f"noDIA, 6 of 6 folds: {expected}" in words(simulated["folds"])
    assert "91.1 ± 0.5 %" in words(simulated["folds"])
    overview = only_table(simulated["overview"])
    assert overview.loc["noDIA: 6-fold test accuracy", "here"] == expected
    table = only_table(simulated["folds"])
    assert table["fold"].tolist() == [str(k) for k in range(6)]
    assert table["test accuracy"][1].startswith("91.0 ± 1.8")  # Wilson, 910 of 1,000


def test_table_10_stands_row_by_row_beside_the_paper(simulated):
    section = simulated["table-10"]
    table = only_table(section)
    assert len(table) == len(TABLE_10)
    made = table[table["here"] != "–"]
    assert made["paper (DES)"].tolist() == [f"{100 * row.accuracy:.2f} %" for row in ROWS]
    assert [text.split()[0] for text in made["here"]] == [
        f"{100 * (row.accuracy + 0.02):.1f}" for row in ROWS
    ]
    assert f"over {len(ROWS)} rows: Spearman 1.00" in words(section)
    assert "Jobs that have not finished: 1." in words(section)
    assert "python train.py experiment=table10_grid" in words(section)
    assert [picture.key for picture in section.pictures] == ["table_10_heat_map"]


def test_variants_are_told_apart_by_what_they_are(simulated):
    richer = only_table(simulated["richer"])
    assert richer["network"].tolist() == [
        "Table 4 (the paper's noDIA)", "Table 6", "Table 8", "own",
    ]  # fmt: skip
    longer = only_table(simulated["longer"])
    assert longer["trained"].tolist() == ["36 epochs", "72 epochs", "144 epochs"]
    assert longer["best epoch, from 0"].tolist() == ["34", "70", "142"]
    premade = only_table(simulated["premade"])
    assert premade["network"].tolist() == ["dia (the paper's)", "VGG16", "ResNet50-V2"]
    assert premade["paper (DES)"].tolist() == ["96.1 %", "96.03 %", "94.16 %"]
    scalings = only_table(simulated["scalings"])
    assert scalings["scaling"].tolist() == ["three_sigma", "standardise"]


def test_the_largest_size_is_taken_unless_one_is_asked_for(recorded):
    gathered = PaperRuns(config_of(recorded), tracking_of(recorded), quiet())
    assert gathered.experiment("table10").size == "full"
    assert gathered.experiment("folds").size == "small"
    small = make(recorded, "study.size=toy")
    assert "noDIA, 2 of 6 folds: 50.00 ± 0.00 %" in words(small["folds"])
    assert "Not made yet" in words(small["table-10"])


def test_wrong_settings_are_one_clear_line(recorded):
    with pytest.raises(UserError, match="study.size is 'huge'; choose full, small, toy or null"):
        make(recorded, "study.size=huge")
    with pytest.raises(UserError, match="study.studies: there is no 'figure'"):
        make(recorded, studies="[figure]")


def test_an_empty_store_gives_a_page_that_says_what_to_do(tmp_path):
    found = make(tmp_path, studies="[figures,saliency,labels]")
    assert "python train.py experiment=paper size=small" in words(found["table-1"])
    assert "nothing was trained yet" in words(found["figures"])
    assert "python evaluate.py study=saliency" in words(found["saliency"])
    here = only_table(found["overview"])["here"]
    assert set(here) == {"not made yet"}
    # And what it tells to do exists.
    commands = {p for s in found.values() for p in s.paragraphs if p.startswith("$ python ")}
    named = {
        (kind, name)
        for command in commands
        for kind, name in re.findall(r"\b(experiment|size|study)=(\w+)", command)
    }
    assert len(named) > 10
    for kind, name in named:
        assert (REPOSITORY / "conf" / kind / f"{name}.yaml").is_file(), f"{kind}={name}"
