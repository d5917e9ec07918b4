"""Studies run in the tests' own process, which MLflow leaves its tracking address in."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def own_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test find its own database and not that of the test before."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
