"""Make frames, in order, on one or several processes, going on where a build was stopped."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable
from concurrent.futures import Future
from pathlib import Path

from rb.io.workers import worker_pool
from rb.stamps.resumable import Part, Parts
from rb.survey.fits import frame_files
from rb.survey.frame import Frame, simulate_frame
from rb.survey.settings import SurveySettings


def obtain_frame(
    settings: SurveySettings, number: int, folder: Path, keep: Path | None = None
) -> Part:
    """Read a finished frame, or simulate and keep it.

    Linear algebra runs on one thread: sums over several would differ in the last bit between
    machines, and processes already use the cores.

    Parameters
    ----------
    settings : SurveySettings
        The survey.
    number : int
        Frame number.
    folder : Path
        Where finished frames are kept.
    keep : Path, optional
        Folder for the images as FITS.

    Returns
    -------
    Part
        Its candidates; the note is the frame's row of the table ``frames``.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    parts = Parts(folder)
    if keep is None or all(file.exists() for file in frame_files(keep, number)):
        part = parts.read(number)
        if part is not None:
            return part
    with threadpool_limits(1):
        part = _part_of(simulate_frame(settings, number, keep))
    parts.write(number, part)
    return part


def _part_of(frame: Frame) -> Part:
    import pandas as pd

    return Part(frame.stamps.arrays(), pd.DataFrame(frame.catalogue), frame.summary)


def _make_part(settings: SurveySettings, number: int, folder: Path, keep: Path | None) -> None:
    obtain_frame(settings, number, folder, keep)


def iterate_frames(
    settings: SurveySettings,
    folder: Path,
    numbers: Iterable[int],
    processes: int = 1,
    keep: Path | None = None,
) -> Generator[Part]:
    """Yield frames in order; close the iterator when there are enough.

    Parameters
    ----------
    settings : SurveySettings
        The survey.
    folder : Path
        Where finished frames are kept and looked for.
    numbers : iterable of int
        Which frames; may be without end.
    processes : int
        How many processes simulate. The frames do not depend on it.
    keep : Path, optional
        Folder for the images as FITS.

    Yields
    ------
    Part
        See `obtain_frame`.
    """
    if processes <= 1:
        for number in numbers:
            yield obtain_frame(settings, number, folder, keep)
        return
    numbers = iter(numbers)
    ahead: list[tuple[int, Future[None]]] = []
    with worker_pool(processes) as pool:
        while True:
            for number in itertools.islice(numbers, processes + 1 - len(ahead)):
                job = pool.submit(_make_part, settings, number, folder, keep)
                ahead.append((number, job))
            if not ahead:
                return
            number, job = ahead.pop(0)
            job.result()
            yield obtain_frame(settings, number, folder, keep)
