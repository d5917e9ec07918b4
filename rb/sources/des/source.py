"""The DES autoscan archive as a stamp set: shard tars, unpacked trees, or both.

``open_stamps`` is the door; `rb.sources.des.build` does the work.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from rb.errors import UserError
from rb.sources.des.archive import list_archive
from rb.sources.des.table import find_table
from rb.stamps.stampset import CHANNELS, StampSet

_FORMAT = 2  # of the build; a change makes every set be built again


@dataclass(frozen=True)
class Settings:
    """What ``conf/data/des.yaml`` says; the comments there explain the keys."""

    root: Path
    cache: Path
    table: str | None = None
    require: tuple[str, ...] = CHANNELS
    unlabelled: str = "keep"
    flat: str = "together"
    max_bad_share: float = 0.01
    processes: int | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Settings:
        """Check `config` and make settings of it.

        Raises
        ------
        UserError
            Naming the key that is unknown, missing or wrong.
        """
        known = {f.name for f in fields(cls)} | {"name"}
        unknown = sorted(set(config) - known)
        if unknown:
            names = ", ".join(sorted(known))
            raise UserError(f"data.{unknown[0]}: no such setting for DES; there are {names}")
        values = {key: value for key, value in config.items() if key != "name"}
        for key in ("root", "cache"):
            if not values.get(key):
                raise UserError(f"data.{key} is not set; give the folder as data.{key}=FOLDER")
            values[key] = Path(os.path.expandvars(str(values[key]))).expanduser().absolute()
        require = values.get("require", CHANNELS)
        require = (require,) if isinstance(require, str) else tuple(require or ())
        if not require or any(c not in CHANNELS for c in require):
            raise UserError(f"data.require is {list(require)}; name some of {list(CHANNELS)}")
        values["require"] = tuple(c for c in CHANNELS if c in require)
        for key, choices in (("unlabelled", ("keep", "drop")), ("flat", ("together", "apart"))):
            if values.get(key, choices[0]) not in choices:
                raise UserError(f"data.{key} is {values[key]}; choose one of {list(choices)}")
        share = values.get("max_bad_share", 0.0)
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise UserError(f"data.max_bad_share is {share}; give a share from 0 to 1")
        processes = values.get("processes")
        if processes is not None and (
            isinstance(processes, bool) or not isinstance(processes, int) or processes < 1
        ):
            raise UserError(f"data.processes is {processes}; give a number of at least 1, or null")
        return cls(**values)

    @property
    def n_processes(self) -> int:
        """Processes to read with."""
        if self.processes is not None:
            return self.processes
        available = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
        return len(available(0))


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
    from rb.io.locks import building
    from rb.io.progress import bars
    from rb.sources.des.build import build

    settings = Settings.of(config)
    with bars(progress) as show:
        with show.task("listing", None) as step:
            listing = list_archive(settings.root, step.at)
        if not listing.tars and not len(listing.tree):
            raise UserError(
                f"{settings.root}: no stamps here, neither tars nor files named like diff123.fits"
            )
        table = find_table(listing, settings.table)
        parameters = asdict(settings) | {
            "format": _FORMAT,
            "root": str(settings.root),
            "listing": listing.digest,
            "table": None if table is None else _stamp_of(table),
        }
        for key in ("cache", "processes", "max_bad_share"):
            del parameters[key]  # they do not change what is in the set
        key = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()[:16]
        path = settings.cache / f"des-{key}"
        if not path.exists():
            with building(path):
                # Another process may have built it while this one waited for its turn.
                if not path.exists():
                    build(path, settings, listing, table, parameters, show)
    return StampSet.open(path)


def _stamp_of(path: Path) -> dict[str, Any]:
    status = path.stat()
    return {"path": str(path), "size": status.st_size, "mtime_ns": status.st_mtime_ns}
