"""Whole frames of the simulated survey in tiles, to train a search of images on.

A row is a tile of a frame: search and template without their sky, the template on the search
image's flux scale, both PSFs and noises as measured. The side table ``events`` has the truth: a
row for everything that differs between the images, with its tile, its position there, and how
bright it is. Frames of one survey with other seeds are other skies.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rb.io.progress import bar
from rb.io.workers import usable_cores
from rb.settings import OrNull, Rule, Whole
from rb.stamps import StampSet, StampSetWriter
from rb.stamps.batch import Stamps
from rb.stamps.layout import IMAGES
from rb.stamps.resumable import open_or_build
from rb.survey.build import Make, iterate_pieces
from rb.survey.pipeline.pair import VERSION
from rb.survey.settings import CODE_VERSION, SurveySettings, split_config
from rb.survey.tiles import frame_tiles

if TYPE_CHECKING:
    import pandas as pd

SETTINGS: dict[str, Rule] = {
    "frames": Whole(1, 100000),
    "tile": Whole(64, 2048),
    "processes": OrNull(Whole(1)),
}
_DEFAULTS = {"frames": 300, "tile": 320, "processes": None}
_split = partial(
    split_config, rules=SETTINGS, defaults=_DEFAULTS, left_out=("candidates", "keep_frames")
)


def check_settings(config: Mapping[str, Any]) -> None:
    """Refuse settings that make no sense, by name."""
    settings, rest = _split(config)
    if rest["tile"] % 2 or settings.scene.frame_size % rest["tile"]:
        from rb.errors import UserError

        raise UserError(
            f"data.tile is {rest['tile']}; give an even number of px by which "
            f"data.scene.frame_size={settings.scene.frame_size} can be divided"
        )


def open_stamps(config: Mapping[str, Any], *, progress: bool = True) -> StampSet:
    """The tiles of a ``data`` configuration, simulated under ``config["cache"]`` if need be.

    Raises
    ------
    UserError
        A setting makes no sense (the message names it), or the cache cannot be written to.
    """
    check_settings(config)
    settings, rest = _split(config)
    name = f"frames-{settings.digest()}-{rest['tile']}-{rest['frames']}-{VERSION}"
    target = Path(os.fspath(config["cache"])) / name
    make = partial(frame_tiles, settings, rest["tile"])
    return open_or_build(target, partial(build, target, "frames", settings, rest, make, progress))


def build(
    target: Path,
    source: str,
    settings: SurveySettings,
    rest: Mapping[str, Any],
    make: Make,
    progress: bool,
    work: Path,
) -> None:
    """Write a set of what `make` makes of each frame; notes with ``events`` become that table.

    Parameters
    ----------
    target : Path
        Folder of the set.
    source : str
        Name of the module that it comes from.
    settings : SurveySettings
        The survey.
    rest : mapping
        The other settings, with ``frames`` and ``processes``.
    make : callable
        See `rb.survey.build.iterate_pieces`.
    progress : bool
        Whether a bar is shown.
    work : Path
        Where finished frames are kept.
    """
    import pandas as pd

    writer = StampSetWriter(
        target,
        source=source,
        parameters={
            "settings": dataclasses.asdict(settings),
            **{key: value for key, value in rest.items() if key != "processes"},
            "code_version": CODE_VERSION,
        },
        survey="simulated",
        pixel_scale=settings.scene.pixel_scale,
        channels=IMAGES,
        overwrite=True,
    )
    events: list[pd.DataFrame] = []
    processes = rest["processes"] or usable_cores()
    with writer, bar(progress, "simulating", rest["frames"], "frames") as step:
        with closing(iterate_pieces(make, work, range(rest["frames"]), processes)) as made:
            for part in made:
                writer.append(Stamps.of_arrays(part.arrays), part.rows)
                if "events" in part.note:
                    events.append(pd.DataFrame(part.note["events"]))
                step.advance()
        if events:
            writer.add_table("events", pd.concat(events, ignore_index=True))
