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
import shortcuts
from hydra.core.global_hydra import GlobalHydra
from toys import REPOSITORY, write_set

from rb import hydra_job as commands
from rb.stamps import StampSet

_WHOLE_DATABASES, _WHOLE_FIGURES = {"tracking"}, {"figures", "studies"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let files with slow tests begin: whoever gets the last file keeps nobody waiting for long."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="module", autouse=True)
def taken_shortcuts(request: pytest.FixtureRequest) -> None:
    """See `shortcuts`; not in the folders where what they shorten is tested."""
    folder = request.path.parent.name
    shortcuts.take(folder not in _WHOLE_DATABASES, folder not in _WHOLE_FIGURES)


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
