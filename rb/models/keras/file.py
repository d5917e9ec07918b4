"""Get configuration and weights out of a Keras HDF5 file without trusting it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rb.errors import UserError

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# A stamp network takes 0.3 s; 1 GB of weights takes less than 10 s. CPU time, so that a busy
# machine does not matter; the wall clock is only for a disk that never answers.
_CPU_SECONDS = 15
_WALL_SECONDS = 600
_MEMORY_BYTES = 8 << 30


@dataclass(frozen=True)
class KerasFile:
    """What a Keras HDF5 file says about a network.

    Parameters
    ----------
    path
        The file, for messages.
    config
        The model configuration, JSON.
    version
        Keras version that wrote the file, None if it does not say.
    groups
        Weight arrays (float32) by layer and by name, both in the file's order.
    """

    path: Path
    config: str
    version: str | None
    groups: Mapping[str, Mapping[str, np.ndarray]]


def read_keras_file(path: str | Path) -> KerasFile:
    """Read a Keras HDF5 file in a process of its own, with limits on its time and memory.

    Parameters
    ----------
    path
        File written by `model.save("….h5")`.

    Returns
    -------
    KerasFile

    Raises
    ------
    UserError
        Where the file is missing, is not HDF5, is damaged, holds weights only, or is made so
        that reading it would be dangerous.
    """
    path = Path(path)
    _check_signature(path)
    with tempfile.TemporaryDirectory(prefix="rb-keras-") as folder:
        target = Path(folder) / "network.npz"
        reader = Path(__file__).with_name("reader.py")
        # -P: the reader's own folder holds a keras.py, which must not shadow anything.
        command = [sys.executable, "-P", str(reader), str(path.resolve()), str(target)]
        command += [str(_CPU_SECONDS), str(_MEMORY_BYTES)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_WALL_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise UserError(f"{path}: reading it takes for ever, the file is damaged") from None
        if done.returncode < 0 or done.returncode > 128:
            raise UserError(f"{path}: damaged HDF5 file (the HDF5 library gave up on it)")
        if done.returncode:
            # Not the file's fault: a broken installation should be seen as such.
            raise RuntimeError(done.stderr.decode(errors="replace"))
        with np.load(target, allow_pickle=False) as archive:
            header = json.loads(archive["header"].tobytes())
            arrays = [archive[f"arr_{i}"] for i in range(len(archive.files) - 1)]
    if "error" in header:
        raise UserError(f"{path}: {header['error']}")
    if header["config"] is None:
        raise UserError(
            f"{path}: no model configuration, this is a file of weights only; save the whole "
            "model with model.save('NAME.h5')"
        )
    left = iter(arrays)
    groups = {layer: {name: next(left) for name in names} for layer, names in header["groups"]}
    return KerasFile(path, header["config"], header["version"], groups)


def _check_signature(path: Path) -> None:
    # A FIFO or a device would block for ever in open().
    if not path.is_file():
        raise UserError(f"{path}: no such file (a Keras HDF5 file is expected)")
    try:
        with path.open("rb") as raw:
            start = raw.read(len(_SIGNATURE))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if start != _SIGNATURE:
        archive = "; this is a zip archive (a .keras file?): save the model as .h5"
        raise UserError(f"{path}: not an HDF5 file{archive if start[:2] == b'PK' else ''}")
