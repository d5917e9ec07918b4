"""Stamps that are kept as they come, so that a build that was killed can go on.

=====================  =======================================================
``stamps.npy``         float32, n x 3 x S x S, appended to
``variance.npy``       likewise, where the stamps come with it; ``psf.npy`` too
``00012.parquet``      catalogue rows of part 12
``00012.json``         written last: its counts, and what its source noted
=====================  =======================================================

A part counts from the moment its ``.json`` is there; what a crash left behind it is cut off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rb.io.files import write_whole
from rb.stamps.batch import Stamps
from rb.stamps.layout import CHANNELS
from rb.stamps.writer import ArrayFile, StampSetWriter, check_same, checked_arrays

if TYPE_CHECKING:
    import pandas as pd


class ResumableStamps:
    """Parts of a stamp set on disk; what an earlier process kept is there again.

    Parameters
    ----------
    folder : Path
        Where the parts lie, on the file system of the set to be. One process at a time.

    Attributes
    ----------
    notes : list of dict
        What was noted with each whole part, in their order.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._parts = self._whole_parts()
        self.notes: list[dict[str, Any]] = [part["note"] for part in self._parts]
        self._files = {
            name: ArrayFile(self._path(name), tuple(row), len(self))
            for name, row in (self._parts[0]["arrays"] if self._parts else {}).items()
        }

    def __len__(self) -> int:
        return sum(part["n"] for part in self._parts)

    def append(self, stamps: np.ndarray | Stamps, rows: pd.DataFrame, note: dict[str, Any]) -> None:
        """Keep stamps, their n rows, and what is needed to go on behind them.

        Parameters
        ----------
        stamps : ndarray of shape (n, 3, S, S), or Stamps
            Raw values; channels that are not there NaN. What comes with the first stamps has
            to come with all.
        rows : DataFrame
            Catalogue rows.
        note : dict
            JSON types only.
        """
        arrays = checked_arrays(stamps, self.folder)
        if not self._files:
            for name, array in arrays.items():
                self._files[name] = ArrayFile(self._path(name), array.shape[1:])
        check_same(self._files, arrays, self.folder)
        nan = np.isnan(arrays["stamps"])
        masks = nan.any((2, 3)) @ (1 << np.arange(len(CHANNELS)))
        number = f"{len(self._parts):05d}"
        for name, array in arrays.items():
            self._files[name].append(array)
            self._files[name].sync()
        with (self.folder / f"{number}.parquet").open("wb") as file:
            rows.to_parquet(file, index=False)
            file.flush()
            os.fsync(file.fileno())
        part = {
            "n": len(arrays["stamps"]),
            "arrays": {name: file.row for name, file in self._files.items()},
            "nan_pixels": nan.sum((0, 2, 3)).tolist(),
            "nan_stamps": np.bincount(masks, minlength=1 << len(CHANNELS)).tolist(),
            "note": note,
        }
        write_whole(self.folder / f"{number}.json", json.dumps(part).encode(), "a part of the set")
        self._parts.append(part)
        self.notes.append(note)

    def rows(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Catalogue rows of all parts, or some of their columns."""
        import pandas as pd

        files = (self.folder / f"{k:05d}.parquet" for k in range(len(self._parts)))
        frames = [
            pd.read_parquet(f, columns=None if columns is None else [*columns]) for f in files
        ]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def hand_over(self, writer: StampSetWriter, channels: Sequence[str]) -> None:
        """Give all stamps and rows to the writer of a set with these channels."""
        for file in self._files.values():
            file.finish(len(self))
        paths = {name: self._path(name) for name in self._files}
        wanted = [CHANNELS.index(c) for c in channels]
        bits = sum(1 << c for c in wanted)
        writer.adopt(
            paths["stamps"],
            self.rows(),
            variance=paths.get("variance"),
            psf=paths.get("psf"),
            n_nan_pixels=sum(part["nan_pixels"][c] for part in self._parts for c in wanted),
            n_nan_stamps=sum(
                count
                for part in self._parts
                for mask, count in enumerate(part["nan_stamps"])
                if mask & bits
            ),
        )

    def close(self) -> None:
        """Close the files; the parts stay."""
        for file in self._files.values():
            file.file.close()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npy"

    def _whole_parts(self) -> list[dict[str, Any]]:
        """Up to the first part that is not whole, as after a power cut: it is made again."""
        parts: list[dict[str, Any]] = []
        n = 0
        while (part := self._part(len(parts))) is not None:
            n += part["n"]
            if not all(self._holds(name, n, row) for name, row in part["arrays"].items()):
                break
            parts.append(part)
        return parts

    def _holds(self, name: str, n: int, row: Sequence[int]) -> bool:
        """Whether the file of array `name` is long enough for `n` rows."""
        try:
            return self._path(name).stat().st_size >= ArrayFile.size(row, n)
        except OSError:
            return False

    def _part(self, number: int) -> dict[str, Any] | None:
        import pyarrow
        from pyarrow.parquet import read_metadata

        try:
            text = (self.folder / f"{number:05d}.json").read_text(encoding="utf-8")
            part: dict[str, Any] = json.loads(text)
            rows = read_metadata(self.folder / f"{number:05d}.parquet").num_rows
        except (OSError, ValueError, pyarrow.ArrowException):
            return None
        return part if rows == part["n"] else None
