"""Worker processes that do not run the caller's script again.

Python starts a fresh process by importing the main script in it, so that a script without
``if __name__ == "__main__"`` runs twice, and one that came from standard input fails. The
work here lives in modules of `rb` and needs nothing of the script.
"""

from __future__ import annotations

import multiprocessing.context
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

from rb.io.memory import keep_memory

_T = TypeVar("_T")
_LEAST, _MOST = 16, 128  # stamps in a call of an engine


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


def usable_cores() -> int:
    """Cores that this process may use: a batch system grants fewer than the node has."""
    available = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
    return len(available(0))


def engine_threads() -> int:
    """Threads of a prediction: what ``OMP_NUM_THREADS`` says, as PyTorch does, else all cores."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return int(said) if said.isdigit() and int(said) else usable_cores()


def ahead(items: Iterable[_T]) -> Iterator[_T]:
    """Yield `items`, the next of which is made in a thread while one is worked on."""
    source = iter(items)
    end: Any = object()
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, source, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, source, end)
            yield item


def in_threads(predict: Callable[[slice], Any], n: int) -> None:
    """Call `predict` on slices that cover `n` stamps, in as many threads as engines may use.

    An engine with one thread, working on stamps that stay in its core's cache, does more than one
    that shares every operation among the cores; and what comes before it runs side by side, too.
    """
    keep_memory()
    threads = engine_threads()
    size = min(max(-(-n // threads), _LEAST), _MOST)
    parts = [slice(start, min(start + size, n)) for start in range(0, n, size)]
    if threads == 1 or len(parts) == 1:
        for part in parts:
            predict(part)
        return
    for _ in _engine_pool(threads).map(predict, parts):
        pass


@cache
def _engine_pool(n: int) -> ThreadPoolExecutor:
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    all_there = threading.Barrier(n)

    def start() -> None:
        if torch:
            torch.set_num_threads(1)  # of this thread
        all_there.wait()

    pool = ThreadPoolExecutor(n, "engine")
    for done in [pool.submit(start) for _ in range(n)]:
        done.result()
    if torch:
        torch.set_num_threads(before)  # of threads to come
    return pool


@contextmanager
def worker_pool(n: int) -> Iterator[ProcessPoolExecutor]:
    """Give a pool of `n` fresh processes; an exception ends them at once.

    They leave Ctrl-C to this process, and end with it, however that ends. A generator that is
    closed because there is enough lets them finish what they are at.
    """
    # Fresh, not forked: forking a process with threads (torch, a progress bar) may lock it up.
    pool = ProcessPoolExecutor(n, mp_context=_Context(), initializer=_start)
    try:
        yield pool
    except GeneratorExit:
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown()


def _start() -> None:
    from multiprocessing.connection import wait

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        if parent is not None:
            wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
