"""Stamps that are kept as they come, so that a build that was killed can go on.

=====================  =======================================================
``stamps.npy``         float32, n x 3 x 51 x 51, appended to
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
from rb.stamps.layout import CHANNELS, STAMP_SHAPE
from rb.stamps.writer import StampSetWriter, write_npy_header

if TYPE_CHECKING:
    import pandas as pd

_BYTES = 4 * int(np.prod(STAMP_SHAPE))


class GrowingStamps:
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
        path = folder / "stamps.npy"
        self._file = path.open("r+b" if path.exists() else "w+b")
        write_npy_header(self._file, len(self))
        self._file.truncate(self._file.tell() + _BYTES * len(self))
        self._file.seek(0, os.SEEK_END)

    def __len__(self) -> int:
        return sum(part["n"] for part in self._parts)

    def append(self, stamps: np.ndarray, rows: pd.DataFrame, note: dict[str, Any]) -> None:
        """Keep stamps (n, 3, 51, 51), their n rows, and what is needed to go on behind them.

        Parameters
        ----------
        stamps : ndarray
            Raw values; channels that are not there NaN.
        rows : DataFrame
            Catalogue rows.
        note : dict
            JSON types only.
        """
        stamps = np.ascontiguousarray(stamps, dtype="<f4")
        nan = np.isnan(stamps)
        masks = nan.any((2, 3)) @ (1 << np.arange(len(CHANNELS)))
        number = f"{len(self._parts):05d}"
        self._file.write(stamps.data)
        self._file.flush()
        os.fsync(self._file.fileno())
        with (self.folder / f"{number}.parquet").open("wb") as file:
            rows.to_parquet(file, index=False)
            file.flush()
            os.fsync(file.fileno())
        part = {
            "n": len(stamps),
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
        self._file.seek(0)
        write_npy_header(self._file, len(self))
        self._file.close()
        wanted = [CHANNELS.index(c) for c in channels]
        bits = sum(1 << c for c in wanted)
        writer.adopt(
            self.folder / "stamps.npy",
            self.rows(),
            n_nan_pixels=sum(part["nan_pixels"][c] for part in self._parts for c in wanted),
            n_nan_stamps=sum(
                count
                for part in self._parts
                for mask, count in enumerate(part["nan_stamps"])
                if mask & bits
            ),
        )

    def close(self) -> None:
        """Close the file; the parts stay."""
        self._file.close()

    def _whole_parts(self) -> list[dict[str, Any]]:
        """Up to the first part that is not whole, as after a power cut: it is made again."""
        try:
            there = (self.folder / "stamps.npy").stat().st_size
        except OSError:
            return []
        parts: list[dict[str, Any]] = []
        needed = 0
        while (part := self._part(len(parts))) is not None:
            needed += _BYTES * part["n"]
            if there < needed:
                break
            parts.append(part)
        return parts

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
