"""The comparison that a person makes in the MLflow page, seen through a real browser."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from toys import REPOSITORY, TINY, write_set


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture
def runs(tmp_path) -> Path:
    """Folder with tracked runs: those of RB_MLFLOW_RUNS, or two tiny ones."""
    given = os.environ.get("RB_MLFLOW_RUNS")
    if given:
        return Path(given)
    write_set(tmp_path / "set", 120)
    for arguments in (
        [
            "train.py",
            "-m",
            "model=dia,nodia",
            *TINY,
            "data=stamps",
            f"data.path={tmp_path / 'set'}",
        ],
        ["evaluate.py", "timing=false"],
    ):
        subprocess.run(
            [sys.executable, *arguments, f"paths.root={tmp_path}"], cwd=REPOSITORY, check=True
        )
    return tmp_path / "mlruns"


@pytest.fixture
def server(runs):
    """The MLflow page on the runs, as `make ui` opens it."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "ui", "--port", str(port),
         "--backend-store-uri", f"sqlite:///{runs / 'mlflow.db'}", "--workers", "1"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/health", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None, "mlflow ui ended"
                time.sleep(0.5)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


@pytest.mark.slow
def test_dia_and_nodia_stand_side_by_side(browser, server, runs, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    from rb.tracking import PARENT_TAG, Tracking

    tracking = Tracking(None, runs, "rb")
    newest = tracking.runs("sweep")[0].info.run_id
    children = [r for r in tracking.runs("training") if r.data.tags.get(PARENT_TAG) == newest]
    ids = ",".join(f'"{r.info.run_id}"' for r in children[::-1])
    wait = WebDriverWait(browser, 120)

    def page_text() -> str:
        # Not `.text`, which leaves out what an inner scroll bar hides.
        return browser.execute_script("return document.body.textContent")

    browser.get(f'{server}/#/compare-runs?runs=[{ids}]&experiments=["{tracking.experiment_id}"]')
    wait.until(lambda _: "Comparing 2 Runs" in page_text() and "test/accuracy" in page_text())
    for word in ("nodia", "test/auc", "best/val_acc", "cost/train_cpu_hours", "trainer.batch_size"):
        assert word in page_text()
    time.sleep(5)  # a help panel opens late and would cover the table
    browser.execute_script("document.querySelector('button[aria-label=Close]')?.click()")
    first = browser.find_element(By.XPATH, "//*[normalize-space(text())='best/epoch']")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", first)
    wait.until(lambda _: first.is_displayed())
    time.sleep(1)
    picture = Path(os.environ.get("RB_SCREENSHOT", tmp_path / "mlflow.png"))
    assert browser.save_screenshot(str(picture))
    assert picture.stat().st_size > 20_000
