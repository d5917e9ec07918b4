"""Fixtures that all tests share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from toys import REPOSITORY, write_set

from rb.stamps import StampSet


@pytest.fixture(autouse=True)
def own_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test find its own database: MLflow leaves its address in the environment."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


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
