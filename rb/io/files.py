"""Files that appear whole or not at all, and names that are safe everywhere."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from pathlib import Path

import psutil

from rb.errors import UserError


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """Give a name to write to; the file takes the name `path` when the block ends well.

    Its content is on the disk by then. Nothing is left of a file whose block fails; what a process
    of this machine left that was killed meanwhile goes with the next that writes to the folder.
    """
    _sweep(path.parent)
    temporary = path.with_name(f".{path.name}.{_host()}-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_target(path: Path, endings: Sequence[str], overwrite: bool = True) -> None:
    """Refuse a name that a user gave for a file, before any work for it.

    Parameters
    ----------
    path : Path
        The name.
    endings : sequence of str
        Those it may have, such as ``.parquet``.
    overwrite : bool
        Whether it may be there already.

    Raises
    ------
    UserError
        If it ends otherwise, its folder is not there, or it is there.
    """
    if path.suffix not in endings:
        raise UserError(f"{path}: give the file the ending {' or '.join(endings)}")
    if not path.absolute().parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.absolute().parent}")
    if path.is_dir():
        raise UserError(f"{path}: is a folder; choose another name")
    if path.exists() and not overwrite:
        raise UserError(f"{path}: exists already; choose another name or --overwrite")


@lru_cache(maxsize=256)
def _sweep(folder: Path) -> None:
    """Remove what killed processes left, once a process and folder: folders can be large."""
    name = re.compile(rf"\..+\.{_host()}-(\d+)-[0-9a-f]{{8}}")
    for left in folder.glob(".*"):
        found = name.fullmatch(left.name)
        if found and not psutil.pid_exists(int(found[1])):
            left.unlink(missing_ok=True)


@cache
def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


@contextmanager
def written(path: Path, what: str) -> Iterator[Path]:
    """`aside` for what a user has asked for; missing folders are made.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        What it is, for the message: "the report".

    Raises
    ------
    UserError
        If the file cannot be written; nothing is left of it then.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside(path) as temporary:
            yield temporary
    except OSError as error:
        raise UserError(f"{path}: {what} cannot be written ({error.strerror or error})") from error


def write_whole(path: Path, content: bytes, what: str) -> None:
    """Write `content` as `written` does; see there."""
    with written(path, what) as temporary:
        temporary.write_bytes(content)


def safe_name(text: str, longest: int = 100) -> str:
    """`text` as part of a file's name or an address: letters, digits, ``-``, ``_`` and ``.``."""
    name = re.sub(r"[^\w.-]", "_", text, flags=re.ASCII)[:longest]
    return name.lstrip(".") or "_"
