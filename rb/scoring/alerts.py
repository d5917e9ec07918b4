"""Alert packets on their way to scores: files of them, and single ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rb.errors import UserError
from rb.models.contract import Inputs
from rb.scoring.table import CHUNK, Chunk, side_of, stamp_size
from rb.sources.alerts.avro import Damage
from rb.sources.alerts.cutouts import CutoutError, decode_cutout
from rb.sources.alerts.fields import describe, identifiers, sky_object, wanted
from rb.sources.alerts.files import AlertFile, digest, list_files
from rb.sources.alerts.packets import Packet, PacketFileError, read_packets
from rb.sources.alerts.settings import PSF_SIZE, AlertSettings
from rb.sources.alerts.stamps import Candidate, candidate
from rb.stamps.batch import Stamps
from rb.stamps.layout import CHANNELS, IMAGES, OPTIONAL, STAMP_SIZE, VARIANCES

_PIECE_BYTES = 64 << 20  # of packets that one of many workers is given
# Files beside the packets; they hold no candidates.
_NO_ALERTS = {"neither Avro nor Parquet", "no cutouts in the schema"}


@dataclass
class Gathered:
    """Candidates of packets, until they are a chunk.

    Parameters
    ----------
    settings : AlertSettings
        How packets become stamps.
    side : sequence of str
        Side information that the model wants, by column of a catalogue.
    """

    settings: AlertSettings
    side: Sequence[str] = ()
    ids: list[str | None] = field(default_factory=list)
    found: list[Candidate] = field(default_factory=list)
    objects: list[str | None] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)
    broken: set[int] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, packet: Packet, origin: str) -> None:
        """A packet; images of it that are damaged count as lacking."""
        candid = next(iter(identifiers(packet)), packet.own.get("id"))
        name = None if candid is None else str(candid)
        problem = None
        try:
            row = describe(packet)
            try:
                made = candidate(packet, self.settings, row)
            except CutoutError as error:
                problem = str(error)
                made = candidate(
                    replace(packet, cutouts=_readable(packet.cutouts)), self.settings, row
                )
            # What the header of an image says of it counts before what the packet does.
            made.columns = row | {k: v for k, v in made.columns.items() if v is not None}
        except CutoutError as error:
            self._add(name, sky_object(packet)[0], origin, problem or str(error))
            return
        self._add(name, sky_object(packet)[0], origin, problem, made)

    def add_broken(self, origin: str, problem: str) -> None:
        """A packet of which nothing can be read."""
        self._add(None, None, origin, problem)

    def _add(
        self,
        candid: str | None,
        obj: str | None,
        origin: str,
        problem: str | None,
        made: Candidate | None = None,
    ) -> None:
        row, size = len(self.ids), self.settings.stamp_size or STAMP_SIZE
        if made is None:
            made = Candidate(np.full((len(CHANNELS), size, size), np.nan, np.float32))
            self.broken.add(row)
        if problem is not None:
            self.problems[row] = problem
        self.ids.append(candid)
        self.found.append(made)
        self.objects.append(obj)
        self.origins.append(origin)

    def chunk(self, position: Any) -> Chunk:
        """The candidates so far."""
        import pyarrow as pa

        size, psf = self.found[0].stamp.shape[-1], self.settings.psf_size
        stamps = Stamps(
            np.stack([made.stamp for made in self.found]),
            self._plane("variance", (len(CHANNELS), size, size)),
            self._plane("psf", (len(IMAGES), psf, psf)),
            {
                name: np.array([made.columns.get(name) for made in self.found], dtype=np.float64)
                for name in self.side
                if name != "psf"
            },
        )
        return Chunk(
            pa.array(self.ids, pa.string()),
            stamps,
            position,
            self.problems,
            self.broken,
            {"object": self.objects, "origin": self.origins},
        )

    def _plane(self, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """An array of what the packets may lack, NaN for those that do; None if nobody wants it."""
        if name not in self.settings.planes:
            return None
        nothing = np.full(shape, np.nan, np.float32)
        planes = (getattr(made, name) for made in self.found)
        return np.stack([nothing if plane is None else plane for plane in planes])


def alert_settings(
    root: Path, inputs: Inputs, pixel_scale: float | None = None, **more: Any
) -> AlertSettings:
    """How packets become stamps of the model's size, none of them skipped."""
    planes = {
        "variance": any(channel in VARIANCES for channel in inputs.channels),
        "psf": "psf" in side_of(inputs),
    }
    return AlertSettings(
        root=root,
        cache=Path(),
        stamp_size=stamp_size(inputs) or STAMP_SIZE,
        pixel_scale_target=pixel_scale,
        planes=tuple(name for name in OPTIONAL if planes[name]),
        psf_size=getattr(inputs, "psf_size", 0) or PSF_SIZE,
        require=(),
        **more,
    )


def _readable(cutouts: dict[str, Any]) -> dict[str, Any]:
    good = {}
    for channel, data in cutouts.items():
        try:
            decode_cutout(data)
        except CutoutError:
            continue
        good[channel] = data
    return good


class AlertSource:
    """The packets below a folder, or in a file: Avro, Parquet, a HATS catalogue with cutouts.

    Parameters
    ----------
    path : Path
        Folder or file.
    inputs : Inputs
        What the model is fed.
    chunk : int
        Packets that are read at once.
    pixel_scale : float, optional
        arcsec per pixel that stamps are resampled to.
    """

    unit = "bytes"

    def __init__(
        self, path: Path, inputs: Inputs, chunk: int = CHUNK, pixel_scale: float | None = None
    ) -> None:
        self._settings = alert_settings(path, inputs, pixel_scale)
        self._side = side_of(inputs)
        self._chunk = chunk
        self._files = _files(path)
        if not self._files:
            raise UserError(f"{path}: the folder has no files; give the candidates to be scored")
        self._path = path

    @property
    def digest(self) -> str:
        """Over names, sizes and times of change of the files."""
        return digest({}, self._files)

    @property
    def total(self) -> int:
        """Bytes of the files."""
        return sum(file.size for file in self._files)

    def done(self, position: Any) -> float:
        """Bytes of the files that are done."""
        return float(sum(file.size for file in self._files[: position[0] if position else 0]))

    def pieces(self) -> list[tuple[Any, Any]]:
        """Files, the small ones together."""
        found, begin, size = [], 0, 0
        for number, file in enumerate(self._files, 1):
            size += file.size
            if size >= _PIECE_BYTES or number == len(self._files):
                found.append(([begin, 0], [number, 0]))
                begin, size = number, 0
        return found

    def chunks(self, start: Any, work: Path, stop: Any = None) -> Iterator[Chunk]:
        """Yield the packets in order of their files' names."""
        first, known = start or (0, 0)
        end = stop[0] if stop else len(self._files)
        gathered = Gathered(self._settings, self._side)
        found = 0
        for number in range(first, end):
            file = self._files[number]
            inside = 0
            for inside, (origin, packet) in enumerate(self._packets(file), 1):
                if inside <= known:
                    continue
                if isinstance(packet, Packet):
                    gathered.add(packet, origin)
                else:
                    gathered.add_broken(origin, packet.detail)
                found += 1
                if len(gathered) >= self._chunk:
                    yield gathered.chunk([number, inside])
                    gathered = Gathered(self._settings, self._side)
            known = 0
        if len(gathered):
            yield gathered.chunk([end, 0])
        elif not found and start is None:
            raise UserError(
                f"{self._path}: no alert packets, stamps or cutouts in {len(self._files):,} files; "
                "give a stamp set, a .npy stack, alerts (Avro, Parquet) or DES stamps"
            )

    def _packets(self, file: AlertFile) -> Iterator[tuple[str, Packet | Damage]]:
        """Packets of a file with their origin; a file that is damaged is a damaged packet."""
        number = 0
        try:
            for packet in read_packets(
                file.path, self._settings.schemas, wanted((*self._side, "id"))
            ):
                for _ in range(packet.packets if isinstance(packet, Damage) else 1):
                    number += 1
                    yield f"{file.name}:{number}", packet
        except PacketFileError as error:
            if error.reason not in _NO_ALERTS:
                yield file.name, Damage(str(error))


def _files(path: Path) -> list[AlertFile]:
    """Files that may hold packets; of a HATS catalogue, those with its rows."""
    collection = path / "collection.properties"
    if collection.is_file():
        path /= _properties(collection).get("hats_primary_table_url", "")
    hats = any((path / name).is_file() for name in ("hats.properties", "properties"))
    files: Iterable[AlertFile] = list_files(path)
    if hats and (path / "dataset").is_dir():
        # Beside the rows there are metadata, and copies of some rows to look at.
        files = [file for file in files if "Norder=" in file.name]
    return [file for file in files if not file.path.name.startswith("_")]


def _properties(file: Path) -> dict[str, str]:
    lines = file.read_text("utf-8", "replace").splitlines()
    pairs = (line.partition("=") for line in lines if not line.startswith("#"))
    return {key.strip(): value.strip() for key, _, value in pairs}
