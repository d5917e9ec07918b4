"""Names of fields, however a survey spells them."""

from __future__ import annotations

import re
from functools import lru_cache

CUTOUTS = {
    "diff": ("cutoutdifference", "cutoutdiff"),
    "srch": ("cutoutscience", "cutoutsearch"),
    "tmpl": ("cutouttemplate", "cutoutreference"),
}
"""Keys of the cutouts, without case and punctuation, for each channel of a stamp."""

_KNOWN = {name for names in CUTOUTS.values() for name in names} | {"stamps"}


@lru_cache(maxsize=4096)
def key(name: str) -> str:
    """Name of a field without case and punctuation: ``cutout_Science`` → ``cutoutscience``."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def is_cutout(name: str) -> bool:
    """Whether a field of an alert holds one of its images, or all of them."""
    return key(name).removesuffix("stampdata") in _KNOWN
