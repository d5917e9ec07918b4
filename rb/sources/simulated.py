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
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rb.errors import UserError
from rb.io.progress import bar
from rb.io.workers import usable_cores
from rb.settings import FLAG, OrNull, Rule, Whole
from rb.stamps import StampSet, StampSetWriter
from rb.stamps.batch import Stamps
from rb.stamps.resumable import Part, building, open_or_build
from rb.survey.settings import CODE_VERSION, SurveySettings, split_config

if TYPE_CHECKING:
    from collections.abc import Generator

    import pandas as pd

SETTINGS: dict[str, Rule] = {
    "candidates": Whole(1),
    "processes": OrNull(Whole(1)),
    "keep_frames": FLAG,
}
"""Beside those of the survey: they do not change the pixels."""

_DEFAULTS = {"candidates": 12000, "processes": None, "keep_frames": False}
_split = partial(split_config, rules=SETTINGS, defaults=_DEFAULTS)
_BARREN_FRAMES = 40
"""So many frames without a candidate are taken to mean that there will be none."""


def check_settings(config: Mapping[str, Any]) -> None:
    """Refuse settings that make no sense, by name."""
    _split(config)


def cache_key(config: Mapping[str, Any]) -> str:
    """Digest of all that the pixels depend on: physics, seed, and version of the simulator.

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
    return _split(config)[0].digest()


def set_path(config: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Where `build` puts the stamp set of this configuration under the cache folder `path`."""
    settings, rest = _split(config)
    return _folder(settings, path) / str(rest["candidates"])


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
        ``keep_frames`` and the groups ``scene``, ``exposure``, ``artefacts``, ``subtraction``,
        ``detection``. ``name``, ``processes`` and ``cache`` may be there and are ignored.
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
    from there.
    """
    settings, rest = _split({**config, "processes": processes})
    survey = _Survey(
        settings,
        _folder(settings, path),
        rest["processes"] or usable_cores(),
        rest["keep_frames"],
        progress,
    )
    target = survey.folder / str(rest["candidates"])
    parts = survey.folder / "parts"
    stamps = open_or_build(
        target, lambda work: survey.assemble(target, rest["candidates"], work), parts
    )
    if rest["keep_frames"] and survey.unkept(stamps):
        with building(survey.frames, parts) as work:
            survey.keep(survey.unkept(stamps), work)
    return stamps


@dataclasses.dataclass
class _Survey:
    """One survey and how it is simulated."""

    settings: SurveySettings
    folder: Path
    processes: int
    keep_frames: bool
    progress: bool

    @property
    def frames(self) -> Path:
        return self.folder / "frames"

    def assemble(self, target: Path, candidates: int, work: Path) -> None:
        """Make the set of the first `candidates`."""
        import pandas as pd

        parameters = {
            "settings": dataclasses.asdict(self.settings),
            "candidates": candidates,
            "code_version": CODE_VERSION,
            "key": self.settings.digest(),
        }
        writer = StampSetWriter(
            target,
            source="simulated",
            parameters=parameters,
            survey="simulated",
            pixel_scale=self.settings.scene.pixel_scale,
            overwrite=True,
        )
        rows: list[pd.DataFrame] = []
        total = 0
        with writer, bar(self.progress, "simulating", candidates, "candidates") as step:
            # Whole frames of an earlier set, where the images themselves are not asked for.
            earlier = None if self.keep_frames else _earlier(self.folder, candidates)
            for stamps, catalogue, summary in self._chunks(earlier, work):
                take = min(len(stamps), candidates - total)
                if take:
                    writer.append(stamps[:take], catalogue.iloc[:take])
                rows.append(summary.assign(candidates=take))
                total += take
                step.at(total)
                if total == candidates:
                    break
                if len(rows) == _BARREN_FRAMES and total == 0:
                    raise UserError(
                        f"the simulated survey found nothing in {_BARREN_FRAMES} frames: raise "
                        "data.scene.sn_per_frame or lower data.detection.threshold"
                    )
            writer.add_table("frames", pd.concat(rows, ignore_index=True))

    def _chunks(
        self, earlier: StampSet | None, work: Path
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
        with closing(self._made(work, itertools.count(start))) as made:
            for part in made:
                yield Stamps.of_arrays(part.arrays), part.rows, pd.DataFrame([part.note])

    def _made(self, work: Path, numbers: Iterable[int]) -> Generator[Part]:
        """Import the simulator only when something has to be simulated."""
        from rb.survey.build import iterate_frames

        frames = self.frames if self.keep_frames else None
        yield from iterate_frames(self.settings, work, numbers, self.processes, frames)

    def unkept(self, stamps: StampSet) -> list[int]:
        """Numbers of the set's frames whose images are not on disk."""
        from rb.survey.fits import frame_files

        numbers = stamps.table("frames")["frame"].tolist()
        return [
            n for n in numbers if not all(file.exists() for file in frame_files(self.frames, n))
        ]

    def keep(self, numbers: list[int], work: Path) -> None:
        """Simulate again the frames of a finished set whose images were not kept."""
        with (
            bar(self.progress, "simulating", len(numbers), "frames") as step,
            closing(self._made(work, numbers)) as made,
        ):
            for _ in made:
                step.advance()


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
