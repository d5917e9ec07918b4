"""Ctrl-C and SIGTERM: an exception of their own, and blocks that they have to wait for."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

SIGNALS = (signal.SIGINT, signal.SIGTERM)

# Blocks under way in the main thread that an interruption has to wait for, and what waits.
_uninterrupted: list[None] = []
_postponed: list[int] = []

_AGAIN_S = 0.01


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM. Not an `Exception`, so that nothing on the way swallows it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


def listen(signums: Iterable[signal.Signals] = SIGNALS) -> None:
    """Have signals interrupt what this process does; to be called in its main thread."""
    for signum in signums:
        signal.signal(signum, _interrupt)
    sys.unraisablehook = _not_lost


def listen_no_more() -> None:
    """Leave signals to the operating system again."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_DFL)
    sys.unraisablehook = sys.__unraisablehook__


def _interrupt(signum: int, frame: FrameType | None) -> None:
    # A second signal while the first is being dealt with must not cut that short.
    for one in SIGNALS:
        signal.signal(one, signal.SIG_IGN)
    _raise(signum)


def _raise(signum: int, *_: object) -> None:
    if _uninterrupted:
        _postponed.append(signum)
        return
    raise Interrupted(signum)


def _not_lost(unraisable: UnraisableHookArgs) -> None:
    """Interrupt once more: what is raised in a callback or destructor, Python only prints."""
    if not isinstance(unraisable.exc_value, Interrupted):
        sys.__unraisablehook__(unraisable)
        return
    signal.signal(signal.SIGALRM, partial(_raise, unraisable.exc_value.signum))
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)


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
