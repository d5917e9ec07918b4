"""The DES autoscan archive as a stamp set: shard tars, unpacked trees, or both.

``open_stamps`` is the door; `rb.sources.des.build` does the work.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rb.errors import UserError
from rb.io.progress import bars
from rb.sources.des.archive import list_archive
from rb.sources.des.build import build
from rb.sources.des.settings import DesSettings
from rb.sources.des.table import find_table
from rb.stamps.resumable import open_or_build
from rb.stamps.stampset import StampSet

_FORMAT = 2  # of the build; a change makes every set be built again


def open_stamps(config: Mapping[str, Any], *, progress: bool = True) -> StampSet:
    """Open the stamp set of a DES autoscan download; build it first where there is none.

    A set is known by what lies under the root (names, sizes, times of change), the feature
    table, and the settings that change its content; so the second call opens it at once
    and a changed archive makes a new one. A build that was interrupted, or killed, goes on
    where it stopped.

    Parameters
    ----------
    config : mapping
        The keys of ``conf/data/des.yaml``.
    progress : bool
        Show progress bars.

    Returns
    -------
    StampSet
        Rows in order of ID; ``build-report.json`` beside the stamps tells what was damaged
        or left out.

    Raises
    ------
    UserError
        If a setting is wrong, nothing is found, the table does not fit, or more than
        ``max_bad_share`` of the candidates are damaged.
    """
    settings = DesSettings.of(config)
    with bars(progress) as show:
        with show.task("listing") as step:
            listing = list_archive(settings.root, step.at)
        if not listing.tars and not len(listing.tree):
            raise UserError(
                f"{settings.root}: no stamps here, neither tars nor files named like diff123.fits"
            )
        table = find_table(listing, settings.table)
        parameters = asdict(settings) | {
            "format": _FORMAT,
            "root": str(settings.root),
            "require": settings.required,
            "listing": listing.digest,
            "table": None if table is None else _stamp_of(table),
        }
        for key in ("cache", "processes", "max_bad_share"):
            del parameters[key]  # they do not change what is in the set
        key = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()[:16]
        path = settings.cache / f"des-{key}"
        return open_or_build(
            path, lambda work: build(path, work, settings, listing, table, parameters, show)
        )


def _stamp_of(path: Path) -> dict[str, Any]:
    status = path.stat()
    return {"path": str(path), "size": status.st_size, "mtime_ns": status.st_mtime_ns}
