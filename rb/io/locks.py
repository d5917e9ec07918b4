"""One process at a time: the others wait, or are told that somebody else is at it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from rb.errors import UserError

_POLL_S = 0.2


@contextlib.contextmanager
def locked(file: Path, *, waiting: str = "", refusal: str = "") -> Iterator[None]:
    """Hold the lock `file` while the block runs; it ends with the process, however that ends.

    Parameters
    ----------
    file : Path
        The lock; its folder is made, and it is removed in the end.
    waiting : str
        Line to print, once, while another process holds it.
    refusal : str
        What to raise instead of waiting.

    Raises
    ------
    UserError
        If the lock is held and there is a `refusal`, or the folder cannot be written to.
    """
    lock = FileLock(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if refusal:
                raise UserError(refusal) from None
            print(waiting, file=sys.stderr, flush=True)
            lock.acquire(poll_interval=_POLL_S)
    except OSError as error:
        raise UserError(f"{file.parent}: cannot be written to ({error.strerror})") from error
    try:
        yield
    finally:
        # Whoever waits notices that the file is another one by now.
        file.unlink(missing_ok=True)
        lock.release()
