"""Find the stamps of a DES autoscan download: in shard tars, in unpacked trees, in both.

A stamp is a file ``{diff,srch,temp}<ID>.fits`` (or ``.fits.gz``), wherever it lies. Files
are found by name, not by depth, because the roots inside the shards differ and one shard
is flat. The folder of a stamp is the exposure it was cut from, its parent the night.

Everything here works on arrays, not on an object a file: the archive has 2.7 million.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rb.errors import UserError
from rb.io.files import aside
from rb.io.fits import MAX_BYTES
from rb.io.tar import GzipReader, TarState, open_reader, walk

#: Names of the three panels in the archive, in the order of the channels.
PREFIXES = ("diff", "srch", "temp")
SUFFIXES = (".fits", ".fits.gz")

_STAMP = re.compile(r"(diff|srch|temp)([1-9][0-9]{0,17})\.fits(\.gz)?")
_STAMP_IN_TAR = re.compile(rb"(?:(.*)/)?(diff|srch|temp)([1-9][0-9]{0,17})\.fits(\.gz)?", re.DOTALL)
_CHANNEL = {name: i for i, name in enumerate(PREFIXES)} | {
    name.encode(): i for i, name in enumerate(PREFIXES)
}
_TAR = re.compile(r".+\.(tar|tar\.gz|tgz)")
_TABLE = re.compile(r"autoscan_features.*\.csv(\.gz)?")
_DATE = re.compile(r"(19|20)[0-9]{6}")
_EXPOSURE = re.compile(r"[0-9]{5,18}")
_INDEX_VERSION = 1


@dataclass
class Index:
    """Where the stamps of one shard (or of the tree) lie, one entry a file."""

    ids: np.ndarray  # int64
    channels: np.ndarray  # int8, place in PREFIXES
    packed: np.ndarray  # bool, a .fits.gz
    offsets: np.ndarray  # int64, of the data in the (expanded) tar; -1 in a tree
    sizes: np.ndarray  # int64, bytes
    folders: np.ndarray  # int32, place in `folder_names`
    folder_names: list[str]
    problems: list[str] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    compressed: bool = False  # the shard is a .tar.gz and can only be read from its start

    def __len__(self) -> int:
        return len(self.ids)

    def name(self, i: int) -> str:
        """Path of entry `i` inside its shard or tree."""
        folder = self.folder_names[self.folders[i]]
        file = f"{PREFIXES[self.channels[i]]}{self.ids[i]}{SUFFIXES[int(self.packed[i])]}"
        return f"{folder}/{file}" if folder else file

    def save(self, path: Path) -> None:
        """Write to `path` (.npz), whole or not at all."""
        texts = json.dumps(
            {
                "version": _INDEX_VERSION,
                "folder_names": self.folder_names,
                "problems": self.problems,
                "skipped": self.skipped,
                "compressed": self.compressed,
            }
        )
        with aside(path) as part, part.open("wb") as file:
            np.savez(
                file,
                ids=self.ids,
                channels=self.channels,
                packed=self.packed,
                offsets=self.offsets,
                sizes=self.sizes,
                folders=self.folders,
                texts=np.frombuffer(texts.encode("utf-8", "surrogateescape"), np.uint8),
            )

    @classmethod
    def load(cls, path: Path) -> Index:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as parts:
            texts = json.loads(parts["texts"].tobytes().decode("utf-8", "surrogateescape"))
            del texts["version"]
            arrays = {name: parts[name] for name in parts.files if name != "texts"}
        return cls(**arrays, **texts)


class _Collector:
    """Grows an `Index` without a Python object for each file."""

    def __init__(self) -> None:
        self._columns = [array(code) for code in "qbbqqi"]
        self._folders: dict[str, int] = {}

    def add(self, file: tuple[int, int, bool], offset: int, size: int, folder: str) -> None:
        number = self._folders.setdefault(folder, len(self._folders))
        for column, value in zip(self._columns, (*file, offset, size, number), strict=True):
            column.append(value)

    def index(
        self, skipped: dict[str, int], problems: list[str] | None = None, compressed: bool = False
    ) -> Index:
        ids, channels, packed, offsets, sizes, folders = (np.array(c) for c in self._columns)
        return Index(
            ids,
            channels,
            packed.astype(bool),
            offsets,
            sizes,
            folders,
            list(self._folders),
            problems or [],
            {reason: n for reason, n in skipped.items() if n},
            compressed,
        )


@dataclass
class Listing:
    """What lies under a root: tars, single stamps, candidates for the feature table."""

    root: Path
    tars: list[Path]
    tree: Index
    tables: list[Path]
    digest: str  # over names, sizes and times of change

    def relative(self, path: Path) -> str:
        """Path as the report names it."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


def list_archive(root: Path, tick: Callable[[int], None] = lambda n: None) -> Listing:
    """List the tars and single stamps under `root`, itself a folder or one tar.

    Parameters
    ----------
    root : Path
        Folder, followed to any depth through links too, or one tar file.
    tick : callable
        Told now and then how many files were seen.

    Raises
    ------
    UserError
        If there is no such folder or it cannot be read.
    """
    if not root.exists():
        raise UserError(f"{root}: no such folder (data.root)")
    digest = hashlib.sha256()
    tars: list[Path] = []
    tables: list[Path] = []
    found = _Collector()
    skipped: dict[str, int] = {}
    folder_root = root if root.is_dir() else root.parent
    seen = 0
    for folder, entries in _folders(root):
        relative = os.path.relpath(folder, folder_root)
        relative = "" if relative == "." else relative
        for entry in entries:
            seen += 1
            stamp = _STAMP.fullmatch(entry.name)
            is_tar = not stamp and _TAR.fullmatch(entry.name)
            if not (stamp or is_tar or _TABLE.fullmatch(entry.name)):
                key = "gif" if entry.name.endswith(".gif") else "other"
                skipped[key] = skipped.get(key, 0) + 1
                continue
            try:
                status = entry.stat()
            except OSError:  # a link to nothing
                skipped["unreadable"] = skipped.get("unreadable", 0) + 1
                continue
            if not stat.S_ISREG(status.st_mode):  # opening a named pipe would wait for ever
                skipped["special"] = skipped.get("special", 0) + 1
                continue
            if stamp:
                file = (int(stamp[2]), _CHANNEL[stamp[1]], stamp[3] is not None)
                found.add(file, -1, status.st_size, relative)
            elif is_tar:
                tars.append(Path(entry.path))
            else:
                tables.append(Path(entry.path))
                continue
            line = f"{relative}\0{entry.name}\0{status.st_size}\0{status.st_mtime_ns}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
        tick(seen)
    tars.sort(key=lambda path: [(len(p), p) for p in re.split(r"(\d+)", str(path))])
    tree = found.index(skipped)
    return Listing(folder_root, tars, tree, tables, digest.hexdigest())


def _folders(root: Path) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """Yield each folder under `root` once, with its files in order of name."""
    if root.is_file():
        with os.scandir(root.parent) as listing:
            # The table lies beside the tar; other tars beside it were not asked for.
            yield (
                str(root.parent),
                [e for e in listing if e.name == root.name or _TABLE.fullmatch(e.name)],
            )
        return
    stack, visited = [str(root)], set()
    while stack:
        folder = stack.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda e: e.name)
        except OSError as error:
            raise UserError(f"{folder}: cannot be listed ({error.strerror})") from error
        folders = [e for e in entries if e.is_dir()]
        stack.extend(e.path for e in reversed(folders))
        yield folder, [e for e in entries if not e.is_dir()]


def index_tar(path: Path, tick: Callable[[int], None] = lambda position: None) -> Index:
    """Find the stamps in a tar, packed with gzip or not, without unpacking it.

    Damage is listed in the index' ``problems``; what lies before and behind it is found.

    Parameters
    ----------
    path : Path
        The tar.
    tick : callable
        Told now and then the position in the (expanded) tar.
    """
    found = _Collector()
    state = TarState()
    skipped = {"gif": 0, "other": 0}
    with open_reader(path) as reader:
        compressed = isinstance(reader, GzipReader)
        for n, (name, offset, size) in enumerate(walk(reader, state)):
            if n % 8192 == 0:
                tick(offset)
            match = _STAMP_IN_TAR.fullmatch(name) if not name.endswith(b".gif") else None
            if match is None:
                skipped["gif" if name.endswith(b".gif") else "other"] += 1
                continue
            folder, prefix, number, packed = match.groups(default=b"")
            found.add(
                (int(number), _CHANNEL[prefix], bool(packed)),
                offset,
                # A header may say anything; the array holds what is certain to fit.
                min(size, MAX_BYTES + 1),
                folder.decode("utf-8", "surrogateescape").removeprefix("./"),
            )
        if isinstance(reader, GzipReader) and reader.error:
            state.problems.append(reader.error)
    skipped |= {"link": state.links, "special": state.special, "escape": state.escapes}
    return found.index(skipped, state.problems, compressed)


def exposure_of(folder: str) -> tuple[str | None, str | None]:
    """Night (YYYYMMDD) and exposure number that a folder's path names; None where it does not.

    Examples
    --------
    >>> exposure_of("home2/SNWG/Archive/2013/Y1/20130829/470681007")
    ('20130829', '470681007')
    >>> exposure_of("stamps_10")
    (None, None)
    """
    *_, above, last = ["", "", *folder.split("/")]
    date = above if _DATE.fullmatch(above) else None
    if date is None and _DATE.fullmatch(last):
        return last, None
    return date, last if _EXPOSURE.fullmatch(last) else None
