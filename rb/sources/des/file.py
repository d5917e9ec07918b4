"""The ``stamps.npy`` of a set in the making: rows are filled in any order, gaps closed last."""

from __future__ import annotations

import io
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from rb.errors import UserError
from rb.sources.des.read import PLANE
from rb.stamps.stampset import CHANNELS, STAMP_SIZE

_ROW = len(CHANNELS) * PLANE


@dataclass
class StampFile:
    """A NumPy file of stamps; place p (3 * row + channel) lies at ``header + p * PLANE``."""

    path: Path
    header: int

    @classmethod
    def allocate(cls, path: Path, n: int) -> StampFile:
        """Make room for `n` rows; a file of an earlier attempt is kept with what is in it.

        Raises
        ------
        UserError
            If the disk is too small.
        """
        head = io.BytesIO()
        _write_header(head, n)
        file = cls(path, head.tell())
        if path.exists():
            return file
        needed = n * _ROW
        # A tenth more for the catalogue and the records of the build.
        free = shutil.disk_usage(path.parent).free
        if free < 1.1 * needed:
            raise UserError(
                f"{path.parent.parent}: {n:,} stamps need {1.1 * needed / 1e9:.3g} GB, "
                f"{free / 1e9:.3g} GB are free; choose another folder with paths.cache"
            )
        part = path.with_suffix(".part")
        with part.open("wb") as out:
            out.write(head.getvalue())
            out.flush()
            # Taking the room now means that a disk which fills up meanwhile is no surprise.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(out.fileno(), file.header, needed)
            out.truncate(file.header + needed)
            os.fsync(out.fileno())
        part.replace(path)
        return file

    def close_gaps(self, kept: np.ndarray, good: np.ndarray) -> np.ndarray:
        """Cut the file to its kept rows.

        The last kept rows move into the places of the dropped ones. Doing it again after a
        kill is harmless: sources lie behind the final end and targets before it, and the
        file is cut only after all moves, so that a shorter file says that they are done.

        Parameters
        ----------
        kept : bool array, (N,)
            Rows to keep.
        good : bool array, (N, 3)
            Panels that hold pixels; the others become NaN.

        Returns
        -------
        int64 array, (n,)
            Number that each row of the file had before.
        """
        n = int(kept.sum())
        order = np.arange(n)
        holes = np.flatnonzero(~kept[:n])
        order[holes] = n + np.flatnonzero(kept[n:])
        blank = np.full(STAMP_SIZE * STAMP_SIZE, np.nan, "<f4").tobytes()
        end = self.header + n * _ROW
        with self.path.open("rb+", buffering=0) as file:
            fd = file.fileno()
            if os.fstat(fd).st_size > end:
                for hole in holes.tolist():
                    pixels = os.pread(fd, _ROW, self.header + int(order[hole]) * _ROW)
                    os.pwrite(fd, pixels, self.header + hole * _ROW)
            for row, channel in np.argwhere(~good[order]).tolist():
                os.pwrite(fd, blank, self.header + row * _ROW + channel * PLANE)
            os.fsync(fd)
            os.ftruncate(fd, end)
            _write_header(file, n)
            os.fsync(fd)
        return order


def _write_header(file: BinaryIO | io.RawIOBase, n: int) -> None:
    shape = (n, len(CHANNELS), STAMP_SIZE, STAMP_SIZE)
    # The header has room for any number, so writing it again over itself is safe.
    np.lib.format.write_array_header_1_0(
        file,  # type: ignore[arg-type]
        {"descr": "<f4", "fortran_order": False, "shape": shape},
    )
