"""The comparison that a person makes in the MLflow page, seen through a real browser."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import command_lines
import pytest
from ports import free_port
from toys import TINY, write_set

from rb.cli import main
from rb.tracking import Tracking


@pytest.fixture
def runs(tmp_path) -> Path:
    """Folder with tracked runs: those of RB_MLFLOW_RUNS, or two tiny ones."""
    given = os.environ.get("RB_MLFLOW_RUNS")
    if given:
        return Path(given)
    write_set(tmp_path / "set", 120)
    data = ["data=stamps", f"data.path={tmp_path / 'set'}"]
    command_lines.run("train.py", "-m", "model=dia,nodia", *TINY, *data, f"paths.root={tmp_path}")
    command_lines.run("evaluate.py", "timing=false", f"paths.root={tmp_path}")
    return tmp_path / "mlruns"


@pytest.fixture
def page(runs):
    """MLflow's page on the runs as `rb ui` opens it: its address, and what `rb ui` said."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "rb", "ui", "--runs", str(runs), "--port", str(port)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        said = []
        while not said or not said[-1].startswith("Ctrl-C"):
            said.append(process.stdout.readline())
            assert said[-1], process.stderr.read()
        yield f"http://127.0.0.1:{port}", said
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def on_screen(browser, text: str) -> bool:
    """Whether a person sees this text without scrolling, at the top of everything."""
    return browser.execute_script(
        """
        return [...document.querySelectorAll('*')].some(e => {
          if (e.children.length || e.textContent.trim() !== arguments[0]) return false;
          const r = e.getBoundingClientRect(), x = r.x + r.width / 2, y = r.y + r.height / 2;
          const top = document.elementFromPoint(x, y);
          return r.width > 0 && top && (top === e || e.contains(top) || top.contains(e));
        })
        """,
        text,
    )


@pytest.mark.slow
def test_dia_and_nodia_stand_side_by_side_on_the_first_screen(browser, page, runs, tmp_path):
    from selenium.webdriver.support.ui import WebDriverWait

    from rb.tracking import PARENT_TAG, Tracking

    address, said = page
    view, charts = (line.split(": ", 1)[1].strip() for line in said[:2])
    assert view.startswith(address) and charts.startswith(view)
    tracking = Tracking(None, runs, "rb")
    newest = tracking.runs("sweep")[0]
    trained = [
        run
        for run in tracking.runs("training")
        if run.data.tags.get(PARENT_TAG) == newest.info.run_id
    ]
    assert {run.info.run_name for run in trained} == {"dia", "nodia"}
    wait = WebDriverWait(browser, 120)
    browser.set_window_size(1400, 900)
    height = browser.execute_script("return window.innerHeight")
    browser.set_window_size(1400, 900 + 900 - height)
    browser.get(view)
    for run in trained:
        assert "±" in run.data.tags["test accuracy"] or "−" in run.data.tags["test accuracy"]
        for text in (run.info.run_name, run.data.tags["test accuracy"], run.data.tags["test AUC"]):
            wait.until(lambda _, text=text: on_screen(browser, text))
    time.sleep(3)
    # For the picture in the README: the column beside the table is MLflow's own.
    browser.execute_script(
        "[...document.querySelectorAll('button')].find(b => b.ariaLabel === 'Close')?.click()"
    )
    time.sleep(2)
    picture = Path(os.environ.get("RB_SCREENSHOT", tmp_path / "mlflow.png"))
    assert browser.save_screenshot(str(picture)) and picture.stat().st_size > 20_000
    browser.get("about:blank")
    browser.get(charts)
    for text in ("DIA and noDIA", "dia (val/acc)", "nodia (val/acc)", "nodia (val/loss)"):
        wait.until(lambda _, text=text: text in browser.page_source)
    assert browser.save_screenshot(str(picture.with_stem("charts")))

    evaluation = tracking.runs("evaluation")[0]
    note = evaluation.data.tags["mlflow.note.content"]
    assert tracking.find(newest.info.run_id).data.tags["mlflow.note.content"] == note
    assert "| dia | nodia |" in note and "difference image" in note
    place = re.search(r"\[report\]\((#[^)]+)\)", note)[1]
    browser.get("about:blank")
    browser.get(f"{address}/{place}")
    wait.until(lambda _: browser.find_elements("tag name", "iframe"))

    # On a tracking server, which this one is as well, it is the link alone.
    done = subprocess.run(
        [sys.executable, "-m", "rb", "ui", "--runs", str(tmp_path / "none")],
        env=os.environ | {"MLFLOW_TRACKING_URI": address}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.splitlines()[0] == said[0].strip()


def test_what_cannot_be_opened_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert main(["ui", "--runs", str(tmp_path)]) == 2
    assert "nothing was trained there yet; run make demo" in capsys.readouterr().err
    (tmp_path / "mlflow.db").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = str(taken.getsockname()[1])
        assert main(["ui", "--runs", str(tmp_path), "--port", number]) == 2
    assert f"--port: {number} is in use" in capsys.readouterr().err


@pytest.mark.usefixtures("as_before")
def test_an_experiment_that_is_not_there_is_named_and_not_made(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = Tracking(None, tmp_path, "rb")
    words = ["ui", "--runs", str(tmp_path), "--port", str(free_port()), "--experiment", "rv"]
    assert main(words) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "has no experiment 'rv'; it has: " in said and "rb" in said.split("it has: ")[1]
    assert store.client.get_experiment_by_name("rv") is None


@pytest.mark.slow
def test_the_server_ends_with_it_however_that_is_told_to(tmp_path, monkeypatch):
    """SIGTERM too; and Ctrl-C where a shell started it in the background, deaf to that."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Tracking(None, tmp_path, "rb")
    for signum, deaf in ((signal.SIGTERM, False), (signal.SIGINT, True)):
        port = free_port()
        before = signal.signal(signal.SIGINT, signal.SIG_IGN) if deaf else None
        process = subprocess.Popen(
            [sys.executable, "-m", "rb", "ui", "--runs", str(tmp_path), "--port", str(port)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        if deaf:
            signal.signal(signal.SIGINT, before)
        while not process.stdout.readline().startswith("Ctrl-C"):
            assert process.poll() is None
        process.send_signal(signum)
        assert process.wait(30) == 0
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", port))
