"""Finished frames on disk, so that an interrupted build goes on where it stopped."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from rb.errors import UserError
from rb.stamps.batch import Stamps
from rb.survey.frame import Frame


def part_path(folder: Path, number: int) -> Path:
    """The file of one frame."""
    return folder / f"{number:05d}.npz"


def write_part(folder: Path, frame: Frame) -> None:
    """Write a frame's candidates; the file appears under its name when it is whole.

    Parameters
    ----------
    folder : Path
        Where to; it is created.
    frame : Frame
        What to keep.

    Raises
    ------
    UserError
        The folder cannot be written to, or the disk is full.
    """
    path = part_path(folder, frame.number)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    arrays: dict[str, Any] = {f"column_{name}": values for name, values in frame.catalogue.items()}
    arrays |= {f"array_{name}": array for name, array in frame.stamps.arrays().items()}
    arrays |= {"summary": np.array(json.dumps(frame.summary))}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez(file, **arrays)
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{folder}: frame {frame.number} could not be kept: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def read_part(folder: Path, number: int) -> Frame | None:
    """Read a frame back; None if it is not there or was damaged.

    Parameters
    ----------
    folder : Path
        Where `write_part` wrote.
    number : int
        Frame number.

    Returns
    -------
    Frame or None
    """
    try:
        with np.load(part_path(folder, number), allow_pickle=False) as file:
            catalogue, arrays = (
                {n.removeprefix(kind): file[n] for n in file.files if n.startswith(kind)}
                for kind in ("column_", "array_")
            )
            stamps = Stamps(arrays["stamps"], arrays.get("variance"), arrays.get("psf"))
            return Frame(number, stamps, catalogue, json.loads(str(file["summary"])))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
