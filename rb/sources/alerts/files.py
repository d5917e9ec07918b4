"""The files below a folder of alerts, and what a cache has to know of them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from rb.errors import UserError

FORMAT = 2
"""Raised whenever a change of the reader changes what a packet becomes."""


@dataclass(frozen=True)
class AlertFile:
    """A file that may hold packets: where it is, its name below the root, size, change time."""

    path: Path
    name: str
    size: int
    mtime: int


def list_files(root: Path) -> list[AlertFile]:
    """Regular files below `root`, in a fixed order.

    Hidden files, markers of Spark and Hadoop (``_SUCCESS``, ``_committed_…``: names with an
    underscore in front), linked folders, pipes and devices are left out.

    Raises
    ------
    UserError
        If `root` does not exist or something below it may not be read.
    """
    if not root.exists():
        raise UserError(f"{root}: no such file or folder; point data.root at alert packets")
    base = root.parent if root.is_file() else root
    files = []
    for path in [root] if root.is_file() else _walk(root):
        try:
            # is_file is false for pipes and devices, which would block or never end.
            if path.is_file():
                stat = path.stat()
                name = os.fsencode(path.relative_to(base)).decode("utf-8", "replace")
                files.append(AlertFile(path, name, stat.st_size, stat.st_mtime_ns))
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    return files


def digest(parameters: Mapping[str, Any], files: Iterable[AlertFile]) -> str:
    """SHA-256 over `parameters` and the names, sizes and change times of `files`."""
    found = hashlib.sha256(json.dumps([FORMAT, parameters], sort_keys=True).encode())
    for file in files:
        found.update(f"{file.name}\0{file.size}\0{file.mtime}\n".encode())
    return found.hexdigest()


def _walk(root: Path) -> Iterable[Path]:
    for folder, folders, names in os.walk(root, onerror=_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith((".", "_")):
                yield Path(folder, name)


def _unreadable(error: OSError) -> NoReturn:
    raise UserError(f"{error.filename}: the folder cannot be read ({error.strerror})") from error
