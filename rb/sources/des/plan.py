"""Decide, from the indices of all shards, which candidates there are and where they go.

Rows are in order of ID, whatever lies in which shard, so that the same stamps make the
same set however they are packed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from rb.sources.des.archive import PREFIXES, Index, exposure_of
from rb.sources.des.read import Unit

_UNIT = 20_000  # files a unit: some seconds of work, a third of a gigabyte


@dataclass
class Shard:
    """One tar, or the tree."""

    name: str  # as the report calls it; empty for the tree
    path: str  # the tar, or the folder that a tree's names are relative to
    index: Index

    @property
    def is_tree(self) -> bool:
        """Whether the files lie in no tar."""
        return not self.name


class Plan:
    """Candidates, their rows, and the units of work.

    Parameters
    ----------
    shards : list of Shard
        Everything that was found.
    required : list of int
        Channels without which a candidate is not kept.
    allowed : int64 array, optional
        The only IDs to keep, sorted; by default all.
    """

    def __init__(
        self, shards: list[Shard], required: list[int], allowed: np.ndarray | None = None
    ) -> None:
        self.shards = shards
        self.required = required
        indices = [shard.index for shard in shards]
        ids = np.concatenate([index.ids for index in indices])
        self._starts = np.cumsum([0, *(len(index) for index in indices)])
        #: All IDs with at least one file, sorted.
        self.candidates, number = np.unique(ids, return_inverse=True)
        channels = np.concatenate([index.channels for index in indices])
        n = len(self.candidates)
        slots = number * 3 + channels
        #: Files for each candidate and channel.
        self.copies = np.bincount(slots, minlength=3 * n).reshape(n, 3)
        self.complete = (self.copies[:, required] > 0).all(axis=1)
        self.has_row = np.ones(n, bool) if allowed is None else _among(self.candidates, allowed)
        planned = self.complete & self.has_row
        row = np.where(planned, np.cumsum(planned) - 1, -1)
        #: IDs in order of row.
        self.ids = self.candidates[planned]
        #: Files for each row and channel, (N, 3).
        self.row_copies = self.copies[planned]
        self._places = np.where(planned[number], row[number] * 3 + channels, -1)
        self._repeated = self.copies.reshape(-1)[slots] > 1

    @property
    def n_files(self) -> int:
        """Files that were found."""
        return int(self._starts[-1])

    @property
    def n_planned(self) -> int:
        """Files that will be read."""
        return int((self._places >= 0).sum())

    @cached_property
    def _unit_entries(self) -> list[tuple[int, np.ndarray]]:
        """Shard and entries in its index, for each unit."""
        units = []
        for s, shard in enumerate(self.shards):
            places = self._places[self._starts[s] : self._starts[s + 1]]
            entries = np.flatnonzero(places >= 0)
            # A packed tar can only be read from its start, so it is one unit.
            n = 1 if shard.index.compressed else -(-len(entries) // _UNIT)
            units += [(s, part) for part in np.array_split(entries, n) if len(part)] if n else []
        return units

    @property
    def n_units(self) -> int:
        """Number of units of work."""
        return len(self._unit_entries)

    def unit_size(self, number: int) -> int:
        """Files in unit `number`."""
        return len(self._unit_entries[number][1])

    def unit(self, number: int) -> Unit:
        """Everything a worker needs to know of unit `number`."""
        s, entries = self._unit_entries[number]
        shard, start = self.shards[s], self._starts[s]
        index = shard.index
        return Unit(
            number=number,
            path=shard.path,
            names=[index.name(i) for i in entries.tolist()] if shard.is_tree else None,
            offsets=index.offsets[entries],
            sizes=index.sizes[entries],
            packed=index.packed[entries],
            places=self._places[start + entries],
            repeated=self._repeated[start + entries],
        )

    def place_and_member(self, unit: int, entry: int) -> tuple[int, str]:
        """Place (3 * row + channel) and full name of an entry of a unit."""
        s, entries = self._unit_entries[unit]
        i = int(entries[entry])
        return int(self._places[self._starts[s] + i]), member_name(self.shards[s], i)

    def members_of(self, chosen: np.ndarray) -> Iterator[tuple[int, int, str]]:
        """Yield (candidate's number, channel, member) of all files of `chosen` candidates."""
        wanted = self.candidates[chosen]
        if not len(wanted):
            return
        for shard in self.shards:
            index = shard.index
            for i in np.flatnonzero(_among(index.ids, wanted)).tolist():
                number = int(np.searchsorted(self.candidates, index.ids[i]))
                yield number, int(index.channels[i]), member_name(shard, i)

    def origin(self, flat: str) -> dict[str, Any]:
        """Where each row comes from, by its first file: night, exposure, shard, folder, group.

        Parameters
        ----------
        flat : str
            Group of candidates whose folder names no exposure: ``together`` (all of a shard
            or folder) or ``apart`` (each its own).
        """
        n = len(self.ids)
        texts: dict[tuple[str | None, str | None, str, str], int] = {}
        code = np.full(n, -1, np.int64)
        for s in reversed(range(len(self.shards))):
            shard, start = self.shards[s], self._starts[s]
            folders = [
                texts.setdefault(
                    (*exposure_of(f"{shard.path}/{f}" if shard.is_tree else f), shard.name, f),
                    len(texts),
                )
                for f in shard.index.folder_names
            ]
            places = self._places[start : self._starts[s + 1]]
            used = np.flatnonzero(places >= 0)[::-1]  # so that the first file has the last word
            code[places[used] // 3] = np.array(folders, np.int64)[shard.index.folders[used]]
        rows = list(texts)
        group = [e or f"{shard or 'tree'}:{folder}" for _, e, shard, folder in rows]
        groups = np.array(group, object)[code]
        if flat == "apart":
            lost = np.array([e is None for _, e, _, _ in rows])[code]
            groups[lost] = [f"candidate {i}" for i in self.ids[lost].tolist()]
        return {
            "date": np.array([r[0] for r in rows], object)[code],
            "exposure": np.array([r[1] for r in rows], object)[code],
            "shard": np.array([r[2] for r in rows], object)[code],
            "folder": np.array([r[3] for r in rows], object)[code],
            "group": groups,
        }


def member_name(shard: Shard, entry: int) -> str:
    """Name of a file for people: ``stamps_3.tar:folder/diff1.fits``, or its path in the tree."""
    name = shard.index.name(entry)
    return name if shard.is_tree else f"{shard.name}:{name}"


def channel_names(channels: np.ndarray) -> list[str]:
    """Names in the archive of the channels that are set, e.g. ``["diff", "temp"]``."""
    return [PREFIXES[c] for c in np.flatnonzero(channels).tolist()]


def _among(values: np.ndarray, sorted_set: np.ndarray) -> np.ndarray:
    if not len(sorted_set):
        return np.zeros(len(values), bool)
    at = np.minimum(np.searchsorted(sorted_set, values), len(sorted_set) - 1)
    return sorted_set[at] == values
