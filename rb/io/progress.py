"""Progress of long work: bars on a terminal, a line now and then in a log.

The only module that draws them. Work says what it does and how far it is, and needs not know
whether anybody looks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_LINE_EVERY_S = 10.0  # where there is no terminal


class Step:
    """One piece of work: how far it is, in its unit, and what else is to be said of it."""

    def __init__(self, what: str = "", total: float | None = None, unit: str = "") -> None:
        self._what, self._total, self._unit = what, total, unit
        self._done, self._note, self._begun = 0.0, "", time.monotonic()
        self.moved: Any = lambda: None

    def at(self, done: float, note: str = "") -> None:
        """Say how far the work is."""
        self._done, self._note = done, note
        self.moved()

    def advance(self, more: float = 1) -> None:
        """Say that so much more is done."""
        self.at(self._done + more, self._note)

    @property
    def done(self) -> float:
        """How far it is."""
        return self._done

    @property
    def words(self) -> str:
        """How far it is, for people."""
        if self._unit == "bytes":
            return f"{self._amount()} {self._rate()}{self._note}"
        unit = f" {self._unit}" if self._unit else ""
        return f"{self._amount()}{unit} {self._note}".rstrip()

    def line(self) -> str:
        """The whole of it where there is no bar."""
        return f"{self._what}: {self.words}"

    def _amount(self) -> str:
        if self._unit == "bytes":
            from rich.filesize import decimal

            done, total = decimal(int(self._done)), decimal(int(self._total or 0))
        else:
            done, total = f"{self._done:,.0f}", f"{self._total or 0:,.0f}"
        return done if self._total is None else f"{done}/{total}"

    def _rate(self) -> str:
        from rich.filesize import decimal

        return f"{decimal(int(self._done / max(time.monotonic() - self._begun, 1e-3)))}/s "


class Bars:
    """Makes steps, one below the other."""

    def __init__(self, console: Console | None = None, bars: Any = None) -> None:
        self._console, self._bars = console, bars

    @contextmanager
    def task(
        self, what: str, total: float | None = None, unit: str = "files", done: float = 0
    ) -> Iterator[Step]:
        """Show `what` while the block runs.

        Parameters
        ----------
        what : str
            The work, in a few words.
        total : float, optional
            All of it; None where that is not known.
        unit : str
            What is counted; ``bytes`` are shown as sizes, with their rate.
        done : float
            How much of it was done before.
        """
        step = Step(what, total, unit)
        if self._bars is not None:
            task = self._bars.add_task(what, total=total, words=step.words)
            step.moved = lambda: self._bars.update(task, completed=step.done, words=step.words)
        elif self._console is not None:
            console, last = self._console, [time.monotonic()]

            def print_line() -> None:
                if time.monotonic() - last[0] > _LINE_EVERY_S:
                    last[0] = time.monotonic()
                    console.print(step.line(), markup=False)

            step.moved = print_line
        step.at(done)
        try:
            yield step
        finally:
            if self._bars is not None:
                self._bars.remove_task(task)


@contextmanager
def bars(show: bool | Console | None) -> Iterator[Bars]:
    """Progress bars while the block runs.

    Parameters
    ----------
    show : bool or Console
        On which console; true: standard error; false: nothing is shown.
    """
    if show is None or show is False:
        yield Bars()
        return
    from rich.console import Console

    console = show if isinstance(show, Console) else Console(stderr=True)
    if not console.is_terminal:
        yield Bars(console)
        return
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[words]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, refresh_per_second=4) as shown:
        yield Bars(console, shown)


@contextmanager
def bar(
    show: bool | Console | None,
    what: str,
    total: float | None = None,
    unit: str = "",
    done: float = 0,
) -> Iterator[Step]:
    """One progress bar while the block runs; see `bars` and `Bars.task`."""
    with bars(show) as several, several.task(what, total, unit, done) as step:
        yield step


@contextmanager
def counter(
    show: bool | Console | None, what: str, total: float | None, unit: str
) -> Iterator[Callable[[int], None]]:
    """One progress bar, for work that calls a function with how much more is done."""
    with bar(show, what, total, unit) as step:
        yield step.advance
