"""Fixtures that all tests share."""

from __future__ import annotations

import os
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
