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

import numpy as np

from rb.io.progress import bar
from rb.io.workers import usable_cores
from rb.settings import OrNull, Rule, Whole, check
from rb.stamps import StampSet, StampSetWriter
from rb.stamps.batch import Stamps
from rb.stamps.layout import BOGUS, REAL
from rb.stamps.resumable import Part, open_or_build
from rb.survey.pipeline.pair import VERSION
from rb.survey.settings import CODE_VERSION, SurveySettings, settings_from_config

if TYPE_CHECKING:
    import pandas as pd

SETTINGS: dict[str, Rule] = {
    "frames": Whole(1, 100000),
    "tile": Whole(64, 2048),
    "processes": OrNull(Whole(1)),
}
_DEFAULTS = {"frames": 300, "tile": 320, "processes": None}
_OTHERS = ("name", "cache", "candidates", "keep_frames", *SETTINGS)


def _split_config(config: Mapping[str, Any]) -> tuple[SurveySettings, dict[str, Any]]:
    physics = {key: value for key, value in config.items() if key not in _OTHERS}
    return settings_from_config(physics), check(_DEFAULTS | dict(config), SETTINGS, "data")


def check_settings(config: Mapping[str, Any]) -> None:
    """Refuse settings that make no sense, by name."""
    settings, rest = _split_config(config)
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
    settings, rest = _split_config(config)
    name = f"frames-{settings.digest()}-{rest['tile']}-{rest['frames']}-{VERSION}"
    target = Path(os.fspath(config["cache"])) / name
    return open_or_build(target, partial(_build, target, settings, rest, progress))


def _build(
    target: Path, settings: SurveySettings, rest: dict[str, Any], progress: bool, work: Path
) -> None:
    import pandas as pd

    from rb.survey.build import iterate_pieces
    from rb.survey.tiles import frame_tiles

    writer = StampSetWriter(
        target,
        source="frames",
        parameters={
            "settings": dataclasses.asdict(settings),
            "frames": rest["frames"],
            "tile": rest["tile"],
            "code_version": CODE_VERSION,
        },
        survey="simulated",
        pixel_scale=settings.scene.pixel_scale,
        channels=("srch", "tmpl"),
        overwrite=True,
    )
    events: list[pd.DataFrame] = []
    make = partial(frame_tiles, settings, rest["tile"])
    processes = rest["processes"] or usable_cores()
    with writer, bar(progress, "simulating", rest["frames"], "frames") as step:
        with closing(iterate_pieces(make, work, range(rest["frames"]), processes)) as made:
            for part in made:
                writer.append(Stamps.of_arrays(part.arrays), _labelled(part))
                events.append(pd.DataFrame(part.note["events"]))
                step.advance()
        writer.add_table("events", pd.concat(events, ignore_index=True))


def _labelled(part: Part) -> pd.DataFrame:
    """A tile counts as real when something new is in it."""
    there = set(part.note["events"]["id"])
    return part.rows.assign(label=[REAL if i in there else BOGUS for i in part.rows["id"]])


def events_of(stamp_set: StampSet) -> np.ndarray:
    """The truth of each tile: x, y in px and true SNR, float32 (n, k, 3), NaN where there is none.

    What lies on masked pixels has an SNR of 0.
    """
    table = stamp_set.table("events")
    rows = {identity: row for row, identity in enumerate(stamp_set.ids)}
    per_tile = table.groupby("id").cumcount().to_numpy()
    found = np.full((len(stamp_set), int(per_tile.max(initial=0)) + 1, 3), np.nan, np.float32)
    where = table["id"].map(rows).to_numpy()
    snr = np.where(table["masked"], 0.0, table["snr"])
    found[where, per_tile] = np.stack([table["x"], table["y"], snr], 1)
    return found
