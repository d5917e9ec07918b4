"""Stamp sets that take long to build: built by one process, gone on with after any end.

`open_or_build` is the protocol for all sources. A build works in a hidden folder beside the set to
be, under a lock; whoever comes meanwhile waits and finds the set. A build that was killed or
interrupted, or ran out of disk, finds its folder again; after any other end it is removed.

What lies in the folder is the source's business. `Parts` is for those that make their stamps piece
by piece, each piece in a file of its own.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rb.errors import UserError
from rb.io.files import aside
from rb.io.locks import locked
from rb.stamps.stampset import StampSet

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)


def open_or_build(path: Path, build: Callable[[Path], None], work: Path | None = None) -> StampSet:
    """Open the stamp set `path`; build it first where there is none, or a damaged one.

    Parameters
    ----------
    path : Path
        Folder of the set.
    build : callable
        Makes the set, given a folder to work in with what an earlier attempt has left there.
    work : Path, optional
        That folder, where all sets beside `path` share it; one of them is built at a time then.

    Raises
    ------
    UserError
        If it cannot be built.
    """
    found = _built(path)
    if found is not None:
        if work is None:
            _tidy(path)
        return found
    with building(path, work) as folder:
        # Another process may have built it while this one waited for its turn.
        found = _built(path)
        if found is None:
            build(folder)
    return StampSet.open(path) if found is None else found


@contextlib.contextmanager
def building(path: Path, work: Path | None = None) -> Iterator[Path]:
    """Hold the right to build `path`, and give the folder to work in.

    Waits, and says so, while another process has it. What writers that were killed have left is
    removed; so is the folder in the end, unless it is worth going on with it.
    """
    folder = work or _own_work(path)
    with locked(_lock(folder), waiting=f"waiting for another process that builds {path} …"):
        _remove_orphans(path, "" if work else f".{path.name}")
        with _kept_for_resuming(path, folder):
            folder.mkdir(exist_ok=True)
            yield folder


def _own_work(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _lock(folder: Path) -> Path:
    return folder.with_name(f".{folder.name.strip('.')}.lock")


def _remove_orphans(path: Path, own: str) -> None:
    for kind in ("building", "old"):
        for orphan in path.parent.glob(f"{own}.*.{kind}"):
            shutil.rmtree(orphan, ignore_errors=True)


def _tidy(path: Path) -> None:
    """Remove what a build that was killed right after its last step has left."""
    folder = _own_work(path)
    if folder.exists() or any(path.parent.glob(f".{path.name}.*.old")):
        # Whoever holds the lock tidies up itself; on a disk for reading only nobody does.
        with contextlib.suppress(UserError), locked(_lock(folder), refusal="busy"):
            _remove_orphans(path, f".{path.name}")
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _kept_for_resuming(path: Path, folder: Path) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        # The next attempt would end the same way, unless room is made for it.
        if not isinstance(error.__cause__, OSError):
            shutil.rmtree(folder, ignore_errors=True)
        raise
    except BrokenProcessPool as error:
        raise UserError(
            f"{path}: a worker process died (out of memory?); run again to go on where it "
            "stopped, with a smaller data.processes"
        ) from error
    except OSError as error:
        raise UserError(
            f"{error.filename or path}: {error.strerror or error}; the stamp set was not built, "
            "run again to go on where it stopped"
        ) from error
    shutil.rmtree(folder, ignore_errors=True)


def _built(path: Path) -> StampSet | None:
    if not path.exists():
        return None
    try:
        return StampSet.open(path)
    except UserError as error:
        _log.warning("%s; building it again", error)
        return None


class Part(NamedTuple):
    """One piece of a set in the making.

    Parameters
    ----------
    arrays : dict of ndarray
        ``stamps`` and whatever else the set keeps of each candidate, first axis n.
    rows : DataFrame
        Their n rows of the catalogue.
    note : dict
        What its source has to know of it, in types of JSON.
    """

    arrays: dict[str, np.ndarray]
    rows: pd.DataFrame
    note: dict[str, Any]


class Parts:
    """Numbered pieces on disk; one that is damaged counts as not there.

    Parameters
    ----------
    folder : Path
        Where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, number: int, part: Part) -> None:
        """Keep a piece; it is there, as a whole, when this returns."""
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = io.BytesIO()
        part.rows.to_parquet(rows, index=False)
        note = {"arrays": list(part.arrays), "note": part.note}
        texts = {"rows": rows.getvalue(), "note": json.dumps(note).encode()}
        arrays: Mapping[str, Any] = {f"array_{name}": v for name, v in part.arrays.items()} | {
            name: np.frombuffer(text, np.uint8) for name, text in texts.items()
        }
        with aside(self._file(number)) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)

    def read(self, number: int) -> Part | None:
        """Read a piece back; None if it is not there, or not as it was written."""
        import pandas as pd

        try:
            with np.load(self._file(number), allow_pickle=False) as file:
                # Every byte read is held against the archive's checksums.
                rows = pd.read_parquet(io.BytesIO(file["rows"].tobytes()))
                note = json.loads(file["note"].tobytes())
                arrays = {name: file[f"array_{name}"] for name in note["arrays"]}
        except Exception:  # a damaged archive raises nearly everything
            return None
        return Part(arrays, rows, note["note"])

    def __iter__(self) -> Iterator[Part]:
        """Pieces from the first on, as far as none is missing."""
        number = 0
        while (part := self.read(number)) is not None:
            yield part
            number += 1

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:05d}.npz"
