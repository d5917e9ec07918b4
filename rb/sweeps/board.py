"""What a person sees while a sweep runs: a table that changes, or one line for each job."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rb.console import make_console
from rb.sweeps.table import Row, text

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_EVERY_S = 2.0  # between two looks at the tracking store, or more where looking takes long
_MOST_ROWS = 12  # shown in the changing table: the newest

current: SweepBoard | None = None
"""The board of this process; None in the processes of jobs that run elsewhere."""


class SweepBoard:
    """Follows the jobs of a sweep in the tracking store, wherever they run.

    The store is asked by a thread every few seconds, because jobs in other processes and on
    other machines can tell their state in no other way; jobs in this process ask at once when
    they end. On a terminal the table changes in place, with the progress bar of a job in this
    process below it; in a file there is a line for each job that ended.

    Parameters
    ----------
    look : callable
        Gives the rows of the jobs that have been started.
    total : int or None
        Number of jobs; None if only the sweeper knows.
    label : str
        How the sweep is called.
    """

    def __init__(self, look: Callable[[], list[Row]], total: int | None, label: str) -> None:
        self.console = make_console()
        self.label = label
        self._look = look
        self._total = total
        self._started = time.monotonic()
        self._rows: list[Row] = look()
        self._at_start = {r.run_id for r in self._rows if r.done}
        self._reported = {(r.run_id, r.state) for r in self._rows if r.ended}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True, name="sweep board")
        self._live: Live | None = None

    def start(self) -> None:
        """Show the board and follow the jobs."""
        global current
        current = self
        if self.console.is_terminal:
            from rich.live import Live

            self._live = Live(
                get_renderable=self._picture,
                console=self.console,
                refresh_per_second=2,
                transient=True,
            )
            self._live.start()
        self._thread.start()

    def stop(self) -> None:
        """Take the board away; nothing is left of it on a terminal."""
        global current
        if current is not self:
            return
        current = None
        self._stop.set()
        self._thread.join(timeout=30)
        if self._live is not None:
            self._live.stop()
        self.update()

    def update(self) -> None:
        """Look at the store now."""
        with self._lock:
            self._rows = self._look()
            news = [r for r in self._rows if r.ended and (r.run_id, r.state) not in self._reported]
            self._reported |= {(r.run_id, r.state) for r in news}
        if self._live is None:
            for row in news:
                self.console.print(self._line(row))

    def _follow(self) -> None:
        pause = _EVERY_S
        while not self._stop.wait(pause):
            began = time.monotonic()
            try:
                self.update()
            except Exception:  # a store that is busy now answers the next time
                continue
            pause = max(_EVERY_S, 20 * (time.monotonic() - began))

    def _line(self, row: Row) -> str:
        ended = sum(r.ended for r in self._rows)
        line = f"sweep {ended}/{self._total or '?'}  {row.name}: {row.state}"
        if row.state == "failed":
            line += f" ({row.error.splitlines()[0] if row.error else 'no reason known'})"
        else:
            line += f", best val/acc {text(row.best, '.4f')}"
        return f"{line} │ {self._time()}"

    def summary(self, estimate: bool = True) -> str:
        """Numbers of jobs by state, the best so far, and the time, in one line."""
        states = [r.state for r in self._rows]
        ended = sum(r.ended for r in self._rows)
        counts = [f"{ended}/{self._total or '?'} jobs ended"]
        for state in ("reused", "failed", "running", "interrupted"):
            if state in states:
                counts.append(f"{states.count(state)} {state}")
        best = best_of(self._rows)
        found = f" │ best {best.best:.4f} ({best.name})" if best else ""
        return f"{', '.join(counts)}{found} │ {self._time(estimate)}"

    def _time(self, estimate: bool = True) -> str:
        elapsed = time.monotonic() - self._started
        left = self.seconds_left(elapsed) if estimate else None
        return f"{duration(elapsed)} elapsed" + (f", about {duration(left)} left" if left else "")

    def seconds_left(self, elapsed: float) -> float | None:
        """Estimate from the jobs that were trained since the board was started.

        Jobs that need no training are over in an instant, so they count on neither side.
        """
        trained = [r for r in self._rows if r.done and r.state != "reused"]
        trained = [r for r in trained if r.run_id not in self._at_start]
        if not trained or self._total is None:
            return None
        missing = self._total - sum(r.ended for r in self._rows)
        return elapsed / len(trained) * missing

    def _picture(self) -> RenderableType:
        from rich.console import Group

        from rb.sweeps.table import terminal_table

        with self._lock:
            rows = list(self._rows)
        most = max(3, min(_MOST_ROWS, self.console.height - 10))
        line = f"{self.label}: {self.summary()}"
        return Group(terminal_table(rows[-most:]), line) if rows else line


def best_of(rows: Sequence[Row]) -> Row | None:
    """The finished job with the best validation accuracy."""
    done = [r for r in rows if r.done and r.best is not None]
    return max(done, key=lambda r: r.best or 0.0) if done else None


def duration(seconds: float) -> str:
    """Hours, minutes and seconds."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
