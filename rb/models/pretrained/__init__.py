"""Trained networks that come with the package; docs/models.md describes them.

`nodia`, `dia` and `nodia_stamps` name them wherever a model is asked for. A run of that name wins;
`published:nodia` always is the one of the package.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

PUBLISHED = ("dia", "nodia", "nodia_stamps", "dia_30px", "nodia_30px")
"""Names of the networks in this folder that judge stamps."""

SEARCHES = ("scan", "scan_plain")
"""Names of those that search whole images; the second subtracts nothing anywhere."""

SECOND_LOOKS = ("scan_judge",)
"""Names of those that judge stamps of what a search found."""

_PREFIX = "published:"


def published_file(name: str | os.PathLike[str], in_full: bool = False) -> Path | None:
    """The file of a published network; None if `name` is not one.

    Parameters
    ----------
    name : str
        One of `PUBLISHED`, `SEARCHES` or `SECOND_LOOKS`, alone or after `published:`.
    in_full : bool
        Whether it has to be written with `published:`.
    """
    words = os.fspath(name)
    known = words.removeprefix(_PREFIX) in (*PUBLISHED, *SEARCHES, *SECOND_LOOKS)
    if not known or (in_full and not words.startswith(_PREFIX)):
        return None
    return Path(__file__).with_name(words.removeprefix(_PREFIX) + ".ckpt")


def published_model(name: str) -> dict[str, Any] | None:
    """Name, network and inputs of a published network as a `model` configuration has them.

    None for those that search images: `model=scan` says all of that, and its `compare=false` can
    start from the weights of one that compares.
    """
    import torch

    file = published_file(name)
    if file is None or file.stem in SEARCHES:
        return None
    package = torch.load(file, map_location="cpu", weights_only=True)["rb"]
    return {"name": file.stem, "network": package["network"], "inputs": package["inputs"]}
