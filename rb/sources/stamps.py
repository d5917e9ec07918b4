"""A stamp set that was built before, by any source."""

from __future__ import annotations

from typing import Any

from rb.stamps import StampSet


def open_stamps(config: dict[str, Any], *, progress: bool = True) -> StampSet:
    """Open the stamp set in ``config["path"]``; UserError if it is not whole."""
    return StampSet.open(config["path"])
