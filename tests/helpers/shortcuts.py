"""What costs most of a toy command and is tested where it is made: done once, or left out."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from rb.figures.style import save_figure
from rb.tracking import database
from rb.tracking.client import quieten

_prepare, _defaults = database.prepare, save_figure.__defaults__


@cache
def empty_database() -> bytes:
    """MLflow's tables, which take seconds to make."""
    quieten()
    with tempfile.TemporaryDirectory() as folder:
        _prepare(Path(folder))
        return database.database_file(Path(folder)).read_bytes()


def _copied(folder: Path) -> None:
    file = database.database_file(folder)
    if file.exists() and file.stat().st_size:
        _prepare(folder)
    else:
        file.write_bytes(empty_database())


def take(databases: bool = True, figures: bool = True) -> None:
    """Copy new databases, and draw reports as PNG alone, or do it as users have it again."""
    database.prepare = _copied if databases else _prepare
    formats, *rest = _defaults
    save_figure.__defaults__ = (formats[:1] if figures else formats, *rest)
