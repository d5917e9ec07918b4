"""Sweeps as a user runs them; in this process where that does."""

from __future__ import annotations

import os
import signal
import sqlite3
from pathlib import Path

import pandas as pd
import pytest
from command_lines import run, run_here
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import open_dict
from slurm_stand_in import install, submitted
from toys import REPOSITORY, TINY, write_set

from rb.config import register_resolvers
from rb.errors import UserError
from rb.evaluation.choose import _find
from rb.interrupts import Interrupted
from rb.sweeps.board import SweepBoard
from rb.sweeps.jobs import SILENCE, is_going_on
from rb.sweeps.keys import announce, job_name, job_values, n_jobs, sweep_key, swept
from rb.sweeps.table import Row, axes_of, folds_of, rows_of, table_of
from rb.tracking import SWEEP_TAG, Process, Tracking
from rb.training.callbacks import SavePoints

pytestmark = pytest.mark.usefixtures("as_before")


def train_py(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    return run_here(monkeypatch, "train.py", *arguments)


def settings(root: Path, *more: str) -> list[str]:
    places = [f"data.path={root / 'set'}", f"paths.root={root}"]
    return [*TINY, "model=nodia", "data=stamps", *places, *more]


def store(root: Path) -> Tracking:
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    return Tracking(None, root / "mlruns", "rb")


def composed(*overrides: str, task: list[str] | None = None):
    register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        config = compose("train", list(overrides), return_hydra_config=True)
    if task is not None:
        with open_dict(config):
            config.hydra.overrides.task = [*overrides, *task]
    return config


# --- what is swept ---------------------------------------------------------------------


def test_swept_keys_come_from_the_experiment_and_from_the_command_line():
    assert list(swept(composed("experiment=table10"))) == ["vary.row"]
    assert n_jobs(composed("experiment=table10")) == 19
    assert n_jobs(composed("experiment=table10_grid")) == 32
    assert swept(composed("experiment=folds")) == {"split.fold": "0,1,2,3,4,5"}
    both = composed("experiment=folds", task=["seed=1,2", "trainer.patience=3"])
    assert swept(both) == {"split.fold": "0,1,2,3,4,5", "seed": "1,2"}
    assert n_jobs(both) == 12
    assert swept(composed("experiment=folds", task=["split.fold=2"])) == {}
    ranges = composed(task=["seed=range(1,5)", "model=choice(dia,nodia)"])
    assert n_jobs(ranges) == 8


def test_the_same_sweep_has_the_same_key_wherever_it_runs():
    key = sweep_key(composed("model=dia", task=["seed=1,2"]))
    assert key == sweep_key(composed("model=dia", "paths.root=/elsewhere", task=["seed=1,2"]))
    assert key == sweep_key(composed("model=dia", "hydra.verbose=true", task=["seed=1,2"]))
    for other in (
        composed("model=nodia", task=["seed=1,2"]),
        composed("model=dia", task=["seed=1,3"]),
        composed("model=dia", "name=second", task=["seed=1,2"]),
        composed("model=dia", "trainer.batch_size=7", task=["seed=1,2"]),
    ):
        assert key != sweep_key(other)


def test_names_and_values_of_a_job(monkeypatch):
    monkeypatch.setenv("RB_SWEPT_KEYS", "")
    announce(["row", "model", "trainer.optimizer.lr"])
    overrides = ["model=dia", "row=[7,3,3,200]", "seed=2", "trainer.optimizer.lr=0.00123456789"]
    assert job_name(overrides) == "dia row=[7,3,3,200] trainer.optimizer.lr=0.001235"
    names = {"row_names": ["kernel 1", "kernel 2", "kernel 3", "batch size"]}
    assert job_values(overrides, names) == {
        "model": "dia", "kernel 1": 7, "kernel 2": 3, "kernel 3": 3, "batch size": 200,
        "trainer.optimizer.lr": 0.00123456789,
    }  # fmt: skip
    assert job_values(["row=[7,3]"], {}) == {"row.0": 7, "row.1": 3}
    assert job_values(["model=nodia"], {}) == {"model": "nodia"}


# --- rows, folds, board ----------------------------------------------------------------


def row(number: int, state: str = "finished", best: float | None = 0.9, **more) -> Row:
    values = more.pop("values", {"seed": number})
    return Row(number, f"id{number}", f"seed={number}", state, values, best=best, **more)


def test_mean_and_deviation_over_folds():
    rows = [
        row(i, best=b, test=t, values={"model": "dia", "split.fold": i})
        for i, (b, t) in enumerate([(0.90, 0.80), (0.92, 0.84), (0.94, 0.82)])
    ]
    rows.append(row(3, "failed", None, values={"model": "dia", "split.fold": 3}))
    rows.append(row(4, best=0.7, values={"model": "nodia", "split.fold": 0}))
    dia, nodia = folds_of(rows)
    assert (dia.values, dia.n) == ({"model": "dia"}, 3)
    assert dia.val == pytest.approx((0.92, 0.02))
    assert dia.test == pytest.approx((0.82, 0.02))
    assert nodia.test is None  # not scored: no number rather than that of fewer folds
    assert nodia.val[1] != nodia.val[1]
    assert folds_of([row(0), row(1)]) == []


def test_the_table_has_a_column_for_each_swept_value():
    rows = [row(0, values={"a.b": 1, "model": "x"}), row(1, "failed", None, values={"a.b": 2})]
    assert axes_of(rows) == ["a.b", "model"]
    table = table_of(rows)
    assert table["a.b"].tolist() == [1, 2]
    assert table["state"].tolist() == ["finished", "failed"]
    assert table["best val/acc"].isna().tolist() == [False, True]


def test_a_log_has_one_line_for_each_job_that_ended(capsys):
    rows = [row(0)]
    board = SweepBoard(lambda: list(rows), 4, "sweep")
    board.update()
    assert capsys.readouterr().out == ""  # what was done before is no news
    rows += [row(1, "reused", 0.95), row(2, "failed", None, error="out of memory\nmore")]
    rows.append(row(3, "running", None))
    board.update()
    board.update()
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("sweep 3/4  seed=1: reused, best val/acc 0.9500")
    assert "seed=2: failed (out of memory)" in second
    assert board.summary().startswith("3/4 jobs ended, 1 reused, 1 failed, 1 running │ best 0.9500")
    assert board.seconds_left(10.0) is None  # nothing was trained since it began
    rows[3] = row(3)
    rows.pop(0)
    board.update()
    assert board.seconds_left(60.0) == pytest.approx(60.0)  # one trained, one to go


# --- whole sweeps ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def folds(tmp_path_factory) -> Path:
    """A folder with a cross-validation of two folds, run once."""
    root = tmp_path_factory.mktemp("folds")
    write_set(root / "set", 80)
    with pytest.MonkeyPatch.context() as patch:
        code = train_py(patch, "-m", "split.fold=0,1", "split.folds=2", *settings(root))
    assert code == 0
    return root


def parent_of(root: Path):
    return store(root).runs("sweep")[0]


@pytest.mark.slow
def test_a_cross_validation_scores_each_fold_on_its_own_part(folds):
    parent, tracking = parent_of(folds), store(folds)
    rows = rows_of(tracking, parent.info.run_id)
    assert [r.values for r in rows] == [{"split.fold": 0}, {"split.fold": 1}]
    metrics = parent.data.metrics
    tests = [r.test for r in rows]
    assert metrics["cv/test_acc_mean"] == pytest.approx(sum(tests) / 2)
    assert metrics["cv/test_acc_sd"] == pytest.approx(abs(tests[0] - tests[1]) / 2**0.5)
    assert metrics["best/val_acc"] == max(r.best for r in rows)
    jobs = pd.read_csv(tracking.artifact(parent.info.run_id, "jobs.csv", folds))
    assert jobs["split.fold"].tolist() == [0, 1]
    assert jobs["state"].tolist() == ["finished", "finished"]
    kept = {f.path for f in tracking.client.list_artifacts(parent.info.run_id, "figures")}
    assert {"figures/sweep.png", "figures/folds.png"} <= kept


@pytest.mark.slow
def test_the_same_command_again_only_shows_the_table(folds, monkeypatch, capsys):
    before = len(store(folds).runs())
    arguments = ["-m", "split.fold=0,1", "split.folds=2", *settings(folds)]
    assert train_py(monkeypatch, *arguments) == 0
    out = capsys.readouterr().out
    assert "is finished; nothing to do" in out
    assert out.count("finished │") == 2
    assert len(store(folds).runs()) == before


@pytest.mark.slow
def test_another_sweep_reuses_what_was_trained_and_evaluate_finds_it(folds, monkeypatch, capsys):
    arguments = ["split.fold=0,1", "split.folds=2", "seed=1", *settings(folds)]
    assert train_py(monkeypatch, "-m", *arguments, "name=second") == 0
    assert "was trained before" in capsys.readouterr().out
    tracking = store(folds)
    second, first = tracking.runs("sweep")[:2]
    assert second.info.run_name == "second"
    assert len(tracking.runs("training")) == 2
    rows = rows_of(tracking, second.info.run_id)
    assert [r.state for r in rows] == ["reused", "reused"]
    assert second.data.metrics["jobs/reused"] == 2
    assert second.data.metrics["cv/test_acc_mean"] == first.data.metrics["cv/test_acc_mean"]
    for entry in ("latest", "second", first.info.run_id):
        assert [r.info.run_id for r in _find(tracking, entry)] == [r.run_id for r in rows]


@pytest.mark.slow
def test_other_candidates_in_the_same_folder_are_trained_on_again(tmp_path, monkeypatch):
    write_set(tmp_path / "set", 60)
    arguments = ["-m", "seed=1", *settings(tmp_path, "trainer.max_epochs=1")]
    assert train_py(monkeypatch, *arguments, "hydra.mode=MULTIRUN") == 0
    (tmp_path / "set").rename(tmp_path / "old")
    write_set(tmp_path / "set", 60, seed=5)
    assert train_py(monkeypatch, *arguments, "hydra.mode=MULTIRUN") == 0
    runs = store(tmp_path).runs("training")
    assert len({r.data.tags["data.digest"] for r in runs}) == 2


@pytest.mark.slow
def test_a_failed_job_is_marked_and_alone_run_again(tmp_path, monkeypatch, capsys):
    write_set(tmp_path / "set", 60)
    arguments = ["-m", "trainer.batch_size=20,0,30", *settings(tmp_path, "trainer.max_epochs=1")]
    for attempt in ("first", "second"):
        assert train_py(monkeypatch, *arguments) == 1, attempt
        shown = capsys.readouterr()
        assert "1 of 3 jobs have no result" in shown.err
        assert "trainer.batch_size is 0" in shown.err
        tracking = store(tmp_path)
        assert len(tracking.runs("training")) == 3
        (parent,) = tracking.runs("sweep")
        assert parent.info.status == "FAILED"
        rows = rows_of(tracking, parent.info.run_id)
        assert [r.state for r in rows] == ["finished", "failed", "finished"]
        failed = tracking.client.get_run(rows[1].run_id)
        assert failed.info.status == "FAILED"
        assert "trainer.batch_size is 0" in failed.data.tags["rb.error"]
        assert tracking.artifact(rows[1].run_id, "error.txt", tmp_path).read_text()


@pytest.mark.slow
def test_a_sweep_that_was_stopped_goes_on_at_its_save_point(tmp_path, monkeypatch, capsys):
    write_set(tmp_path / "set", 60)
    arguments = ["-m", "seed=1,2", *settings(tmp_path, "trainer.max_epochs=5")]
    arguments.append("trainer.save_every_s=0")
    real = SavePoints._save

    def stop(self, trainer):
        real(self, trainer)
        if trainer.current_epoch == 2:
            raise Interrupted(signal.SIGINT)

    monkeypatch.setattr(SavePoints, "_save", stop)
    assert train_py(monkeypatch, *arguments) == 130
    assert "the same command takes this sweep up" in capsys.readouterr().err
    tracking = store(tmp_path)
    (parent,), (job,) = tracking.runs("sweep"), tracking.runs("training")
    assert (parent.info.status, job.info.status) == ("KILLED", "KILLED")
    monkeypatch.setattr(SavePoints, "_save", real)
    assert train_py(monkeypatch, *arguments) == 0
    assert "taking up sweep" in capsys.readouterr().out
    assert [r.info.status for r in tracking.runs("sweep")] == ["FINISHED"]
    assert tracking.runs("sweep")[0].info.run_id == parent.info.run_id
    rows = rows_of(tracking, parent.info.run_id)
    assert [r.state for r in rows] == ["finished", "finished"]
    assert rows[0].run_id == job.info.run_id
    steps = tracking.client.get_metric_history(rows[0].run_id, "val/loss")
    assert [m.step for m in steps] == [0, 1, 2, 3, 4]


def test_a_run_elsewhere_counts_as_alive_for_a_while(tmp_path):
    tracking = store(tmp_path)
    with tracking.run("job", "training") as job:
        job.tag({"rb.process": "elsewhere:1:0"})
        run = tracking.client.get_run(job.run_id)
        assert is_going_on(tracking, run)
        with sqlite3.connect(tmp_path / "mlruns" / "mlflow.db") as database:
            database.execute("update runs set start_time = start_time - ?", [2000 * SILENCE])
        assert not is_going_on(tracking, tracking.client.get_run(job.run_id))
        job.log_metrics({"val/loss": 0.3}, step=1)
        assert is_going_on(tracking, tracking.client.get_run(job.run_id))


def test_jobs_of_a_sweep_are_found_by_either_tag(tmp_path):
    tracking = store(tmp_path)
    with tracking.run("sweep", "sweep") as parent:
        with tracking.run("own", "training", parent=parent.run_id):
            pass
        with tracking.run("foreign", "training") as foreign:
            foreign.tag({SWEEP_TAG + parent.run_id: '{"job": 0, "how": "reused"}'})
        with tracking.run("neither", "training"):
            pass
    found = {r.info.run_name for r in tracking.runs(parent=parent.run_id)}
    assert found == {"own", "foreign"}
    with pytest.raises(UserError, match="there is no run"):
        tracking.find("nothing")


# --- jobs in other processes -----------------------------------------------------------


@pytest.mark.slow
def test_jobs_side_by_side_on_one_machine(tmp_path):
    write_set(tmp_path / "set", 60)
    done = run(
        "train.py", "-m", "trainer.batch_size=20,0,30", *settings(tmp_path, "trainer.max_epochs=1"),
        "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", expect=1, forked=False,
    )  # fmt: skip
    assert "1 of 3 jobs have no result" in done.stderr
    tracking = store(tmp_path)
    (parent,) = tracking.runs("sweep")
    rows = rows_of(tracking, parent.info.run_id)
    assert [r.state for r in rows] == ["finished", "failed", "finished"]
    assert str(os.getpid()) not in {str(Process.parse(r.process).pid) for r in rows}
    log = tmp_path / "mlruns" / "logs" / parent.info.run_id / "2.log"
    assert "trainer.batch_size=30: best val/acc" in log.read_text()


@pytest.mark.slow
def test_jobs_through_slurm(tmp_path):
    write_set(tmp_path / "set", 60)
    commands_folder = install(tmp_path / "slurm")
    run(
        "train.py", "-m", "seed=1,2", *settings(tmp_path, "trainer.max_epochs=1"),
        "hydra/launcher=nersc", "hydra.launcher.account=m1234",
        PATH=f"{commands_folder}:{os.environ['PATH']}",
    )  # fmt: skip
    script = submitted(commands_folder)
    for option in ("account=m1234", "qos=shared", "constraint=cpu", "array=0-1%2", "time=720"):
        assert f"#SBATCH --{option}\n" in script
    tracking = store(tmp_path)
    (parent,) = tracking.runs("sweep")
    assert parent.info.status == "FINISHED"
    rows = rows_of(tracking, parent.info.run_id)
    assert [r.state for r in rows] == ["finished", "finished"]
    assert len(list((tmp_path / ".cache" / "hydra" / "slurm").glob("*/*_log.out"))) == 2
