"""CPU time of a run: user and system time of this process and of all that it started."""

from __future__ import annotations

import psutil


def cpu_seconds() -> float:
    """User and system time so far, of this process and its descendants, s.

    Descendants that have ended are what the system counts for their parents. The number only
    grows, so that the difference of two calls is what was spent in between.
    """
    own = psutil.Process()
    spent = _seconds(own)
    for child in own.children(recursive=True):
        try:
            spent += _seconds(child)
        except psutil.Error:  # it ended meanwhile
            continue
    return spent


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system + times.children_user + times.children_system
