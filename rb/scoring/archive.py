"""Stamps of a DES archive on their way to scores: tars and trees, without building a set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rb.errors import UserError
from rb.models.contract import Inputs
from rb.scoring.table import Chunk, stamp_size
from rb.sources.des.archive import Index, index_tar, list_archive
from rb.sources.des.file import StampFile
from rb.sources.des.plan import Plan, Shard
from rb.sources.des.read import UnitResult, read_unit
from rb.stamps.batch import Stamps
from rb.stamps.layout import STAMP_SIZE

_AT_ONCE = 16384
"""Candidates whose pixels are gathered in a file; three panels of one lie far apart in a tar."""

_CHUNK = 1024


class ArchiveSource:
    """Candidates of a DES archive, in the order of the tars that they begin in.

    Parameters
    ----------
    path : Path
        Folder of tars, unpacked trees or both, or one tar.
    inputs : Inputs
        What the model is fed.
    """

    unit = ""

    def __init__(self, path: Path, inputs: Inputs) -> None:
        size = stamp_size(inputs)
        if size not in (None, STAMP_SIZE):
            raise UserError(
                f"{path}: stamps of DES have {STAMP_SIZE} px, the model takes {size}; choose a "
                "model for that size"
            )
        self._listing = list_archive(path)
        self.total: int | None = None

    @property
    def digest(self) -> str:
        """Over names, sizes and times of change of the files."""
        return self._listing.digest

    def done(self, position: int | None) -> float:
        """Candidates that are done."""
        return float(position or 0)

    def pieces(self) -> list[tuple[Any, Any]]:
        """None: a candidate's three images lie far apart in the tars.

        Raises
        ------
        UserError
            Always.
        """
        raise UserError(
            f"{self._listing.root}: a DES archive is read by one process; leave --dask out, or "
            "build a stamp set of it first"
        )

    def chunks(self, start: int | None, work: Path, stop: int | None = None) -> Iterator[Chunk]:
        """Yield the candidates; a panel that cannot be read is NaN, and `problems` says why."""
        shards = self._shards(work)
        everything = Plan(shards, [])
        order = _by_shard(shards, everything.candidates)
        self.total = len(order)
        for first in range((start or 0) // _AT_ONCE * _AT_ONCE, len(order), _AT_ONCE):
            ids = np.sort(order[first : first + _AT_ONCE])
            yield from self._read(Plan(shards, [], ids), first, start or 0, work)

    def _shards(self, work: Path) -> list[Shard]:
        listing = self._listing
        shards = [Shard("", str(listing.root), listing.tree)] if len(listing.tree) else []
        for number, tar in enumerate(listing.tars):
            file = work / f"index-{number:04d}.npz"
            if not file.exists():
                index_tar(tar).save(file)
            shards.append(Shard(listing.relative(tar), str(tar), Index.load(file)))
        if not any(len(shard.index) for shard in shards):
            raise UserError(f"{listing.root}: no stamps named like diff123.fits in its tars")
        return shards

    @staticmethod
    def _read(plan: Plan, first: int, start: int, work: Path) -> Iterator[Chunk]:
        scratch = work / "stamps.npy"
        scratch.unlink(missing_ok=True)
        file = StampFile.allocate(scratch, len(plan.ids))
        bad: dict[int, list[str]] = {}
        left = plan.row_copies.copy()
        for number in range(plan.n_units):
            result = UnitResult(**read_unit(plan.unit(number), str(scratch), file.header))
            for entry, reason in result.bad:
                place, member = plan.place_and_member(number, entry)
                bad.setdefault(place // 3, []).append(f"{member} {reason}")
                left[place // 3, place % 3] -= 1
        good = left > 0
        stamps = np.load(scratch, mmap_mode="r", allow_pickle=False)
        for begin in range(max(start - first, 0), len(plan.ids), _CHUNK):
            rows = slice(begin, min(begin + _CHUNK, len(plan.ids)))
            images = np.array(stamps[rows])
            images[~good[rows]] = np.nan
            problems = {row - begin: "; ".join(bad[row]) for row in bad if begin <= row < rows.stop}
            broken = set(np.flatnonzero(~good[rows].any(1)).tolist())
            yield Chunk(plan.ids[rows], Stamps(images), first + rows.stop, problems, broken)
        del stamps
        scratch.unlink(missing_ok=True)


def _by_shard(shards: list[Shard], candidates: np.ndarray) -> np.ndarray:
    """Candidates in order of the shard that holds the first file of each, then of ID."""
    shard = np.full(len(candidates), len(shards))
    for number in reversed(range(len(shards))):
        shard[np.searchsorted(candidates, shards[number].index.ids)] = number
    return candidates[np.argsort(shard, kind="stable")]
