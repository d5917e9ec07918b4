"""Runs that go on, or cannot, as a user meets them; in this process where that does."""

from __future__ import annotations

import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import torch
from command_lines import Started, run, run_here
from ports import free_port
from toys import TINY, write_set

from rb.hydra_job import UserError
from rb.tracking import CONFIG_TAG, Tracking
from rb.training.callbacks import SavePoints
from rb.training.network import make_trainer
from rb.training.save_points import LAST, PREVIOUS, epochs_in, usable

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("as_before")]


def settings(root: Path, *more: str) -> list[str]:
    return [
        *TINY, "model=nodia", "data=stamps", f"data.path={root / 'set'}", f"paths.root={root}",
        "trainer.save_every_s=0", "trainer.max_epochs=4", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A project with one run of four epochs, to copy."""
    root = tmp_path_factory.mktemp("trained")
    write_set(root / "set", 60)
    run("train.py", *settings(root), "name=whole")
    return root


@pytest.fixture
def project(trained, tmp_path) -> Path:
    """The same, moved: its paths in the settings are of another folder."""
    return Path(shutil.copytree(trained, tmp_path / "moved"))


def store(root: Path) -> Tracking:
    return Tracking(None, root / "mlruns", "rb")


def error_of(capsys) -> str:
    lines = [x for x in capsys.readouterr().err.splitlines() if x and x != "starting …"]
    assert len(lines) == 1, lines
    return lines[0]


def weights(root: Path) -> dict[str, torch.Tensor]:
    (file,) = (root / "mlruns" / "checkpoints").glob("*/last.ckpt")
    return torch.load(file, weights_only=True)["state_dict"]


def test_a_moved_project_is_evaluated_and_goes_on(project, trained, monkeypatch, capsys):
    hidden = trained.with_name("hidden")
    trained.rename(hidden)  # so that nothing is found at the old place
    try:
        place = [f"paths.root={project}", "timing=false", f"report={project / 'report'}"]
        assert run_here(monkeypatch, "evaluate.py", *place, "examples=0") == 0
        longer = ["run=whole", "trainer.max_epochs=5", f"paths.root={project}"]
        assert run_here(monkeypatch, "train.py", *longer) == 0
        assert not trained.exists()
    finally:
        hidden.rename(trained)
    capsys.readouterr()
    found = store(project).find("whole")
    assert found.data.metrics["epochs"] == 5
    assert str(project) in found.info.artifact_uri


def test_a_run_trained_longer_is_not_the_job_that_it_was(project, monkeypatch, capsys):
    before = store(project).find("whole").data.tags[CONFIG_TAG]
    place = f"paths.root={project}"
    for fewer in (2, 3):
        words = ["run=whole", f"trainer.max_epochs={fewer}", place]
        assert run_here(monkeypatch, "train.py", *words) == 2
        assert "was trained for 4 epochs" in error_of(capsys)
    assert run_here(monkeypatch, "train.py", "run=whole", "trainer.max_epochs=4", place) == 0
    assert "nothing to do" in capsys.readouterr().out
    found = store(project).find("whole")
    assert (found.info.status, found.data.tags[CONFIG_TAG]) == ("FINISHED", before)
    assert run_here(monkeypatch, "train.py", "run=whole", "trainer.max_epochs=6", place) == 0
    longer = store(project).find("whole").data
    # Six epochs that began as four are not what a run of six would be: the rate falls elsewhere.
    fresh = settings(project, "trainer.max_epochs=6", "name=fresh")
    assert run_here(monkeypatch, "train.py", *fresh) == 0
    assert longer.tags[CONFIG_TAG] not in (
        before,
        store(project).find("fresh").data.tags[CONFIG_TAG],
    )
    # What goes on once more remembers the length that it was given.
    assert run_here(monkeypatch, "train.py", "run=whole", place) == 0
    assert store(project).config_of(store(project).find("whole"))["trainer"]["max_epochs"] == 6


@pytest.mark.parametrize("what", ["last", "both"])
def test_a_damaged_save_point_costs_epochs_and_no_more(project, monkeypatch, capsys, what):
    (folder,) = (project / "mlruns" / "checkpoints").iterdir()
    undisturbed = weights(project)
    tracking = store(project)
    tracking.client.set_tag(tracking.find("whole").info.run_id, "rb.state", "interrupted")
    cut(folder / LAST)
    if what == "both":
        flip(folder / PREVIOUS)
    assert usable(folder) == (folder / PREVIOUS if what == "last" else None, (
        [LAST] if what == "last" else [LAST, PREVIOUS]))  # fmt: skip
    assert run_here(monkeypatch, "train.py", "run=whole", f"paths.root={project}") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"going on from {'the one before' if what == 'last' else 'the first epoch'}" in said
    after = weights(project)
    assert all(torch.equal(undisturbed[k], after[k]) for k in undisturbed)
    history = tracking.client.get_metric_history(tracking.find("whole").info.run_id, "val/loss")
    assert [m.step for m in history] == [0, 1, 2, 3]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_epochs_are_read_from_the_newest_whole_file(project, tmp_path):
    (folder,) = (project / "mlruns" / "checkpoints").iterdir()
    assert epochs_in(folder) == 4
    flip(folder / LAST)
    assert epochs_in(folder) == 3
    assert epochs_in(tmp_path) == 0
    torch.save({"other": 1}, folder / LAST)
    with pytest.raises(UserError, match="no save point of a training"):
        epochs_in(folder)


def test_settings_cut_off_are_one_line_or_read_from_the_copy(project, monkeypatch, capsys):
    (file,) = (project / "mlruns").glob("artifacts/*/artifacts/config.yaml")
    cut_off = file.read_bytes()[:300]
    file.write_bytes(cut_off)
    place = f"paths.root={project}"
    assert run_here(monkeypatch, "train.py", "run=whole", place) == 0
    (copy,) = (project / "mlruns").glob("checkpoints/*/config.yaml")
    copy.unlink()
    capsys.readouterr()
    assert run_here(monkeypatch, "train.py", "run=whole", place) == 2
    assert "config.yaml is damaged" in error_of(capsys)


def test_a_run_without_settings_is_not_gone_on_with(project, monkeypatch, capsys):
    tracking = store(project)
    tags = {"rb.kind": "training", "rb.process": f"{socket.gethostname()}:{os.getppid()}:1.0"}
    tracking.client.create_run(tracking.experiment_id, run_name="early", tags=tags)
    assert run_here(monkeypatch, "train.py", "run=early", f"paths.root={project}") == 2
    assert "ended before its settings were recorded" in error_of(capsys)
    assert tracking.find("early").info.status == "FAILED"


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_loss_that_is_no_number_ends_it_and_good_weights_stay(
    project, monkeypatch, capsys, epoch
):
    from rb.models.classifier import Classifier

    real = Classifier.training_step

    def diverging(self, *arguments, **named):
        loss = real(self, *arguments, **named)
        return loss * float("nan") if self.current_epoch == epoch else loss

    monkeypatch.setattr(Classifier, "training_step", diverging)
    assert run_here(monkeypatch, "train.py", *settings(project, "name=nan")) == 2
    assert f"after epoch {epoch + 1}: training stopped" in error_of(capsys)
    found = store(project).find("nan")
    assert found.info.status == "FAILED"
    folder = store(project).checkpoints(found.info.run_id)
    assert epochs_in(folder) == epoch
    if epoch:
        kept = torch.load(folder / "best.ckpt", weights_only=True)["state_dict"]
        assert all(math.isfinite(v.sum()) for v in kept.values())


@pytest.mark.parametrize(
    ("word", "runs"),
    [("12e45678", "{}"), ("20240101", "[{}]"), ("true", "{}"), ("1_000", "[{}]")],
)
def test_words_that_look_like_numbers(project, monkeypatch, capsys, word, runs):
    tracking = store(project)
    tracking.client.update_run(tracking.find("whole").info.run_id, name=word)
    assert run_here(monkeypatch, "train.py", f"run={word}", f"paths.root={project}") == 0
    assert "is finished" in capsys.readouterr().out
    place = [f"paths.root={project}", "timing=false", "examples=0"]
    shown = [f"runs={runs.format(word)}", *place, f"report={project / word}"]
    assert run_here(monkeypatch, "evaluate.py", *shown) == 0
    assert run_here(monkeypatch, "evaluate.py", "runs=3", *place) == 2


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("trainer.accelerator=tpu", "trainer.accelerator=tpu"),
        ("trainer.precision=7", "precision=7"),
        ("+trainer.lightning.max_epochs=3", "give trainer.max_epochs"),
        ("+trainer.lightning.logger=true", "is set by the training itself"),
        ("+trainer.lightning.fast_dev_run=true", "cannot be given"),
        ("+trainer.lightning.gradient_clip=1", "did you mean 'gradient_clip_val'?"),
        ("+trainer.lightning.gradient_clip_val=much", "gradient_clip_val=much"),
        ("paths.root=", "paths.root is ''; give a folder"),
        ("paths.root={file}", "which is a file; give a folder"),
    ],
)
def test_what_cannot_be_trained_with_is_said_before_a_run_is_there(
    project, monkeypatch, capsys, argument, message
):
    words = settings(project, "name=no", argument.format(file=project / "set" / "meta.json"))
    assert run_here(monkeypatch, "train.py", *words) == 2
    assert message in error_of(capsys)
    assert {r.info.run_name for r in store(project).runs()} == {"whole"}


def test_arguments_reach_lightnings_trainer():
    plain = {"max_epochs": 2, "accelerator": "cpu", "precision": "32-true"}
    trainer = make_trainer(plain | {"lightning": {"gradient_clip_val": 0.5}})
    assert (trainer.gradient_clip_val, trainer.max_epochs) == (0.5, 2)
    assert make_trainer(plain | {"lightning": {}}).gradient_clip_val is None


# --- a tracking server that goes away ----------------------------------------------------


class Server:
    """An MLflow server on one port, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"http://127.0.0.1:{free_port()}"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "mlflow", "server", "--workers", "1",
                "--port", self.address.rpartition(":")[2],
                "--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}",
                "--artifacts-destination", str(self.folder / "served"),
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
        )  # fmt: skip
        for _ in range(400):
            try:
                urllib.request.urlopen(f"{self.address}/health", timeout=2).close()
                return
            except OSError:
                assert self.process.poll() is None, "the server ended"
                time.sleep(0.5)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)


@pytest.fixture
def server(tmp_path):
    one = Server(tmp_path)
    yield one
    one.kill()


def test_a_server_lost_in_the_middle_costs_nothing(server, project, monkeypatch, capsys):
    real = SavePoints._save

    def save(self, trainer):
        if trainer.current_epoch == 1:
            server.kill()
        real(self, trainer)

    monkeypatch.setattr(SavePoints, "_save", save)
    words = [f"tracking.uri={server.address}", "tracking.timeout_s=2"]
    assert run_here(monkeypatch, "train.py", *settings(project, "name=lost"), *words) == 2
    shown = capsys.readouterr()
    assert "training goes on, its metrics are kept" in " ".join(shown.out.split())
    (line,) = [x for x in shown.err.splitlines() if x.startswith("error: ")]
    go_on = line.rpartition("python train.py ")[2]
    assert "Traceback" not in shown.err
    server.start()
    monkeypatch.setattr(SavePoints, "_save", real)
    assert run_here(monkeypatch, "train.py", go_on, *words, f"paths.root={project}") == 0
    tracking = Tracking(server.address, project / "mlruns", "rb")
    found = tracking.find("lost")
    assert found.info.status == "FINISHED"
    history = tracking.client.get_metric_history(found.info.run_id, "val/loss")
    assert [m.step for m in history] == [0, 1, 2, 3]


def test_two_that_take_up_the_same_run(trained, tmp_path):
    root = Path(shutil.copytree(trained, tmp_path / "two"))
    words = settings(root, "name=two", "trainer.max_epochs=400", "trainer.save_every_s=1")
    first = Started("train.py", *words)
    before = set((trained / "mlruns" / "checkpoints").iterdir())
    names = {p.name for p in before}
    while not [
        p for p in (root / "mlruns" / "checkpoints").glob("*/last.ckpt")
        if p.parent.name not in names
    ] and first.poll() is None:  # fmt: skip
        time.sleep(0.05)
    refused = run("train.py", "run=two", f"paths.root={root}", expect=2)
    assert "still going on" in refused.stderr or "another process" in refused.stderr
    assert "Traceback" not in refused.stderr
    first.send_signal(signal.SIGKILL)
    first.wait(20)
    assert run("train.py", "run=two", f"paths.root={root}").returncode == 0
    history = store(root)
    steps = history.client.get_metric_history(history.find("two").info.run_id, "val/loss")
    assert [m.step for m in steps] == list(range(400))
