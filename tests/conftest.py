"""Fixtures that all tests share."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

# Tests side by side: two threads each would wait for one another. Read when torch is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hydra.core.global_hydra import GlobalHydra
from toys import REPOSITORY, write_set

from rb import hydra_job as commands
from rb.stamps import StampSet
from rb.tracking import database


def _empty_database_once() -> None:
    """Have a process of the tests make MLflow's tables once, which takes seconds, and copy them.

    Tests of the tracking itself make them each time.
    """
    prepare = database.prepare
    empty: list[bytes] = []

    def copied(folder: Path) -> None:
        file = database.database_file(folder)
        itself = "tests/tracking/" in os.environ.get("PYTEST_CURRENT_TEST", "")
        if itself or (file.exists() and file.stat().st_size):
            prepare(folder)
        elif empty:
            file.write_bytes(empty[0])
        else:
            prepare(folder)
            empty.append(file.read_bytes())

    database.prepare = copied


_empty_database_once()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let files with slow tests begin: whoever gets the last file keeps nobody waiting for long."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(autouse=True)
def own_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test find its own database: MLflow leaves its address in the environment."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def as_before():
    """What a command changes in this process is put back."""
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    environment, hook = dict(os.environ), sys.unraisablehook
    yield
    sys.unraisablehook = hook
    for signum, handler in handlers.items():
        signal.signal(signum, handler)
    os.environ.clear()
    os.environ.update(environment)
    commands._failed_jobs.clear()
    commands._left_open.clear()
    GlobalHydra.instance().clear()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real DES stamps, feature table and alerts, where there is one."""
    root = Path(os.environ.get("RB_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no real data in {root} (set RB_SHARED_DATA)")
    return root


@pytest.fixture
def stamp_set(tmp_path: Path) -> StampSet:
    return write_set(tmp_path / "set")


@pytest.fixture
def browser(tmp_path: Path):
    """A headless Chromium driven by selenium; skips where there is none."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no chromium and chromedriver to look at the page with")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--window-size=1500,1300", f"--user-data-dir={tmp_path / 'chromium'}",
    ):  # fmt: skip
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    page = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield page
    page.quit()
