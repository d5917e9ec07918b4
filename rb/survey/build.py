"""Make frames, in order, on one or several processes, going on where a build was stopped."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from rb.io.workers import worker_pool
from rb.stamps.resumable import Part, Parts
from rb.survey.fits import frame_files
from rb.survey.frame import simulate_frame
from rb.survey.settings import SurveySettings

Make = Callable[[int], Part]
"""What makes the piece of a number; it has to travel to other processes."""


def frame_part(settings: SurveySettings, keep: Path | None, number: int) -> Part:
    """The candidates of a frame; the note is its row of the table ``frames``.

    Parameters
    ----------
    settings : SurveySettings
        The survey.
    keep : Path, optional
        Folder for the images as FITS.
    number : int
        Frame number.
    """
    import pandas as pd

    frame = simulate_frame(settings, number, keep)
    return Part(frame.stamps.arrays(), pd.DataFrame(frame.catalogue), frame.summary)


def is_kept(keep: Path, number: int) -> bool:
    """Whether the images of a frame are on disk."""
    return all(file.exists() for file in frame_files(keep, number))


def obtain(make: Make, number: int, folder: Path, usable: Callable[[int], bool] | None) -> Part:
    """Read a finished piece, or make and keep it.

    Linear algebra runs on one thread: sums over several would differ in the last bit between
    machines, and processes already use the cores.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    parts = Parts(folder)
    if usable is None or usable(number):
        part = parts.read(number)
        if part is not None:
            return part
    with threadpool_limits(1):
        part = make(number)
    parts.write(number, part)
    return part


def _make_part(make: Make, number: int, folder: Path, usable: Callable[[int], bool] | None) -> None:
    obtain(make, number, folder, usable)


def iterate_frames(
    settings: SurveySettings,
    folder: Path,
    numbers: Iterable[int],
    processes: int = 1,
    keep: Path | None = None,
) -> Generator[Part]:
    """Yield the candidates of frames in order, see `frame_part` and `iterate_pieces`."""
    usable = partial(is_kept, keep) if keep else None
    make = partial(frame_part, settings, keep)
    yield from iterate_pieces(make, folder, numbers, processes, usable)


def iterate_pieces(
    make: Make,
    folder: Path,
    numbers: Iterable[int],
    processes: int = 1,
    usable: Callable[[int], bool] | None = None,
) -> Generator[Part]:
    """Yield pieces in order; close the iterator when there are enough.

    Parameters
    ----------
    make : callable
        Makes the piece of a number.
    folder : Path
        Where finished pieces are kept and looked for.
    numbers : iterable of int
        Which pieces; may be without end.
    processes : int
        How many processes work. The pieces do not depend on it.
    usable : callable, optional
        Whether a finished piece of this number may be taken; any may if not given.

    Yields
    ------
    Part
    """
    if processes <= 1:
        for number in numbers:
            yield obtain(make, number, folder, usable)
        return
    numbers = iter(numbers)
    ahead: list[tuple[int, Future[None]]] = []
    with worker_pool(processes) as pool:
        while True:
            for number in itertools.islice(numbers, processes + 1 - len(ahead)):
                job = pool.submit(_make_part, make, number, folder, usable)
                ahead.append((number, job))
            if not ahead:
                return
            number, job = ahead.pop(0)
            job.result()
            yield obtain(make, number, folder, usable)
