"""Alert packets as a stamp set: ``data=alerts data.root=FOLDER``.

Every packet below the folder becomes a candidate, or a counted and listed skip. The set is
built once for a folder's content and these settings, and opened from then on. A build that was
stopped or killed goes on where it was.
"""

from __future__ import annotations

import logging
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rb.errors import UserError
from rb.io.progress import bar
from rb.sources.alerts.avro import Damage
from rb.sources.alerts.cutouts import CutoutError
from rb.sources.alerts.fields import (
    INJECTED,
    as_if_rounded,
    describe,
    identifiers,
    rounded_identifiers,
    sky_object,
    snake,
    to_frame,
    wanted,
)
from rb.sources.alerts.files import AlertFile, digest, list_files
from rb.sources.alerts.packets import (
    Packet,
    PacketFileError,
    looks_like_packets,
    read_packets,
)
from rb.sources.alerts.settings import AlertSettings
from rb.sources.alerts.stamps import Candidate, candidate
from rb.stamps import CHANNELS, StampSet, StampSetWriter
from rb.stamps.batch import Stamps
from rb.stamps.layout import OPTIONAL
from rb.stamps.resumable import Part, Parts, open_or_build

if TYPE_CHECKING:
    import pandas as pd

CHUNK = 1000
MAX_LISTED = 100_000
"""Most skipped packets that are listed one by one; the rest is only counted."""

# No packet with an image is smaller than this on disk, however well it is compressed.
_LEAST_BYTES_PER_PACKET = 50
_SPARE_PACKETS = 1000

# Files beside the packets, and packets that were not asked for: nobody misses them.
_ASIDE = {"neither Avro nor Parquet", "of another survey", "no cutouts in the schema"}
# Second copies are no damage either, but candidates fewer than packets.
_HARMLESS = {"duplicate", *_ASIDE}

# What a build has to know to go on, beside what it has kept.
_COUNTS = (
    "file", "inside", "survey", "size", "text_ids", "packets", "good", "unlisted", "scored",
    "rounded",
)  # fmt: skip

_log = logging.getLogger(__name__)


def check_settings(config: Mapping[str, Any]) -> None:
    """Refuse settings that cannot work and a place without packets, before anything is built.

    Raises
    ------
    UserError
        As `open_stamps` does.
    """
    files = list_files(AlertSettings.from_config(config).root)
    if not any(looks_like_packets(file.path) for file in files):
        open_stamps(config, progress=False)  # says what is there instead, in no time


def open_stamps(config: Mapping[str, Any], *, progress: bool = True) -> StampSet:
    """Stamp set of all alert packets below a folder, built if need be.

    Parameters
    ----------
    config : mapping
        The settings of ``conf/data/alerts.yaml``.
    progress : bool
        Show a progress bar while the set is built.

    Returns
    -------
    StampSet
        ``id`` is the survey's identifier of the candidate, ``group`` that of its sky object.
        Labels are unknown unless ``label.score`` is set. The table ``skipped`` lists what was
        left out and why. Without a difference image in any packet, ``channels`` is
        ``("srch", "tmpl")``.

    Raises
    ------
    UserError
        If a setting is wrong, there is no usable packet, packets of several surveys are
        mixed, or more than ``max_skipped`` of them cannot be used.
    """
    settings = AlertSettings.from_config(config)
    files = list_files(settings.root)
    path = settings.cache / f"alerts-{digest(settings.parameters(), files)[:16]}"
    return open_or_build(path, lambda work: _Build(settings, files).run(path, work, progress))


class _Build:
    """One pass over the files; one that was stopped is taken up at the last chunk it kept."""

    def __init__(self, settings: AlertSettings, files: list[AlertFile]) -> None:
        self.settings = settings
        self.files = files
        self.survey: str | None = None
        self.size: int | None = None
        self.text_ids = self.settings.survey == "any"
        self.wanted = wanted(settings.columns)
        self.seen: dict[int | str, int] = {}  # checksum of the pixels by identifier
        self.reasons: Counter[str] = Counter()
        self.listed: list[dict[str, Any]] = []
        self.channels: set[str] = set()
        self.packets = self.good = self.unlisted = self.scored = self.rounded = 0
        self.file = self.inside = 0  # where it is: number of the file, packets read of it
        self._noted = 0  # of `listed`

    def run(self, path: Path, work: Path, progress: bool) -> None:
        parts = Parts(work)
        begin = self._resume(parts)
        for number, chunk in enumerate(self._chunks(progress), begin):
            parts.write(number, self._part(chunk))
        self._write(path, parts)
        level = logging.WARNING if set(self.reasons) - _ASIDE else logging.INFO
        _log.log(level, "%s: %s", self.settings.root, self.summary())

    def _resume(self, parts: Parts) -> int:
        """Be where the last kept chunk ended; gives the number of the next."""
        notes = []
        for part in parts:
            self.listed += part.note["listed"]
            marks = map(_mark, part.arrays["stamps"])
            self.seen.update(zip(part.rows["id"].tolist(), marks, strict=True))
            notes.append(part.note)
        if notes:
            self._noted = len(self.listed)
            for name in _COUNTS:
                setattr(self, name, notes[-1][name])
            self.reasons = Counter(notes[-1]["reasons"])
            self.channels = set(notes[-1]["channels"])
            _log.info("%s: going on after %s packets", self.settings.root, f"{self.packets:,}")
        return len(notes)

    def _part(self, chunk: list[tuple[dict[str, Any], Candidate]]) -> Part:
        self.channels.update(*(c.present for _, c in chunk))
        rows = to_frame([row for row, _ in chunk])
        self.scored += self._label(rows)
        listed, self._noted = self.listed[self._noted :], len(self.listed)
        note = {name: getattr(self, name) for name in _COUNTS}
        note |= {"reasons": self.reasons, "channels": sorted(self.channels), "listed": listed}
        return Part(_stacked([c.arrays() for _, c in chunk]), rows, note)

    def _write(self, path: Path, parts: Parts) -> None:
        if not self.good:
            raise UserError(self._nothing())
        self._check(self.scored)
        survey = "mixed" if self.settings.survey == "any" else str(self.survey)
        channels = tuple(c for c in CHANNELS if c in self.channels)
        with StampSetWriter(
            path,
            source="alerts",
            parameters=self.settings.parameters(),
            survey=survey,
            pixel_scale=self.settings.pixel_scale_target or self.settings.pixel_scales.get(survey),
            channels=channels,
            overwrite=True,
        ) as writer:
            planes = {name for part in parts for name in part.arrays}
            for part in parts:
                writer.append(self._filled(part, planes), self._grouped(part.rows))
            writer.add_table("skipped", self._table())
        if self.rounded:
            _log.warning(
                "%s: the sky objects of %s candidates came as floating-point numbers that have "
                "lost digits; groups are of the rounded numbers, which may join objects",
                self.settings.root,
                f"{self.rounded:,}",
            )

    def _filled(self, part: Part, planes: set[str]) -> Stamps:
        """The stamps of a part, with NaN for planes that only other parts have."""
        arrays, stamps = dict(part.arrays), part.arrays["stamps"]
        side = self.settings.psf_size
        shapes = {"variance": stamps.shape, "psf": (len(stamps), 2, side, side)}
        for name in OPTIONAL:
            if name in planes and name not in arrays:
                arrays[name] = np.full(shapes[name], np.nan, np.float32)
        return Stamps.of_arrays(arrays)

    def _grouped(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Rows with groups that do not depend on which of them have lost digits."""
        return rows.assign(group=rows["group"].map(as_if_rounded)) if self.rounded else rows

    def summary(self) -> str:
        """One line: packets read, candidates kept, skips by reason."""
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in self.reasons.most_common())
        return (
            f"{self.packets:,} packets in {len(self.files):,} files, "
            f"{self.good:,} candidates, {sum(self.reasons.values()):,} skipped"
            + (f" ({reasons})" if reasons else "")
        )

    def _chunks(self, progress: bool) -> Iterator[list[tuple[dict[str, Any], Candidate]]]:
        chunk = []
        for found in self._candidates(progress):
            chunk.append(found)
            if len(chunk) == CHUNK:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    def _candidates(self, progress: bool) -> Iterator[tuple[dict[str, Any], Candidate]]:
        before = sum(file.size for file in self.files[: self.file])
        size = sum(file.size for file in self.files)
        with bar(progress, "reading alerts", size, "bytes", before) as step:
            while self.file < len(self.files):
                file = self.files[self.file]
                for found in self._of_file(file):
                    yield found
                    if self.good % 100 == 0:
                        # A packet is about 60 kB; the file's true share is known at its end.
                        done = before + min(self.inside * 60_000, 0.95 * file.size)
                        step.at(done, f"{self.good:,} candidates")
                before += file.size
                step.at(before, f"{self.good:,} candidates")
                self.file, self.inside = self.file + 1, 0

    def _of_file(self, file: AlertFile) -> Iterator[tuple[dict[str, Any], Candidate]]:
        last, known = 0, self.inside
        most = _SPARE_PACKETS + file.size // _LEAST_BYTES_PER_PACKET
        try:
            for packet in read_packets(file.path, self.settings.schemas, self.wanted):
                number, last = (
                    last + 1,
                    last + (packet.packets if isinstance(packet, Damage) else 1),
                )
                if last <= known:
                    continue  # read before the build was stopped
                self.inside = last
                self.packets += 1
                if number > most:
                    self._skip(file, number, None, "more packets than the file can hold")
                    return
                if isinstance(packet, Damage):
                    self._skip(file, number, None, "damaged part of a file", packet.detail)
                    self.reasons["damaged part of a file"] += packet.packets - 1
                    self.packets += packet.packets - 1
                    continue
                found = self._candidate(file, number, packet)
                if found is not None:
                    self.good += 1
                    yield found
        except PacketFileError as error:
            self._skip(file, 0, None, error.reason, error.detail)

    def _candidate(
        self, file: AlertFile, number: int, packet: Packet
    ) -> tuple[dict[str, Any], Candidate] | None:
        ids = identifiers(packet)
        candid = ids[0] if ids else None
        if not self._wanted(packet, file):
            self._skip(file, number, candid, "of another survey", packet.survey)
            return None
        if candid is None:
            lost = rounded_identifiers(packet)
            why = "identifier has lost digits" if lost else "no identifier"
            detail = f"{lost[0]:.0f} came as a floating-point number" if lost else ""
            self._skip(file, number, None, why, detail)
            return None
        if self.survey is None:
            self.text_ids |= isinstance(candid, str)
        self.survey = packet.survey
        if isinstance(candid, str) and not self.text_ids:
            self._skip(file, number, candid, "identifier is not a number")
            return None
        try:
            row = describe(packet, self.settings.columns)
            found = candidate(packet, self.settings, row)
        except CutoutError as error:
            self._skip(file, number, self._name(packet, candid), error.reason, error.detail)
            return None
        mark = _mark(found.stamp)
        names = [self._name(packet, i) for i in ids if self.text_ids or isinstance(i, int)]
        if mark in (self.seen.get(name) for name in names):
            self._skip(file, number, names[0], "duplicate")
            return None
        # An identifier that other pixels have already does not tell the packets apart.
        new = [i for i, name in enumerate(names) if name not in self.seen]
        if not new:
            self._skip(file, number, names[0], "other pixels under the same identifier")
            return None
        name, candid = names[new[0]], ids[new[0]]
        self._same_size(found.stamp.shape[-1], file)
        self.seen[name] = mark
        object_id, rounded = sky_object(packet)
        self.rounded += rounded
        row |= found.columns | {"id": name, "file": file.name, "group": object_id or str(name)}
        row["candid"] = str(candid) if self.text_ids else candid
        return row, found

    def _name(self, packet: Packet, candid: int | str) -> int | str:
        """Identifier in the set."""
        if not self.text_ids:
            return candid
        return f"{packet.survey}-{candid}" if self.settings.survey == "any" else str(candid)

    def _same_size(self, size: int, file: AlertFile) -> None:
        if self.size not in (None, size):
            raise UserError(
                f"{self.settings.root}: cutouts of {self.size} px, and of {size} px in "
                f"{file.name}, make no set as they come; give data.stamp_size, or "
                "data.cutout_sizes if some are only cut at an edge"
            )
        self.size = size

    def _wanted(self, packet: Packet, file: AlertFile) -> bool:
        wanted = self.settings.survey
        if wanted is not None:
            return wanted in ("any", packet.survey)
        if self.survey not in (None, packet.survey):
            raise UserError(
                f"{self.settings.root}: packets of several surveys ({self.survey}, and "
                f"{packet.survey} in {file.name}) have different pixels; choose one with "
                f"data.survey={self.survey}, or mix them with data.survey=any"
            )
        return True

    def _label(self, rows: pd.DataFrame) -> int:
        """Write weak labels into `rows`; gives the number of rows that have the score."""
        import pandas as pd

        label, n = self.settings.label, 0
        weak = pd.Series(pd.NA, index=rows.index, dtype="Int8")
        if label.score is not None:
            score = rows[snake(label.score)].to_numpy(dtype=float)
            weak[score >= label.real_above] = 0
            weak[score < label.bogus_below] = 1
            n = int(np.isfinite(score).sum())
        if label.flags and "bogus_kind" in rows:
            weak[rows["bogus_kind"].notna()] = 1
            weak[rows[list(INJECTED)].fillna(False).any(axis=1)] = 0
        rows["label"] = weak
        return n

    def _check(self, scored: int) -> None:
        """Raise if the whole is not what the settings ask for."""
        settings = self.settings
        if settings.label.score is not None and not scored:
            raise UserError(
                f"{settings.root}: no packet has the score '{settings.label.score}' that "
                "data.label.score names; choose another or set it to null"
            )
        failed = self._failed()
        if failed > settings.max_skipped * (failed + self.good):
            raise UserError(
                f"{settings.root}: {self.summary()}; that is more than data.max_skipped="
                f"{settings.max_skipped} of them, the first: {self._first()}"
            )

    def _failed(self) -> int:
        return sum(n for reason, n in self.reasons.items() if reason not in _HARMLESS)

    def _skip(
        self, file: AlertFile, number: int, name: int | str | None, reason: str, detail: str = ""
    ) -> None:
        self.reasons[reason] += 1
        if len(self.listed) >= MAX_LISTED:
            self.unlisted += 1
        else:
            text = None if name is None else str(name)
            self.listed.append(
                {
                    "file": file.name,
                    "packet": number,
                    "id": text,
                    "reason": reason,
                    "detail": detail,
                }
            )

    def _table(self) -> pd.DataFrame:
        import pandas as pd

        columns = {"file": "string", "packet": "int64", "id": "string", "reason": "string"}
        table = pd.DataFrame(self.listed, columns=[*columns, "detail"])
        if self.unlisted:
            table.loc[len(table)] = ["", 0, None, "not listed", f"{self.unlisted:,} more"]
        return table.astype({**columns, "detail": "string"})

    def _first(self) -> str:
        bad = [s for s in self.listed if s["reason"] not in _HARMLESS] or self.listed
        one = bad[0]
        return f"{one['file']}: {one['reason']}" + (f" ({one['detail']})" if one["detail"] else "")

    def _nothing(self) -> str:
        root = self.settings.root
        if not self.files:
            return f"{root}: the folder has no files; point data.root at alert packets"
        why = f"; the first: {self._first()}" if self.listed else ""
        return f"{root}: no usable alert packet ({self.summary()}){why}"


def _mark(stamp: np.ndarray) -> int:
    """Checksum that tells one stamp's pixels from another's."""
    return zlib.crc32(np.ascontiguousarray(stamp).data)


def _stacked(candidates: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays of some candidates; NaN where only others have one."""
    shapes = {name: array.shape for arrays in candidates for name, array in arrays.items()}
    return {
        name: np.stack([a.get(name, np.full(shape, np.nan, np.float32)) for a in candidates])
        for name, shape in shapes.items()
    }
