"""The tracking database of a folder: SQLite, made whole or not at all, and movable."""

from __future__ import annotations

import atexit
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from rb.errors import UserError
from rb.tracking.client import TrackingError

if TYPE_CHECKING:
    from filelock import BaseFileLock

_PLACES = {  # columns of MLflow's tables that hold absolute places of artifacts
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
}


def database_file(folder: Path) -> Path:
    """Where the database of `folder` is."""
    return folder / "mlflow.db"


def address(folder: Path) -> str:
    """URL of the database in `folder`, or of a file beside it.

    SQLAlchemy and MLflow disagree about signs that have a meaning in URLs; a folder with one of
    these in its path is called by another name while this process lives.
    """
    return f"sqlite:///{database_file(_plain(folder))}"


def prepare(folder: Path) -> None:
    """Make the database of `folder` if there is none, and refuse one that cannot be used.

    Tables are made in a file of their own that is renamed when it is whole, so that one who is
    killed meanwhile leaves nothing that others would take for a database.

    Raises
    ------
    UserError
        If the file is no database, or cannot be read.
    """
    import mlflow

    file = database_file(folder)
    if not file.exists() or file.stat().st_size == 0:
        for orphan in folder.glob(f".{file.name}.*.new*"):
            orphan.unlink(missing_ok=True)
        new = folder / f".{file.name}.{os.getpid()}.new"
        mlflow.MlflowClient(f"sqlite:///{_plain(folder) / new.name}").search_experiments()
        os.replace(new, file)
        return
    # What a process that was killed while it wrote has left is undone by the first that may write.
    mode = "rw" if os.access(folder, os.W_OK) and os.access(file, os.W_OK) else "ro"
    address = f"{file.as_uri()}?mode={mode}"
    with _readable(file), closing(sqlite3.connect(address, uri=True, timeout=20)) as opened:
        opened.execute("select version_num from alembic_version").fetchall()


def mend_places(folder: Path, experiment_id: str) -> None:
    """Bring the places of artifacts up to date after the folder was moved or copied.

    MLflow keeps absolute places. All below the place that the experiment has recorded go to
    ``artifacts`` below `folder`, unless both are the same folder under two names.

    Parameters
    ----------
    folder : path
        Holds the database, and the artifacts.
    experiment_id : str
        Experiment whose place tells where the folder was before.
    """
    place, file = artifact_place(folder), database_file(folder)
    with _readable(file), closing(sqlite3.connect(file, timeout=60)) as opened, opened:
        found = opened.execute(
            "select artifact_location from experiments where experiment_id = ?", [experiment_id]
        ).fetchone()
        old = (found or [None])[0]
        if not old or old == place or _is_below(old, folder):
            return
        tables = {name for (name,) in opened.execute("select name from sqlite_master")}
        for table, column in _PLACES.items():
            if table in tables:
                opened.execute(
                    f"update {table} set {column} = ? || substr({column}, ?) "
                    f"where {column} = ? or substr({column}, 1, ?) = ?",
                    [place, len(old) + 1, old, len(old) + 1, old + "/"],
                )


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Say in one line what SQLite has against a database."""
    try:
        yield
    except sqlite3.Error as error:
        raise TrackingError(
            f"{file}: this is no tracking database that can be read ({error}); restore it, or move "
            "it away for a new one to be made"
        ) from error


def artifact_place(folder: Path) -> str:
    """Where artifacts of a database in `folder` are, as MLflow writes it."""
    return (folder / "artifacts").as_uri()


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other processes out: two that create a database at once spoil each other."""
    lock = _lock(folder / ".mlflow.lock", timeout=600)
    try:
        lock.acquire()
    except NotImplementedError:  # a file system without locks
        yield
        return
    try:
        yield
    finally:
        lock.release()


def try_lock(file: Path) -> Any:
    """Take the lock `file`; None if another process, or another part of this one, has it."""
    from filelock import Timeout

    file.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock(file, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return None
    except NotImplementedError:  # a file system without locks
        pass
    return lock


def _lock(file: Path, timeout: float) -> BaseFileLock:
    from filelock import FileLock

    return FileLock(file, timeout=timeout)


def _is_below(uri: str, folder: Path) -> bool:
    """Whether a place of artifacts is in `folder`, by whatever name."""
    above = Path(unquote(urlsplit(uri).path)).parent
    return above.is_dir() and os.path.samefile(above, folder)


@cache
def _plain(folder: Path) -> Path:
    if not set("?%") & set(str(folder)):
        return folder
    place = Path(tempfile.mkdtemp(prefix="rb-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    (place / "mlruns").symlink_to(folder, target_is_directory=True)
    return place / "mlruns"


def check_folder(folder: Path, key: str) -> None:
    """Make a folder that is to be written to.

    Raises
    ------
    UserError
        If there is a file in its place, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{key} is {folder}; give a folder ({error.strerror or error})") from error
