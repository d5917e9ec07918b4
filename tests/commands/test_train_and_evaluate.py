"""The command lines, as a user types them, on tiny data."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from command_lines import Started, command, run, run_here
from toys import REPOSITORY, TINY, write_set


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A folder with a stamp set and a sweep of both kinds of network."""
    root = tmp_path_factory.mktemp("project")
    write_set(root / "set", 120)
    done = run(
        "train.py", "-m", "model=dia,nodia", *TINY, "data=stamps", f"data.path={root / 'set'}",
        f"paths.root={root}",
    )  # fmt: skip
    (root / "train.log").write_text(done.stdout)
    return root


def database(root: Path) -> sqlite3.Connection:
    return sqlite3.connect(root / "mlruns" / "mlflow.db")


def one_line(stderr: str) -> str:
    lines = [x for x in stderr.splitlines() if x and not x.startswith("starting")]
    assert len(lines) == 1, stderr
    assert "Traceback" not in stderr
    return lines[0]


def test_help_tells_choices_and_is_quick_to_compute():
    for script, group in (
        ("train.py", "experiment: backbones, "),
        ("evaluate.py", "runs: latest"),
    ):
        done = run(script, "--help")
        assert group in done.stdout
        assert "Examples" in done.stdout


def test_help_and_errors_import_nothing_heavy():
    heavy = "{'torch', 'lightning', 'mlflow', 'pandas', 'scipy', 'matplotlib'}"
    for arguments in (["--help"], ["trainer.batch_size=0"], ["modle=dia"]):
        code = (
            "import sys, runpy, atexit\n"
            f"sys.argv = ['train.py', *{arguments}]\n"
            f"atexit.register(lambda: print('heavy:', sorted({heavy} & set(sys.modules))))\n"
            "runpy.run_path('train.py', run_name='__main__')\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY
        )
        assert "heavy: []" in done.stdout, arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["modle=dia"], "there is no setting 'modle'"),
        (["trainer.batchsize=3"], "did you mean 'trainer.batch_size'?"),
        (["data=stamps", "data.candidates=5"], "'data.candidates' here, but in data=simulated"),
        (["model=vgg99"], "model=vgg99: there is no such choice; have autoscan, dia, "),
        (["trainer.batch_size=0"], "trainer.batch_size is 0"),
        (["trainer.max_epochs=many"], "trainer.max_epochs is 'many'"),
        (["trainer.optimizer.lr=-1"], "trainer.optimizer.lr is -1"),
        (["data=stamps"], "data.path is not set"),
        (["split.val=-1"], "split.val is -1"),
        (["trainer.max_epochs"], "trainer.max_epochs"),
    ],
)
def test_configuration_errors_are_one_line(arguments, message):
    assert message in one_line(run("train.py", *arguments, expect=2).stderr)


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("train.py", ["data=stamps", "data.path=/nowhere"], "/nowhere: there is no stamp set here"),
        ("train.py", ["run=nothing"], "there is no run 'nothing'"),
        ("evaluate.py", ["runs=latest"], "nothing was trained yet"),
        ("evaluate.py", ["runs=best"], "there is no sweep yet"),
        ("evaluate.py", ["subset=some"], "subset is 'some'"),
        ("evaluate.py", ["threshold=7"], "threshold is 7"),
        ("evaluate.py", ["runs=none.ckpt"], "none.ckpt: there is no such checkpoint"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path, monkeypatch, capsys, as_before, script, arguments, message
):
    assert run_here(monkeypatch, script, *arguments, f"paths.root={tmp_path}") == 2
    assert message in one_line(capsys.readouterr().err)


@pytest.mark.slow
def test_a_dia_network_on_a_set_without_difference(tmp_path):
    write_set(tmp_path / "set", 60, channels=("srch", "tmpl"))
    done = run(
        "train.py",
        "data=stamps",
        f"data.path={tmp_path / 'set'}",
        f"paths.root={tmp_path}",
        expect=2,
    )
    assert "needs diff, but the stamp set has only srch, tmpl" in one_line(done.stderr)
    assert not (tmp_path / "mlruns" / "mlflow.db").exists()


@pytest.mark.slow
def test_a_sweep_is_a_parent_with_children(project):
    runs = dict(database(project).execute("select name, status from runs").fetchall())
    assert {"dia", "nodia"} <= runs.keys()
    assert set(runs.values()) == {"FINISHED"}
    tags = database(project).execute(
        "select r.name, t.key, t.value from tags t join runs r on r.run_uuid = t.run_uuid"
    )
    tags = {(name, key): value for name, key, value in tags}
    assert tags["dia", "inputs"] == "dia"
    assert tags["nodia", "inputs"] == "nodia"
    assert tags["dia", "mlflow.parentRunId"] == tags["nodia", "mlflow.parentRunId"]
    assert tags["dia", "split.digest"] == tags["nodia", "split.digest"]


@pytest.mark.slow
def test_both_runs_have_the_same_parameters_and_metrics(project):
    for table, least in (("params", 30), ("metrics", 9)):
        rows = database(project).execute(
            f"select r.name, m.key from {table} m join runs r on r.run_uuid = m.run_uuid"
        )
        keys: dict[str, set[str]] = {}
        for name, key in rows:
            keys.setdefault(name, set()).add(key)
        differing = {k for k in keys["dia"] ^ keys["nodia"] if "scaling.diff" not in k}
        assert not differing
        assert len(keys["dia"]) > least
    assert {"val/acc", "val/loss", "best/val_acc", "cost/train_cpu_hours"} <= keys["dia"]


@pytest.mark.slow
def test_a_run_holds_what_is_needed_to_use_it_again(project):
    for folder in (project / "mlruns" / "artifacts").iterdir():
        if (folder / "artifacts" / "history.csv").exists():
            names = {p.relative_to(folder / "artifacts").as_posix() for p in folder.rglob("*.*")}
            assert {"config.yaml", "split.parquet", "checkpoint/best.ckpt"} <= names
            assert {"figures/curves.png", "figures/val_roc.png", "val_roc.csv"} <= names


@pytest.mark.slow
def test_evaluate_compares_the_sweep(project):
    done = run(
        "evaluate.py", f"paths.root={project}", "timing=false", f"report={project / 'report'}"
    )
    for word in ("accuracy", "AUC", "TPR", "TNR", "MDR at FPR 0.05", "CPU-hours", "McNemar"):
        assert word in done.stdout
    page = (project / "report" / "report.html").read_text()
    assert "nodia" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    logged = database(project).execute(
        "select distinct r.name from metrics m join runs r on r.run_uuid = m.run_uuid "
        "where m.key = 'test/accuracy'"
    )
    assert {name for (name,) in logged} == {"dia", "nodia"}


@pytest.mark.slow
def test_evaluate_on_other_data_beside_scores_of_others(project, tmp_path):
    write_set(tmp_path / "other", 12, seed=9, absent={3: 1, 5: 0})
    (tmp_path / "scores.csv").write_text("id,braai\n1000,0.9\n1001,0.2\n")
    done = run(
        "evaluate.py", "runs=nodia", "data=stamps", f"data.path={tmp_path / 'other'}",
        f"scores={tmp_path / 'scores.csv'}", f"paths.root={project}", "timing=false",
        f"report={tmp_path / 'report'}",
    )  # fmt: skip
    assert "p_real of each candidate" in done.stdout
    assert "braai" in done.stdout
    assert "0.9000" in done.stdout
    # noDIA misses the search image of one, and not the difference image of another.
    assert "1 of 12 candidates lack one of them" in " ".join(done.stdout.split())
    (scores,) = (tmp_path / "report" / "scores").glob("*_nodia/scores.parquet")
    kept = pd.read_parquet(scores)
    assert kept.loc[kept["lacking"], "id"].tolist() == [1003]


@pytest.mark.slow
def test_a_failed_job_does_not_stop_a_sweep(tmp_path):
    write_set(tmp_path / "set", 60)
    done = run(
        "train.py", "-m", "model=nodia", *TINY, "model.inputs.stacking=horizontal,vertical,depth",
        "data=stamps", f"data.path={tmp_path / 'set'}", f"paths.root={tmp_path}", expect=1,
    )  # fmt: skip
    assert "model.inputs.stacking is 'vertical'" in done.stderr
    states = dict(
        database(tmp_path).execute(
            "select r.name, t.value from tags t join runs r on r.run_uuid = t.run_uuid "
            "where t.key = 'rb.state'"
        )
    )
    jobs = [states.pop(f"model.inputs.stacking={s}") for s in ("horizontal", "vertical", "depth")]
    assert jobs == ["finished", "failed", "finished"]
    assert list(states.values()) == ["failed"]  # the parent: there is something left to do


@pytest.mark.slow
def test_the_demo_simulates_trains_and_is_cached(tmp_path):
    arguments = [
        "experiment=demo", "model=nodia", "data.candidates=120", *TINY, f"paths.root={tmp_path}",
    ]  # fmt: skip
    first = run("train.py", *arguments)
    assert "78 training and 18 validation stamps" in first.stdout
    sets = list((tmp_path / ".cache").glob("simulated-*/120/stamps.npy"))
    assert len(sets) == 1
    written = sets[0].stat().st_mtime_ns
    run("train.py", *arguments)
    assert sets[0].stat().st_mtime_ns == written


@pytest.mark.parametrize("experiment", ["demo", "paper"])
def test_every_experiment_composes(experiment):
    data = ["data.root=/des"] if experiment == "paper" else []
    done = run("train.py", f"experiment={experiment}", *data, "--cfg", "job")
    assert "max_epochs" in done.stdout
    if experiment == "paper":
        for line in ("lr: 0.01", "batch_size: 200", "patience: 100", "train: 80000"):
            assert line in done.stdout


@pytest.mark.slow
def test_a_keras_file_is_trained_further(shared_data, tmp_path):
    write_set(tmp_path / "set", 60)
    file = shared_data / "des" / "model_checkpoint_AAD_3s3DH.h5"
    common = ["data=stamps", f"data.path={tmp_path / 'set'}", f"paths.root={tmp_path}"]
    run(
        "train.py", "model=keras", f"model.checkpoint={file}", *common, "trainer.max_epochs=1",
        "trainer.optimizer.lr=0",
    )  # fmt: skip
    scores = tmp_path / "report" / "scores"
    run(
        "evaluate.py", f"runs=[latest,{file}]", *common, "timing=false", "subset=all", "examples=0",
        f"report={tmp_path / 'report'}",
    )  # fmt: skip
    ours, theirs = (pd.read_parquet(f / "scores.parquet") for f in sorted(scores.iterdir()))
    # With a learning rate of 0 the network that was "trained" is still the published one.
    np.testing.assert_allclose(ours["p_real"], theirs["p_real"], atol=1e-6)


def weights(file: Path) -> dict[str, torch.Tensor]:
    return torch.load(file, weights_only=True)["state_dict"]


def of_twelve_epochs(root: Path) -> list[str]:
    return [
        "model=dia", "data=stamps", f"data.path={root / 'set'}", f"paths.root={root}",
        "trainer=quick", "trainer.max_epochs=12", "trainer.save_every_s=0",
        "trainer.batch_size=10", "trainer.accelerator=cpu",
    ]  # fmt: skip


def save_points(root: Path) -> set[Path]:
    return set((root / "mlruns" / "checkpoints").glob("*/last.ckpt"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """A folder with a run that nothing stopped."""
    root = tmp_path_factory.mktemp("undisturbed")
    write_set(root / "set", 120)
    run("train.py", *of_twelve_epochs(root), "name=whole")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_ends_with_the_weights_of_an_undisturbed_one(undisturbed, tmp_path, how):
    root = undisturbed
    before = save_points(root)
    words = [*of_twelve_epochs(root), f"name={how.name}"]
    if how == signal.SIGINT:  # one of them as users start it
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen(command("train.py", *words), stdout=log, stderr=log)
    else:
        process = Started("train.py", *words)
    while save_points(root) == before and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(how)
    process.wait(60)
    status, state = database(root).execute(
        "select r.status, t.value from runs r join tags t on t.run_uuid = r.run_uuid "
        "where r.name = ? and t.key = 'rb.state'", [how.name]
    ).fetchone()  # fmt: skip
    killed = how == signal.SIGKILL
    assert (status, state) == (("RUNNING", "running") if killed else ("KILLED", "interrupted"))
    if not killed:
        log = (tmp_path / "log").read_text() if how == signal.SIGINT else "".join(process.said)
        assert "python train.py run=" in log
    done = run("train.py", f"run={how.name}", f"paths.root={root}")
    assert "taking up run" in done.stdout
    (own,) = save_points(root) - before
    whole, cut = weights(min(before, key=lambda f: f.stat().st_mtime)), weights(own)
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[k], cut[k]) for k in whole)
    steps = database(root).execute(
        "select r.name, count(*), count(distinct m.step) from metrics m "
        "join runs r on r.run_uuid = m.run_uuid where m.key = 'val/loss' group by r.name"
    )  # fmt: skip
    assert {("whole", 12, 12), (how.name, 12, 12)} <= set(steps)


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again_nor_changed(undisturbed):
    again = run("train.py", "run=whole", f"paths.root={undisturbed}")
    assert "is finished" in again.stdout
    refused = run(
        "train.py", "run=whole", "trainer.batch_size=7", f"paths.root={undisturbed}", expect=2
    )
    assert "trainer.batch_size cannot be changed" in one_line(refused.stderr)
