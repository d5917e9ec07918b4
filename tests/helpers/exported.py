"""An exported model, made once for all tests of a process."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from known_networks import checkpoint

from rb.models.files import load_file
from rb.scoring.export import export

_FOLDER = tempfile.TemporaryDirectory()


@cache
def exported(channels: tuple[str, ...] = ("diff", "srch", "tmpl")) -> tuple[Path, Path]:
    """Checkpoint of an untrained network and the file exported of it."""
    name = "-".join(channels)
    source = checkpoint(Path(_FOLDER.name) / f"{name}.ckpt", channels)
    target = source.with_suffix(".onnx")
    export(load_file(source), target)
    return source, target
