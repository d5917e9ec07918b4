"""Make frames, in order, on one or several processes, going on where a build was stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

from rb.survey.fits import frame_files
from rb.survey.frame import Frame, simulate_frame
from rb.survey.parts import read_part, write_part
from rb.survey.settings import SurveySettings


def obtain_frame(
    settings: SurveySettings, number: int, parts: Path, keep: Path | None = None
) -> Frame:
    """Read a finished frame, or simulate and keep it.

    Linear algebra runs on one thread: sums over several would differ in the last bit between
    machines, and processes already use the cores.

    Parameters
    ----------
    settings : SurveySettings
        The survey.
    number : int
        Frame number.
    parts : Path
        Folder of finished frames.
    keep : Path, optional
        Folder for the images as FITS.

    Returns
    -------
    Frame
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    if keep is None or all(file.exists() for file in frame_files(keep, number)):
        frame = read_part(parts, number)
        if frame is not None:
            return frame
    with threadpool_limits(1):
        frame = simulate_frame(settings, number, keep)
    write_part(parts, frame)
    return frame


def _start_worker() -> None:
    """Leave interrupts to the parent, and end when it is gone, however it went."""
    import multiprocessing
    import threading

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _make_part(settings: SurveySettings, number: int, parts: Path, keep: Path | None) -> int:
    obtain_frame(settings, number, parts, keep)
    return number


def iterate_frames(
    settings: SurveySettings,
    parts: Path,
    start: int = 0,
    processes: int = 1,
    keep: Path | None = None,
) -> Generator[Frame]:
    """Yield frames in order without end; close the iterator when there are enough.

    Parameters
    ----------
    settings : SurveySettings
        The survey.
    parts : Path
        Folder where finished frames are kept and looked for.
    start : int
        First frame number.
    processes : int
        How many processes simulate. The frames do not depend on it.
    keep : Path, optional
        Folder for the images as FITS.

    Yields
    ------
    Frame
        Frame `start`, `start` + 1 and so on.
    """
    if processes <= 1:
        number = start
        while True:
            yield obtain_frame(settings, number, parts, keep)
            number += 1
    # Spawned, not forked: the caller may have threads (torch) that a fork would leave locked.
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_start_worker)
    pending: dict[int, Future[int]] = {}
    try:
        number = start
        while True:
            for ahead in range(number, number + processes + 1):
                if ahead not in pending:
                    pending[ahead] = pool.submit(_make_part, settings, ahead, parts, keep)
            pending.pop(number).result()
            yield obtain_frame(settings, number, parts, keep)
            number += 1
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
