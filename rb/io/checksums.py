"""Checksums of stamp sets and archives, so that a flipped bit is noticed when it is read.

``checksums.npz`` of a stamp set holds, by the name of each file, the CRC-32 of every row of an
array and that of the whole of any other file. It is a zip archive and so holds its own. What is
read is compared once in a process: a row when it is read for the first time, a table when it is
opened, ``meta.json`` when the set is. `StampSet.verify` compares everything with the digest.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from rb.errors import UserError

FILE = "checksums.npz"


def row_checksums(rows: np.ndarray) -> np.ndarray:
    """CRC-32 of each row of a float32 array, uint32 (n,)."""
    rows = np.ascontiguousarray(rows, dtype="<f4")
    return np.array([zlib.crc32(row.data) for row in rows], dtype=np.uint32)


def file_checksum(path: Path) -> int:
    """CRC-32 of a file."""
    found = 0
    with path.open("rb") as file:
        while part := file.read(2**22):
            found = zlib.crc32(part, found)
    return found


def is_whole_archive(path: Path) -> bool:
    """Whether a zip archive, such as PyTorch's files are, holds what its checksums say."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # a damaged archive raises nearly everything
        return False


class Checksums:
    """What the files in `folder` have to be; nothing is compared where none were written.

    Parameters
    ----------
    folder : Path
        Of the set.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen: dict[str, np.ndarray] = {}
        self._expected: dict[str, np.ndarray | None] = {}

    def check_file(self, name: str) -> None:
        """Compare file `name`, once.

        Raises
        ------
        UserError
            If it is not what was written.
        """
        if name in self._seen:
            return
        expected = self._of(name)
        try:
            if expected is not None and file_checksum(self.folder / name) != int(expected):
                raise UserError(
                    f"{self.folder / name}: damaged, its content is not what was written; "
                    "build the set again"
                )
        except OSError as error:
            raise UserError(f"{self.folder / name}: not readable ({error.strerror})") from error
        self._seen[name] = np.array(True)

    def check_rows(
        self, name: str, rows: int | slice | np.ndarray, content: np.ndarray
    ) -> np.ndarray:
        """Compare what was read of an array, unless all of it was before; gives it back.

        Parameters
        ----------
        name : str
            File of the array.
        rows : int, slice or array
            Which rows were read.
        content : ndarray of shape (n, ...), or (...) of one row
            What they hold.

        Raises
        ------
        UserError
            If a row is not what was written.
        """
        expected = self._of(name)
        if expected is None:
            return content
        seen = self._seen.setdefault(name, np.zeros(len(expected), dtype=bool))
        if not np.all(seen[rows]):
            wanted = np.atleast_1d(expected[rows])
            found = row_checksums(content.reshape(len(wanted), -1))
            wrong = np.flatnonzero(found != wanted)
            if len(wrong):
                first = np.atleast_1d(np.arange(len(expected))[rows])[wrong[0]]
                raise UserError(
                    f"{self.folder / name}: damaged, row {first} is not what was written "
                    f"({len(wrong)} of the {len(wanted)} rows just read); build the set again"
                )
            seen[rows] = True
        return content

    def _of(self, name: str) -> np.ndarray | None:
        if name not in self._expected:
            file = self.folder / FILE
            try:
                with np.load(file, allow_pickle=False) as kept:
                    self._expected[name] = kept.get(name)
            except FileNotFoundError:
                self._expected[name] = None
            except Exception as error:  # a damaged archive raises nearly everything
                raise UserError(
                    f"{file}: damaged; remove it, see with rb show --verify whether the set is "
                    "whole, or build it again"
                ) from error
        return self._expected[name]
