"""Progress bars on standard error, or nothing at all, behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Step:
    """One line of progress; `at` sets how far it is."""

    def __init__(self, progress: Any = None, task: Any = None) -> None:
        self._progress, self._task = progress, task

    def at(self, done: float) -> None:
        """Say how far the work is, in the unit of its total."""
        if self._progress is not None:
            self._progress.update(self._task, completed=done)


class Bars:
    """Makes steps."""

    def __init__(self, progress: Any = None) -> None:
        self._progress = progress

    @contextmanager
    def task(self, what: str, total: float | None, unit: str = "files") -> Iterator[Step]:
        """Show `what` while the block runs; `total` None where it is not known."""
        if self._progress is None:
            yield Step()
            return
        task = self._progress.add_task(what, total=total, unit=unit)
        try:
            yield Step(self._progress, task)
        finally:
            self._progress.remove_task(task)


@contextmanager
def bars(show: bool) -> Iterator[Bars]:
    """Progress bars that count files while the block runs, if `show` is set."""
    if not show:
        yield Bars()
        return
    from rich.progress import MofNCompleteColumn, TextColumn

    with _progress(MofNCompleteColumn(), TextColumn("{task.fields[unit]}")) as progress:
        yield Bars(progress)


@contextmanager
def byte_bars(show: bool) -> Iterator[Bars]:
    """Progress bars that count bytes and show the rate, if `show` is set."""
    if not show:
        yield Bars()
        return
    from rich.progress import DownloadColumn, TransferSpeedColumn

    with _progress(DownloadColumn(), TransferSpeedColumn()) as progress:
        yield Bars(progress)


@contextmanager
def counter(
    show: bool, what: str, total: float | None, unit: str
) -> Iterator[Callable[[int], None]]:
    """A single progress bar; what it gives is called with the number done since the last call."""
    done = 0
    with bars(show) as shown, shown.task(what, total, unit) as step:

        def tick(n: int) -> None:
            nonlocal done
            done += n
            step.at(done)

        yield tick


def _progress(*columns: Any) -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
