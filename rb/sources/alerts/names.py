"""Names of fields, however a survey spells them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

CUTOUTS = {
    "diff": ("cutoutdifference", "cutoutdiff"),
    "srch": ("cutoutscience", "cutoutsearch"),
    "tmpl": ("cutouttemplate", "cutoutreference"),
}
"""Keys of the cutouts, without case and punctuation, for each channel of a stamp."""

_KNOWN = {name for names in CUTOUTS.values() for name in names} | {"stamps"}


_BARE = tuple(CUTOUTS)
"""Columns of tables that say no more than the channel."""


@lru_cache(maxsize=4096)
def key(name: str) -> str:
    """Name of a field without case and punctuation: ``cutout_Science`` → ``cutoutscience``."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def is_cutout(name: str) -> bool:
    """Whether a field of an alert holds one of its images, or all of them."""
    return key(name).removesuffix("stampdata") in _KNOWN


def cutouts_in(names: Iterable[str]) -> set[str]:
    """Those of a record's fields that hold its images.

    Two or more that are called ``diff``, ``srch``, ``tmpl`` are images, where no other is one; a
    single such field may hold anything.
    """
    names = list(names)
    bare = {name for name in names if key(name) in _BARE}
    return {name for name in names if is_cutout(name)} or (bare if len(bare) > 1 else set())
