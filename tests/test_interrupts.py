"""Interruptions wait for a write to the tracking store, and no longer."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import weakref

import pytest

from rb.interrupts import SIGNALS, Interrupted, listen, uninterrupted
from rb.tracking import Tracking


@pytest.fixture(autouse=True)
def handlers(monkeypatch):
    """The handlers of a command, and afterwards those of pytest again."""
    before = {one: signal.getsignal(one) for one in SIGNALS}
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    listen()
    yield
    for one, handler in before.items():
        signal.signal(one, handler)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_an_interruption_waits_for_the_end_of_the_block():
    done = []
    with pytest.raises(Interrupted, match="SIGTERM"), uninterrupted():
        with uninterrupted():
            stop()
            done.append("inner")
        done.append("outer")
    assert done == ["inner", "outer"]


def test_what_waited_is_raised_once():
    with pytest.raises(Interrupted), uninterrupted():
        stop()
    with uninterrupted():
        pass


def test_outside_of_a_block_nothing_waits():
    with pytest.raises(Interrupted):
        stop()


class Thing:
    """What a callback waits for the end of."""


def test_an_interruption_in_a_callback_of_a_dying_object_is_not_lost(capsys):
    thing = Thing()
    kept = weakref.ref(thing, lambda _: stop())
    with pytest.raises(Interrupted, match="SIGTERM"):
        del thing  # Python prints what callbacks raise, and goes on
        time.sleep(10)
    assert kept() is None
    assert capsys.readouterr().err == ""


def test_other_errors_of_callbacks_are_printed_as_ever(capsys):
    thing = Thing()
    kept = weakref.ref(thing, lambda _: 1 / 0)
    del thing
    assert kept() is None
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_blocks_of_other_threads_hold_up_nothing():
    entered, leave = threading.Event(), threading.Event()

    def block():
        with uninterrupted():
            entered.set()
            leave.wait(10)

    other = threading.Thread(target=block)
    other.start()
    try:
        assert entered.wait(10)
        with pytest.raises(Interrupted):
            stop()
    finally:
        leave.set()
        other.join(10)


def test_a_run_interrupted_in_the_middle_of_a_write_is_recorded_as_such(tmp_path, monkeypatch):
    tracking = Tracking(None, tmp_path, "rb")
    store = tracking.client._client._tracking_client.store
    make_session = store.ManagedSessionMaker

    def interrupted_session(*arguments, **named):
        monkeypatch.setattr(store, "ManagedSessionMaker", make_session)
        stop()
        return make_session(*arguments, **named)

    with pytest.raises(Interrupted), tracking.run("cut", "training") as run:
        monkeypatch.setattr(store, "ManagedSessionMaker", interrupted_session)
        run.tag({"written": "whole"})
        raise AssertionError("the interruption was lost")
    found = tracking.find("cut")
    assert found.info.status == "KILLED"
    assert found.data.tags["rb.state"] == "interrupted"
    assert found.data.tags["written"] == "whole"
