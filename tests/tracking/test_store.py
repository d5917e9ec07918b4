"""The tracking store when its folder is new, moved, damaged, or used by two at once."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from toys import REPOSITORY

from rb.errors import UserError
from rb.tracking import SAVED_CONFIG_TAG, Process, Tracking, TrackingError
from rb.tracking.saved import parse_config, relocated

_OPEN = "import sys; from rb.tracking import Tracking; t = Tracking(None, sys.argv[1], 'rb'); "


def in_another_process(folder: Path, then: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _OPEN + then, str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY,
    )  # fmt: skip


def no_such_process() -> Process:
    """On this machine, with the number of one that lives, but started at another time."""
    return Process(socket.gethostname(), os.getppid(), 1000.0)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Path:
    """A store to copy: making one takes seconds."""
    folder = tmp_path_factory.mktemp("fresh") / "mlruns"
    Tracking(None, folder, "rb")
    return folder


@pytest.fixture
def folder(fresh, tmp_path) -> Path:
    return Path(shutil.copytree(fresh, tmp_path / "mlruns"))


@pytest.mark.slow
def test_two_at_once_in_a_fresh_folder(tmp_path):
    both = [in_another_process(tmp_path / "mlruns", "print(t.experiment_id)") for _ in range(2)]
    answers = [one.communicate(timeout=240) for one in both]
    assert [one.returncode for one in both] == [0, 0], answers
    assert len({out for out, _ in answers}) == 1


@pytest.mark.slow
def test_killed_while_the_tables_are_made(tmp_path):
    process = in_another_process(tmp_path / "mlruns")
    while not list(tmp_path.glob("mlruns/.mlflow.db.*.new")) and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.wait(20)
    assert not (tmp_path / "mlruns" / "mlflow.db").exists()
    assert Tracking(None, tmp_path / "mlruns", "rb").runs() == []
    assert not list(tmp_path.glob("mlruns/.mlflow.db.*"))


@pytest.mark.parametrize("name", ["what? now", "a%20b", "a%b#c", "ünï 'x'"])
def test_any_name_of_a_folder(fresh, tmp_path, name):
    place = tmp_path / name / "mlruns"
    shutil.copytree(fresh, place)
    tracking = Tracking(None, place, "rb")
    with tracking.run("one", "evaluation") as run:
        run.log_text("text", "folder/text.txt")
    assert tracking.artifact(run.run_id, "folder/text.txt", tmp_path).read_text() == "text"
    assert list(place.glob("artifacts/*/artifacts/folder/text.txt"))
    with sqlite3.connect(place / "mlflow.db") as database:
        assert database.execute("select name from runs").fetchall() == [("one",)]
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == [name]


def test_a_moved_folder_keeps_its_artifacts_and_gets_the_new_ones(folder, tmp_path):
    with Tracking(None, folder, "rb").run("before", "evaluation") as before:
        before.log_text("before", "text.txt")
    there = tmp_path / "elsewhere" / "mlruns"
    there.parent.mkdir()
    folder.rename(there)
    tracking = Tracking(None, there, "rb")
    found = tracking.find("before").info.run_id
    assert tracking.artifact(found, "text.txt", tmp_path).read_text() == "before"
    with tracking.run("after", "evaluation") as after:
        after.log_text("after", "text.txt")
    assert not folder.exists()
    assert len(list(there.glob("artifacts/*/artifacts/text.txt"))) == 2


def test_of_a_copied_folder_only_the_copy_is_written_to(folder, tmp_path):
    with Tracking(None, folder, "rb").run("before", "evaluation") as before:
        before.log_text("before", "text.txt")
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    with Tracking(None, copy, "rb").run("after", "evaluation") as after:
        after.log_text("after", "text.txt")
    assert len(list(folder.glob("artifacts/*/artifacts/text.txt"))) == 1
    assert len(list(copy.glob("artifacts/*/artifacts/text.txt"))) == 2
    assert len(Tracking(None, folder, "rb").runs()) == 1


def test_a_link_to_the_folder_is_no_other_place(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    Tracking(None, folder, "rb")
    before = (folder / "mlflow.db").read_bytes()
    Tracking(None, tmp_path / "link", "rb")
    assert (folder / "mlflow.db").read_bytes() == before


def test_settings_of_a_moved_project_lead_to_its_files(tmp_path):
    (tmp_path / "new" / "set").mkdir(parents=True)
    saved = {
        "paths": {"root": "/nowhere/old", "runs": "/nowhere/old/mlruns"},
        "data": {"path": "/nowhere/old/set", "name": "x", "cuts": ["/nowhere/old/set", 3]},
    }
    there = relocated(saved, tmp_path / "new" / "mlruns")
    assert there["data"] == {
        "path": f"{tmp_path}/new/set", "name": "x", "cuts": [f"{tmp_path}/new/set", 3]
    }  # fmt: skip
    assert relocated(saved, tmp_path / "only_the_runs") == saved


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.write_text("not a database " * 100), "is no tracking database"),
        (lambda file: file.write_bytes(file.read_bytes()[:5000]), "is no tracking database"),
        (lambda file: _newer(file), "written by another version of MLflow"),
    ],
)
def test_a_damaged_or_newer_database_is_one_line(folder, damage, message):
    damage(folder / "mlflow.db")
    begun = time.monotonic()
    with pytest.raises(UserError, match=message) as caught:
        Tracking(None, folder, "rb")
    assert "\n" not in str(caught.value)
    assert time.monotonic() - begun < 15


def _newer(file: Path) -> None:
    with sqlite3.connect(file) as database:
        database.execute("update alembic_version set version_num = 'ffffffffffff'")


def test_a_full_disk_is_one_line(folder):
    tracking = Tracking(None, folder, "rb")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with (
        pytest.raises(TrackingError, match="full|I/O") as caught,
        tracking.run("one", "evaluation") as run,
    ):
        resource.setrlimit(resource.RLIMIT_FSIZE, ((folder / "mlflow.db").stat().st_size, hard))
        try:
            run.log_config({str(i): "x" * 400 for i in range(1000)})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert tracking.find("one").info.status == "KILLED"


@pytest.mark.parametrize("there", ["mlruns", "."])
def test_a_file_in_place_of_the_folder_is_one_line(tmp_path, there):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"paths\.runs is .*; give a folder"):
        Tracking(None, tmp_path / "file" / there, "rb")


def test_a_server_that_is_away_is_one_line_in_seconds(tmp_path):
    with socket.socket() as silent:  # accepts connections and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for uri in (f"http://127.0.0.1:{silent.getsockname()[1]}", "http://127.0.0.1:9"):
            begun = time.monotonic()
            with pytest.raises(TrackingError, match="does not answer") as caught:
                Tracking(uri, tmp_path, "rb", timeout_s=1)
            assert time.monotonic() - begun < 10
            assert "\n" not in str(caught.value)


def test_runs_of_dead_processes_do_not_run_for_ever(folder):
    tracking = Tracking(None, folder, "rb")
    tags = {"rb.process": no_such_process().tag, "rb.kind": "training", "rb.state": "running"}
    create = tracking.client.create_run
    early = create(tracking.experiment_id, run_name="early", tags=tags).info.run_id
    whole = tags | {SAVED_CONFIG_TAG: "0"}
    late = create(tracking.experiment_id, run_name="late", tags=whole).info.run_id
    elsewhere = tags | {"rb.process": "elsewhere:1:0"}
    far = create(tracking.experiment_id, run_name="far", tags=elsewhere).info.run_id
    alive = tags | {"rb.process": Process.this().tag}
    own = create(tracking.experiment_id, run_name="own", tags=alive).info.run_id
    again = Tracking(None, folder, "rb")
    states = {i: again.client.get_run(i).info.status for i in (early, late, far, own)}
    assert states == {early: "FAILED", late: "KILLED", far: "RUNNING", own: "RUNNING"}
    assert "before its settings" in again.client.get_run(early).data.tags["rb.error"]


def test_a_number_that_another_program_has_now_is_no_process_of_a_run():
    parent = psutil.Process(os.getppid())
    there = Process(socket.gethostname(), parent.pid, parent.create_time())
    assert Process.parse(there.tag).is_alive
    assert not no_such_process().is_alive
    assert not Process("elsewhere", parent.pid, parent.create_time()).is_alive
    assert Process.parse("host:12") is None


def test_a_run_that_is_trained_is_trained_by_nobody_else(folder):
    tracking = Tracking(None, folder, "rb")
    with tracking.run("one", "training") as run:
        tags = run.data.tags
        with (
            pytest.raises(UserError, match="is being trained by another process"),
            Tracking(None, folder, "rb").run("one", "training", run_id=run.run_id),
        ):
            pass
        assert run.data.tags == tags
    with tracking.run("one", "training", run_id=run.run_id):
        pass


def test_a_lock_ends_with_its_process(folder):
    code = "c = t.run('one', 'training'); r = c.__enter__(); print(r.run_id, flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", _OPEN + code, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY,
    )  # fmt: skip
    run_id = process.stdout.readline().strip()
    assert Tracking(None, folder, "rb").is_locked(run_id)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=20)
    assert not Tracking(None, folder, "rb").is_locked(run_id)


def test_summaries_are_logged_once(folder):
    tracking = Tracking(None, folder, "rb")
    with tracking.run("one", "training") as run:
        for best in (0.5, 0.5, 0.7):
            run.log_metrics({"best/val_acc": best, "bad": float("nan")})
    history = tracking.client.get_metric_history(run.run_id, "best/val_acc")
    assert [m.value for m in history] == [0.5, 0.7]


def test_settings_are_read_back_only_as_they_were_written(folder):
    tracking = Tracking(None, folder, "rb")
    with tracking.run("one", "training") as run:
        run.log_config({"a": {"b": 1}, "vary": {"c": 2}}, unused=("vary",))
    found = tracking.find("one")
    assert tracking.config_of(found) == {"a": {"b": 1}, "vary": {"c": 2}}
    assert run.data.params == {"a.b": "1"}
    (file,) = folder.glob("artifacts/*/artifacts/config.yaml")
    whole = file.read_bytes()
    file.write_bytes(whole[:-4])
    with pytest.raises(UserError, match=r"config\.yaml is damaged"):
        tracking.config_of(found)
    (tracking.checkpoints(run.run_id) / "config.yaml").write_bytes(whole)
    assert tracking.config_of(found) == {"a": {"b": 1}, "vary": {"c": 2}}
    with pytest.raises(UserError, match="is damaged"):
        parse_config("a: [", None, "run x")


def test_what_can_only_be_read_is_left_as_it_is(folder, monkeypatch, capsys):
    with Tracking(None, folder, "rb").run("one", "training") as run:
        pass
    before = {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    monkeypatch.setattr(os, "access", lambda *arguments, **named: False)
    tracking = Tracking(None, folder, "rb")
    assert tracking.find("one").info.run_id == run.run_id
    with tracking.run("look", "evaluation") as look:
        look.log_config({"a": 1})
        look.log_metrics({"b": 1.0})
        assert look.data.metrics == {}
    assert "can only be read" in capsys.readouterr().err
    with pytest.raises(UserError, match="can only be read"), tracking.run("x", "training"):
        pass
    assert {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()} == before


def test_what_was_killed_in_a_transaction_is_undone(folder):
    """A hot journal, as SIGKILL in a commit leaves one; it takes the right to write to undo it."""
    file = folder / "mlflow.db"
    code = (
        "import os, sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1])\n"
        "db.execute('pragma cache_size = 1'); db.execute('begin immediate')\n"
        "db.execute('create table filler (x)')\n"
        "db.executemany('insert into filler values (?)', [('x' * 2000,) for _ in range(2000)])\n"
        "db.execute(\"update experiments set name = name || ' half'\")\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(file)], check=False)
    assert file.with_name("mlflow.db-journal").stat().st_size > 0
    tracking = Tracking(None, folder, "rb")
    assert tracking.client.get_experiment(tracking.experiment_id).name == "rb"
    assert not file.with_name("mlflow.db-journal").exists()
