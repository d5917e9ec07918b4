"""One process at a time builds a stamp set."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from rb.errors import UserError


@contextlib.contextmanager
def building(path: Path) -> Iterator[None]:
    """Hold the right to build `path`; waits while another process has it.

    Temporary folders of writers that were killed are removed.
    """
    file = path.with_name(f".{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            lock = file.open("w")
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Whoever had it has removed it; the one that counts is the one that is there.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(lock.fileno()), file.stat()):
                    break
            lock.close()
    except OSError as error:
        raise UserError(f"{path.parent}: cannot be written to ({error.strerror})") from error
    with lock:
        try:
            for orphan in path.parent.glob(f".{path.name}.*.building"):
                shutil.rmtree(orphan, ignore_errors=True)
            yield
        finally:
            file.unlink(missing_ok=True)
