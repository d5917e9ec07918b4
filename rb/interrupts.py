"""Ctrl-C and SIGTERM: an exception of their own, and blocks that they have to wait for."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Blocks under way in the main thread that an interruption has to wait for, and what waits.
_uninterrupted: list[None] = []
_postponed: list[int] = []


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM. Not an `Exception`, so that nothing on the way swallows it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


def raise_interrupted(signum: int, frame: FrameType | None) -> None:
    """Signal handler: what goes on is interrupted, once."""
    # A second signal while the first is being dealt with must not cut that short.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    if _uninterrupted:
        _postponed.append(signum)
        return
    raise Interrupted(signum)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let an interruption wait until the block is left.

    For short work that leaves something locked behind when it is cut, such as a transaction.
    Only the main thread receives signals; in others this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _uninterrupted.append(None)
    try:
        yield
    finally:
        _uninterrupted.pop()
        if _postponed and not _uninterrupted:
            raise Interrupted(_postponed.pop())
