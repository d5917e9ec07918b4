"""CPU time of a run: user and system time of this process and of all that it started."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path


def cpu_seconds() -> float:
    """User and system time so far, of this process and its descendants, s.

    Descendants that have ended are what the system counts for their parents; those that live
    are looked up in ``/proc`` (on Linux; elsewhere they count once they have ended). The
    number only grows, so that the difference of two calls is what was spent in between.
    """
    own, ended = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    finished = own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime
    return finished + sum(_living(os.getpid()))


def _living(process: int) -> Iterator[float]:
    """CPU seconds of each living descendant and of its own descendants that have ended."""
    parents: dict[int, list[int]] = {}
    spent: dict[int, float] = {}
    tick = os.sysconf("SC_CLK_TCK")
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name of the program, in brackets, may hold anything.
            fields = file.read_text().rpartition(")")[2].split()
        except (OSError, ValueError):  # it ended meanwhile
            continue
        pid = int(file.parent.name)
        parents.setdefault(int(fields[1]), []).append(pid)
        spent[pid] = sum(map(int, fields[11:15])) / tick
    waiting = parents.get(process, [])
    while waiting:
        pid = waiting.pop()
        yield spent[pid]
        waiting += parents.get(pid, [])
