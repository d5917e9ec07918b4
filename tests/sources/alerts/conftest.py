"""What tests of alert packets share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty folder for packets."""
    folder = tmp_path / "night"
    folder.mkdir()
    return folder
