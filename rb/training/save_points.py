"""Files that an interrupted training goes on from."""

from __future__ import annotations

import os
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from rb.errors import UserError

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


def put_in_place(new: Path, folder: Path) -> None:
    """Make the file `new` the last save point of `folder`; the one that was stays beside it."""
    with new.open("rb") as file:
        os.fsync(file.fileno())  # a name that survives a power cut must not lead to half a file
    with suppress(FileNotFoundError):
        os.replace(folder / LAST, folder / PREVIOUS)
    os.replace(new, folder / LAST)


def usable(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest save point of `folder` that is whole, and the names of damaged ones before it.

    PyTorch's files are zip archives with a checksum for each part.
    """
    damaged: list[str] = []
    for name in (LAST, PREVIOUS):
        if (folder / name).exists():
            if _is_whole(folder / name):
                return folder / name, damaged
            damaged.append(name)
    return None, damaged


def epochs_in(folder: Path) -> int:
    """Epochs that the training in `folder` has behind it, by its newest whole save point.

    Raises
    ------
    UserError
        If that file is none of a training.
    """
    point, _ = usable(folder)
    if point is None:
        return 0
    try:
        content: dict[str, Any] = torch.load(
            point, map_location="cpu", weights_only=True, mmap=True
        )
        return int(content["epoch"]) + 1
    except Exception as error:  # whatever a file of somebody else's makes torch say
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{point}: this is no save point of a training ({reason})") from error


def _is_whole(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, ValueError):
        return False
