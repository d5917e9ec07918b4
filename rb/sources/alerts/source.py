"""Alert packets as a stamp set: ``data=alerts data.root=FOLDER``.

Every packet below the folder becomes a candidate, or a counted and listed skip. The set is
built once for a folder's content and these settings, and opened from then on. A build that was
stopped or killed goes on where it was.
"""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rb.errors import UserError
from rb.io.locks import building
from rb.sources.alerts.avro import Damage
from rb.sources.alerts.cutouts import CutoutError
from rb.sources.alerts.fields import describe, identifiers, snake, to_frame
from rb.sources.alerts.files import AlertFile, digest, list_files
from rb.sources.alerts.packets import Packet, PacketFileError, read_packets
from rb.sources.alerts.settings import AlertSettings
from rb.sources.alerts.stamps import triplet
from rb.stamps import CHANNELS, StampSet, StampSetWriter
from rb.stamps.resumable import ResumableStamps

if TYPE_CHECKING:
    import pandas as pd

CHUNK = 1000
MAX_LISTED = 100_000
"""Most skipped packets that are listed one by one; the rest is only counted."""

# No packet with an image is smaller than this on disk, however well it is compressed.
_LEAST_BYTES_PER_PACKET = 50
_SPARE_PACKETS = 1000

# Files beside the packets, second copies and packets that were not asked for are no damage.
_HARMLESS = {
    "duplicate",
    "neither Avro nor Parquet",
    "of another survey",
    "no cutouts in the schema",
}

# What a build has to know to go on, beside what it has kept.
_COUNTS = (
    "file", "inside", "survey", "size", "text_ids", "packets", "good", "unlisted", "scored",
)  # fmt: skip

_log = logging.getLogger(__name__)


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
    if (stamps := _built_before(path)) is not None:
        _log.info("%s: %s candidates from %s", settings.root, f"{len(stamps):,}", path)
        return stamps
    with building(path):
        # Another process may have built it while this one waited for its turn.
        stamps = _built_before(path)
        return stamps if stamps is not None else _Build(settings, files).run(path, progress)


def _built_before(path: Path) -> StampSet | None:
    if path.exists():
        try:
            return StampSet.open(path)
        except UserError as error:
            _log.warning("%s; building it again", error)
    return None


@dataclass
class _Chunk:
    rows: list[dict[str, Any]] = field(default_factory=list)
    stamps: list[np.ndarray] = field(default_factory=list)
    channels: set[str] = field(default_factory=set)


class _Build:
    """One pass over the files; one that was stopped is taken up at the last chunk it kept."""

    def __init__(self, settings: AlertSettings, files: list[AlertFile]) -> None:
        self.settings = settings
        self.files = files
        self.survey: str | None = None
        self.size: int | None = None
        self.text_ids = self.settings.survey == "any"
        self.seen: set[int | str] = set()
        self.reasons: Counter[str] = Counter()
        self.listed: list[dict[str, Any]] = []
        self.channels: set[str] = set()
        self.packets = self.good = self.unlisted = self.scored = 0
        self.file = self.inside = 0  # where it is: number of the file, packets read of it
        self._noted = 0  # of `listed`

    def run(self, path: Path, progress: bool) -> StampSet:
        work = path.with_name(f".{path.name}.partial")
        try:
            kept = ResumableStamps(work)
            try:
                self._take_up(kept)
                self._read(kept, progress)
                self._write(path, kept)
            finally:
                kept.close()
        except UserError:
            shutil.rmtree(work, ignore_errors=True)  # the next attempt would end the same way
            raise
        except OSError as error:
            shutil.rmtree(work, ignore_errors=True)
            raise UserError(
                f"{error.filename or path}: {error.strerror or error}; the stamp set was not "
                "built, nothing was kept"
            ) from error
        shutil.rmtree(work, ignore_errors=True)
        level = logging.WARNING if self._failed() else logging.INFO
        _log.log(level, "%s: %s", self.settings.root, self.summary())
        return StampSet.open(path)

    def _take_up(self, kept: ResumableStamps) -> None:
        """Be where the last kept chunk ended."""
        if not kept.notes:
            return
        for note in kept.notes:
            self.listed += note["listed"]
        self._noted = len(self.listed)
        last = kept.notes[-1]
        for name in _COUNTS:
            setattr(self, name, last[name])
        self.reasons = Counter(last["reasons"])
        self.channels = set(last["channels"])
        self.seen = set(kept.rows(["id"])["id"].tolist())
        _log.info("%s: going on after %s packets", self.settings.root, f"{self.packets:,}")

    def _read(self, kept: ResumableStamps, progress: bool) -> None:
        for chunk in self._chunks(progress):
            self.channels |= chunk.channels
            rows = to_frame(chunk.rows)
            self.scored += self._label(rows)
            listed, self._noted = self.listed[self._noted :], len(self.listed)
            note = {name: getattr(self, name) for name in _COUNTS}
            note |= {"reasons": self.reasons, "channels": sorted(self.channels), "listed": listed}
            kept.append(np.stack(chunk.stamps), rows, note)

    def _write(self, path: Path, kept: ResumableStamps) -> None:
        if not len(kept):
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
            kept.hand_over(writer, channels)
            writer.add_table("skipped", self._table())

    def summary(self) -> str:
        """One line: packets read, candidates kept, skips by reason."""
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in self.reasons.most_common())
        return (
            f"{self.packets:,} packets in {len(self.files):,} files, "
            f"{self.good:,} candidates, {sum(self.reasons.values()):,} skipped"
            + (f" ({reasons})" if reasons else "")
        )

    def _chunks(self, progress: bool) -> Iterator[_Chunk]:
        chunk = _Chunk()
        for row, stamp, present in self._candidates(progress):
            chunk.rows.append(row)
            chunk.stamps.append(stamp)
            chunk.channels.update(present)
            if len(chunk.rows) == CHUNK:
                yield chunk
                chunk = _Chunk()
        if chunk.rows:
            yield chunk

    def _candidates(self, progress: bool) -> Iterator[tuple[dict[str, Any], np.ndarray, list[str]]]:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[found]:,} candidates"),
            TimeRemainingColumn(),
            disable=not progress,
            transient=True,
        )
        with bar:
            task = bar.add_task("Reading alerts", total=sum(f.size for f in self.files), found=0)
            before = sum(file.size for file in self.files[: self.file])
            bar.update(task, completed=before, found=self.good)
            while self.file < len(self.files):
                file = self.files[self.file]
                for found in self._of_file(file):
                    yield found
                    if self.good % 100 == 0:
                        # A packet is about 60 kB; the file's true share is known at its end.
                        done = before + min(self.inside * 60_000, 0.95 * file.size)
                        bar.update(task, completed=done, found=self.good)
                before += file.size
                bar.update(task, completed=before, found=self.good)
                self.file, self.inside = self.file + 1, 0

    def _of_file(self, file: AlertFile) -> Iterator[tuple[dict[str, Any], np.ndarray, list[str]]]:
        last, known = 0, self.inside
        most = _SPARE_PACKETS + file.size // _LEAST_BYTES_PER_PACKET
        try:
            for packet in read_packets(file.path):
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
    ) -> tuple[dict[str, Any], np.ndarray, list[str]] | None:
        candid, object_id = identifiers(packet)
        if not self._wanted(packet, file):
            self._skip(file, number, candid, "of another survey", packet.survey)
            return None
        if candid is None:
            self._skip(file, number, None, "no identifier")
            return None
        if self.survey is None:
            self.text_ids |= isinstance(candid, str)
        self.survey = packet.survey
        if isinstance(candid, str) and not self.text_ids:
            self._skip(file, number, candid, "identifier is not a number")
            return None
        name: int | str = candid
        if self.text_ids:
            name = f"{packet.survey}-{candid}" if self.settings.survey == "any" else str(candid)
        if name in self.seen:
            self._skip(file, number, name, "duplicate")
            return None
        try:
            row = describe(packet, self.settings.columns)
            stamp, present, image = triplet(packet, self.settings, row["xpos"], row["ypos"])
        except CutoutError as error:
            self._skip(file, number, name, error.reason, error.detail)
            return None
        self._same_size(stamp.shape[-1], file)
        self.seen.add(name)
        row |= image | {"id": name, "file": file.name, "group": object_id or str(name)}
        row["candid"] = str(candid) if self.text_ids else candid
        return row, stamp, present

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

        label = self.settings.label
        if label.score is None:
            rows["label"] = pd.Series(pd.NA, index=rows.index, dtype="Int8")
            return 0
        score = rows[snake(label.score)].to_numpy(dtype=float)
        weak = pd.Series(pd.NA, index=rows.index, dtype="Int8")
        weak[score >= label.real_above] = 0
        weak[score < label.bogus_below] = 1
        rows["label"] = weak
        return int(np.isfinite(score).sum())

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
