"""Worker processes that do not run the caller's script again.

Python starts a fresh process by importing the main script in it, so that a script without
``if __name__ == "__main__"`` runs twice, and one that came from standard input fails. The
work here lives in modules of `rb` and needs nothing of the script.
"""

from __future__ import annotations

import multiprocessing.context
import sys
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any


class _Process(multiprocessing.context.SpawnProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        script = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            return multiprocessing.context.SpawnProcess._Popen(process_obj)  # type: ignore[attr-defined]
        finally:
            sys.modules["__main__"] = script


class _Context(multiprocessing.context.SpawnContext):
    Process = _Process


@contextmanager
def worker_pool(n: int, start: Callable[[], None]) -> Iterator[ProcessPoolExecutor]:
    """Give a pool of `n` fresh processes; an exception ends them at once.

    Parameters
    ----------
    n : int
        Number of processes.
    start : callable
        Called first in each; a function of a module.
    """
    # Fresh, not forked: forking a process with threads (torch, a progress bar) may lock it up.
    pool = ProcessPoolExecutor(n, mp_context=_Context(), initializer=start)
    try:
        yield pool
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown()
