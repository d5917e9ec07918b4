"""The simulated survey's candidates as a stamp set, built once and cached.

The cache of one survey is a folder named after everything its pixels depend on::

    <cache>/simulated-<key>/12000/    the stamp set of the first 12,000 candidates
                           /parts/    finished frames of a build under way
                           /frames/   images and truth as FITS, with keep_frames=true

The set holds the first N candidates in frame order. Asking for more continues the survey; what was
there stays as it was, bit for bit.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rb.errors import UserError
from rb.stamps import StampSet, StampSetWriter
from rb.stamps.batch import Stamps
from rb.survey.settings import CODE_VERSION, SurveySettings, settings_from_config

if TYPE_CHECKING:
    import pandas as pd

    from rb.survey.frame import Frame

_NOT_PHYSICS = ("name", "candidates", "processes", "keep_frames", "cache")
_BARREN_FRAMES = 40
"""So many frames without a candidate are taken to mean that there will be none."""


def _split_config(config: Mapping[str, Any]) -> tuple[SurveySettings, int, bool]:
    """Settings, number of candidates, and whether to keep frames; all checked."""
    physics = {key: value for key, value in config.items() if key not in _NOT_PHYSICS}
    candidates = config.get("candidates", 12000)
    if isinstance(candidates, bool) or not isinstance(candidates, int) or candidates < 1:
        raise UserError(f"data.candidates must be a whole number of 1 or more, not {candidates!r}")
    keep = config.get("keep_frames", False)
    if not isinstance(keep, bool):
        raise UserError(f"data.keep_frames must be true or false, not {keep!r}")
    return settings_from_config(physics), candidates, keep


def cache_key(config: Mapping[str, Any]) -> str:
    """Digest of all that the set depends on: physics, seed, planes, version of the simulator.

    Parameters
    ----------
    config : mapping
        As for `build`. ``candidates``, ``processes``, ``keep_frames`` and ``cache`` do not count.

    Returns
    -------
    str
        16 hexadecimal digits.

    Raises
    ------
    UserError
        A setting is unknown or makes no sense.
    """
    return _split_config(config)[0].digest()


def set_path(config: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Where `build` puts the stamp set of this configuration under the cache folder `path`."""
    settings, candidates, _ = _split_config(config)
    return _folder(settings, path) / str(candidates)


def _folder(settings: SurveySettings, path: str | os.PathLike[str]) -> Path:
    return Path(path) / f"simulated-{settings.digest()}"


def open_stamps(config: dict[str, Any], *, progress: bool = True) -> StampSet:
    """The stamp set of a ``data`` configuration, built under ``config["cache"]`` if need be.

    ``config["processes"]`` is the number of worker processes, None for one per core. See `build`
    for the errors.
    """
    return build(config, config["cache"], config.get("processes"), progress)


def build(
    config: Mapping[str, Any],
    path: str | os.PathLike[str],
    processes: int | None = None,
    progress: bool = True,
) -> StampSet:
    """Open the simulated survey's stamp set, simulating only what is missing.

    Parameters
    ----------
    config : mapping
        The content of ``conf/data/simulated.yaml`` as plain values: ``candidates``, ``seed``,
        ``keep_frames``, ``planes`` and the groups ``scene``, ``exposure``, ``artefacts``,
        ``subtraction``, ``detection``. ``name``, ``processes`` and ``cache`` may be there and
        are ignored.
    path : path
        Cache folder; the set itself lies at `set_path`.
    processes : int, optional
        How many processes simulate; all cores if not given. The candidates do not depend on it.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    StampSet
        The first ``candidates`` candidates of the survey in frame order, with the side table
        ``frames``.

    Raises
    ------
    UserError
        A setting is unknown or makes no sense (the message names the key), the cache cannot be
        written to, or the survey yields no candidates.

    Notes
    -----
    Frames that are finished are kept until the set is, so a build that was interrupted goes on
    from there. With several processes the caller's main module must be importable, as always
    where Python starts processes afresh.
    """
    settings, candidates, keep = _split_config(config)
    if processes is None:
        # Those that this process may use: a batch system grants fewer than the node has.
        processes = len(os.sched_getaffinity(0))
    if isinstance(processes, bool) or not isinstance(processes, int) or processes < 1:
        raise UserError(f"data.processes must be 1 or more, or null for all cores, not {processes}")
    folder = _folder(settings, path)
    target = folder / str(candidates)
    frames = folder / "frames" if keep else None
    parts = folder / "parts"
    if (target / "meta.json").exists():
        stamps = StampSet.open(target)
        if frames is None or not _unkept(stamps, frames):
            return stamps
        _keep_only(settings, stamps, frames, parts, processes, progress)
        return stamps
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: the cache folder cannot be made: {error}") from error
    _assemble(settings, candidates, folder, parts, frames, processes, progress)
    shutil.rmtree(parts, ignore_errors=True)
    return StampSet.open(target)


def _assemble(
    settings: SurveySettings,
    candidates: int,
    folder: Path,
    parts: Path,
    frames: Path | None,
    processes: int,
    progress: bool,
) -> None:
    import pandas as pd

    parameters = {
        "settings": dataclasses.asdict(settings),
        "candidates": candidates,
        "code_version": CODE_VERSION,
        "key": settings.digest(),
    }
    writer = StampSetWriter(
        folder / str(candidates),
        source="simulated",
        parameters=parameters,
        survey="simulated",
        pixel_scale=settings.scene.pixel_scale,
        overwrite=True,
    )
    rows: list[pd.DataFrame] = []
    total = 0
    with writer, _bar(candidates, progress) as advance:
        # Whole frames of an earlier set, where the images themselves are not asked for.
        earlier = None if frames is not None else _earlier(folder, candidates)
        for stamps, catalogue, summary in _chunks(settings, earlier, parts, frames, processes):
            take = min(len(stamps), candidates - total)
            if take:
                writer.append(stamps[:take], catalogue.iloc[:take])
            rows.append(summary.assign(candidates=take))
            total += take
            advance(take)
            if total == candidates:
                break
            if len(rows) == _BARREN_FRAMES and total == 0:
                shutil.rmtree(parts, ignore_errors=True)
                raise UserError(
                    f"the simulated survey found nothing in {_BARREN_FRAMES} frames: raise "
                    "data.scene.sn_per_frame or lower data.detection.threshold"
                )
        writer.add_table("frames", pd.concat(rows, ignore_index=True))


def _chunks(
    settings: SurveySettings,
    earlier: StampSet | None,
    parts: Path,
    frames: Path | None,
    processes: int,
) -> Iterator[tuple[Stamps, pd.DataFrame, pd.DataFrame]]:
    """Stamps, catalogue and summary row of one frame after the other, old ones first."""
    import pandas as pd

    start = 0
    if earlier is not None:
        table = earlier.table("frames")
        end = 0
        for _, row in table.iterrows():
            if row["candidates"] < row["detections"]:
                break
            rows = slice(end, end + int(row["candidates"]))
            end = rows.stop
            summary = row.drop("candidates").to_frame().T.infer_objects()
            yield earlier.read(rows), earlier.catalogue.iloc[rows], summary
            start += 1
    with closing(_made(settings, parts, start, processes, frames)) as made:
        for frame in made:
            yield frame.stamps, pd.DataFrame(frame.catalogue), pd.DataFrame([frame.summary])


def _made(
    settings: SurveySettings, parts: Path, start: int, processes: int, frames: Path | None
) -> Generator[Frame]:
    """Import the simulator only when something has to be simulated."""
    from rb.survey.build import iterate_frames

    yield from iterate_frames(settings, parts, start, processes, frames)


@contextmanager
def _bar(total: int, show: bool, unit: str = "candidates") -> Iterator[Callable[[int], None]]:
    """A progress bar that is advanced by calling what it gives."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("Simulating"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, disable=not show, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.advance(task, done)


def _earlier(folder: Path, candidates: int) -> StampSet | None:
    """The set of the same survey that saves the most work, if any."""
    sizes = sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit() and p.is_dir())
    larger = [size for size in sizes if size > candidates]
    for size in [*larger[:1], *reversed([s for s in sizes if s < candidates])]:
        try:
            found = StampSet.open(folder / str(size))
            found.verify()
        except UserError:
            continue
        return found
    return None


def _unkept(stamps: StampSet, frames: Path) -> list[int]:
    """Numbers of the set's frames whose images are not on disk."""
    from rb.survey.fits import frame_files

    numbers = stamps.table("frames")["frame"].tolist()
    return [n for n in numbers if not all(file.exists() for file in frame_files(frames, n))]


def _keep_only(
    settings: SurveySettings,
    stamps: StampSet,
    frames: Path,
    parts: Path,
    processes: int,
    progress: bool,
) -> None:
    """Simulate again the frames of a finished set whose images were not kept."""
    missing = _unkept(stamps, frames)
    start, last = missing[0], missing[-1]
    with (
        _bar(last - start + 1, progress, "frames") as advance,
        closing(_made(settings, parts, start, processes, frames)) as made,
    ):
        for frame in made:
            advance(1)
            if frame.number == last:
                break
    shutil.rmtree(parts, ignore_errors=True)
