"""What a search of images finds in frames of the simulated survey, to train its second look on.

A row is a find: search and template round it as `rb scan` sees them, registered and on one flux
scale, with both PSFs and noises; it is real where something new was put in.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rb.errors import UserError
from rb.models.pretrained import published_file
from rb.scan.finds import frame_finds, searcher
from rb.settings import OrNull, Rule, Text, Whole
from rb.sources.frames import build
from rb.stamps import StampSet
from rb.stamps.resumable import open_or_build
from rb.survey.pipeline.pair import VERSION
from rb.survey.settings import split_config

SETTINGS: dict[str, Rule] = {
    "frames": Whole(1, 100000),
    "search": Text("a file of a dense network, or scan"),
    "processes": OrNull(Whole(1)),
}
_DEFAULTS = {"frames": 600, "search": "scan", "processes": None}
_split = partial(
    split_config, rules=SETTINGS, defaults=_DEFAULTS, left_out=("candidates", "keep_frames")
)


def check_settings(config: Mapping[str, Any]) -> None:
    """Refuse settings that make no sense, by name."""
    _, rest = _split(config)
    if published_file(rest["search"]) is None and not Path(rest["search"]).is_file():
        raise UserError(
            f"data.search is '{rest['search']}': there is no such file; give the checkpoint of a "
            "search (train.py experiment=scan), or scan, the one of the package"
        )


def open_stamps(config: Mapping[str, Any], *, progress: bool = True) -> StampSet:
    """The finds of a ``data`` configuration, made under ``config["cache"]`` if need be.

    Raises
    ------
    UserError
        A setting makes no sense (the message names it), or the cache cannot be written to.
    """
    check_settings(config)
    settings, rest = _split(config)
    searcher(rest["search"])  # said here, and not by the processes
    file = published_file(rest["search"]) or Path(rest["search"])
    weights = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    name = f"finds-{settings.digest()}-{weights}-{rest['frames']}-{VERSION}"
    target = Path(os.fspath(config["cache"])) / name
    make = partial(frame_finds, settings, rest["search"])
    return open_or_build(target, partial(build, target, "finds", settings, rest, make, progress))
