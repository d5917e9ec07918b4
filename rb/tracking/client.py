"""MLflow's client, made to fail in one line and to be interrupted only between two calls."""

from __future__ import annotations

import errno
import logging
import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from rb.errors import UserError
from rb.interrupts import uninterrupted

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES}
_WRITING = ("log_", "set_", "update_", "delete_", "create_", "restore_")


class TrackingError(UserError):
    """The tracking store cannot be reached, read or written now."""


class GuardedClient:
    """A client whose calls raise `TrackingError` where the store is at fault.

    Calls to a database are not cut short by an interruption either: a transaction that is cut
    leaves SQLite locked, and then not even the interruption can be recorded. Servers look after
    themselves, and waiting for one would hold up Ctrl-C.

    Parameters
    ----------
    client : MlflowClient
        What it stands for.
    uri : str
        Of the store, for messages.
    read_only : bool
        Whether what would write is left out.
    """

    def __init__(self, client: Any, uri: str, read_only: bool = False) -> None:
        self._client = client
        self._uri = uri
        self._read_only = read_only

    def to_read(self) -> GuardedClient:
        """The same client, through which nothing is written."""
        return GuardedClient(self._client, self._uri, read_only=True)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found):
            return found
        if self._read_only and name.startswith(_WRITING):
            return lambda *arguments, **named: None

        def call(*arguments: Any, **named: Any) -> Any:
            with translated(self._uri), whole_calls(self._uri):
                return found(*arguments, **named)

        return call


def whole_calls(uri: str) -> Any:
    """A block that an interruption has to wait for, where `uri` is a database of our own."""
    return uninterrupted() if uri.startswith("sqlite") else nullcontext()


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """Raise what a store is to blame for as one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = _fault(error)
        if reason is None:
            raise
        raise TrackingError(f"tracking at {uri}: {reason}") from error


def _fault(error: BaseException) -> str | None:
    """What is wrong with the store; None if it is the call that is wrong."""
    import requests
    from sqlalchemy.exc import IntegrityError, SQLAlchemyError

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, SQLAlchemyError) and not isinstance(cause, IntegrityError):
            return str(getattr(cause, "orig", None) or cause).splitlines()[0]
        if isinstance(cause, requests.RequestException):
            return f"the server does not answer ({type(cause).__name__})"
        if isinstance(cause, OSError) and cause.errno in _NO_ROOM:
            return f"{cause.filename or 'a file'}: {cause.strerror}"
        cause = cause.__cause__ or cause.__context__
    text = str(error).splitlines()[0] if str(error) else ""
    schema = re.search(r"found version (\w+), but expected (\w+)", text)
    if schema:
        return (
            f"written by another version of MLflow (tables {schema[1]}, this one has {schema[2]}); "
            "use that version, or if it was the older one: mlflow db upgrade ADDRESS"
        )
    newer = re.search(r"locate revision identified by '(\w+)'", text)  # said by older ones
    if newer:
        return (
            f"written by another version of MLflow (tables {newer[1]}, which this one does not "
            "know); use that version"
        )
    failed = re.search(r"failed with error code (5\d\d)", text)
    return f"the server says {failed[1]}" if failed else None


def quieten() -> None:
    """Keep MLflow from greeting, asking for telemetry, and reporting what is raised as well."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    import mlflow  # noqa: F401 (sets the levels of these loggers when it is imported)

    for name in ("mlflow.store.db.utils", "mlflow.tracking", "alembic", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", message=".*An input example was not provided.*")


def be_impatient(timeout_s: float) -> None:
    """Have MLflow give up a call in seconds; its own limit is minutes. Users' wishes stand."""
    import mlflow.store.db.utils as database

    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(max(1, round(timeout_s))))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    if hasattr(database, "MAX_RETRY_COUNT"):
        database.MAX_RETRY_COUNT = 3  # attempts to connect to a database; else 100 s of them


def expect_server(uri: str, timeout_s: float) -> None:
    """Refuse a server that does not answer within `timeout_s`, which includes finding its name.

    Raises
    ------
    TrackingError
        If it does not.
    """
    import requests

    answers: list[str | None] = []

    def ask() -> None:
        try:
            # Whatever it says: a server that wants a password is there.
            requests.get(f"{uri.rstrip('/')}/health", timeout=timeout_s, stream=True).close()
            answers.append(None)
        except (requests.ConnectionError, requests.Timeout) as error:
            answers.append(type(error).__name__)
        except requests.RequestException as error:
            answers.append(str(error).splitlines()[0])

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout_s + 1)
    if not answers or answers[0]:
        reason = answers[0] if answers else f"not within {timeout_s:g} s"
        raise TrackingError(
            f"tracking.uri: the server {uri} does not answer ({reason}); start it, or unset "
            "MLFLOW_TRACKING_URI and tracking.uri to record runs below paths.runs"
        )
