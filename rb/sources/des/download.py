"""Fetch large files over HTTP so that nothing is fetched twice and nothing is taken on trust.

A file grows as ``<name>.part`` and gets its name only when it has the length that the
server promised; its size, SHA-256 and version are then recorded in ``download.json``, and
the next run compares them instead of downloading.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urljoin

from rb.errors import UserError
from rb.io.files import aside
from rb.io.http import Client, Remote, Stopped, notes_of
from rb.io.locks import locked
from rb.io.progress import Bars, bars

MANIFEST = "download.json"
N_SHARDS = 11
_T = TypeVar("_T")


@dataclass(frozen=True)
class RemoteFile:
    """A file and the addresses where it may be; the first that has it counts."""

    name: str
    urls: tuple[str, ...]


def des_files(base_url: str, shards: str = "0-10", *, table: bool = True) -> list[RemoteFile]:
    """Files of the DES autoscan archive.

    Parameters
    ----------
    base_url : str
        Folder with the shards; the table lies there too, or one level above.
    shards : str
        Numbers and ranges such as ``0,3-5``, or ``none``.
    table : bool
        With the feature table.

    Raises
    ------
    UserError
        If the address is not HTTP or a shard does not exist.
    """
    if not re.match(r"https?://[^/]", base_url):
        raise UserError(f"--base-url {base_url}: give an address that begins with http(s)://")
    base = base_url.rstrip("/") + "/"
    numbers: set[int] = set()
    for part in [] if shards == "none" else shards.split(","):
        match = re.fullmatch(r"\s*(\d{1,3})(?:-(\d{1,3}))?\s*", part)
        first = int(match[1]) if match else -1
        last = int(match[2] or match[1]) if match else -1
        if not 0 <= first <= last < N_SHARDS:
            raise UserError(
                f"--shards {shards}: give numbers from 0 to {N_SHARDS - 1}, such as 0,3-5, or none"
            )
        numbers |= set(range(first, last + 1))
    names = [f"stamps_{n}.tar" for n in sorted(numbers)]
    files = [RemoteFile(name, (urljoin(base, name),)) for name in names]
    if table:
        name = "autoscan_features.3.csv"
        # The table is small and needed first.
        files.insert(0, RemoteFile(name, (urljoin(base, name), urljoin(base, f"../{name}"))))
    if not files:
        raise UserError("nothing to download: neither a shard nor the table was asked for")
    return files


class Downloader:
    """Downloads files into a folder, several at a time.

    Parameters
    ----------
    folder : Path
        Made if need be.
    parallel : int
        Files at a time.
    retries, timeout, backoff
        Of `rb.io.http.Client`.
    progress : bool
        Show progress bars.
    """

    def __init__(
        self,
        folder: Path,
        *,
        parallel: int = 3,
        retries: int = 8,
        timeout: float = 60.0,
        backoff: float = 1.0,
        progress: bool = True,
    ) -> None:
        self.folder = Path(folder)
        self.parallel, self.progress = parallel, progress
        self._client = Client(retries, timeout, backoff)
        self._lock = threading.Lock()

    def fetch(self, files: Sequence[RemoteFile]) -> list[str]:
        """Download what is missing and verify what is there.

        Returns
        -------
        list of str
            A line a file: what was done, size, beginning of the SHA-256.

        Raises
        ------
        UserError
            If a file cannot be had; the others are finished first. What was fetched of it
            stays as ``.part`` and the next call goes on there.
        """
        try:
            with self._alone(), bars(self.progress) as show:
                return self._fetch(files, show)
        except OSError as error:
            raise UserError(
                f"{error.filename or self.folder}: cannot be written ({error.strerror or error})"
            ) from error

    def _fetch(self, files: Sequence[RemoteFile], show: Bars) -> list[str]:
        manifest, lines, failures = self._manifest(), dict[str, str](), dict[str, str]()
        for file in files:
            line = self._verify(file, manifest.get(file.name), show)
            if line is not None:
                lines[file.name] = line
        todo = [file for file in files if file.name not in lines]
        with ThreadPoolExecutor(self.parallel) as pool:
            try:
                asked = {
                    file.name: pool.submit(self._client.ask, file.name, file.urls) for file in todo
                }
                remotes: dict[str, Remote] = _results(asked, failures)
                self._check_space(remotes)
                lines |= _results(
                    {
                        name: pool.submit(self._get, name, remote, name in manifest, show)
                        for name, remote in remotes.items()
                    },
                    failures,
                )
            except BaseException:
                self._client.stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        if failures:
            more = f" (and {len(failures) - 1} more failed)" if len(failures) > 1 else ""
            raise UserError(
                f"{next(iter(failures.values()))}{more}; {len(lines)} of {len(files)} files are "
                "whole, run the same command again to go on"
            )
        return [lines[file.name] for file in files]

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        refusal = f"{self.folder}: another download is running there"
        return locked(self.folder / ".download.lock", refusal=refusal)

    # --- what is there already -----------------------------------------------------------

    def _manifest(self) -> dict[str, dict[str, Any]]:
        try:
            manifest = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError):
            manifest = None
        if not isinstance(manifest, dict) or not all(
            isinstance(v, dict) and {"size", "sha256"} <= v.keys() for v in manifest.values()
        ):
            raise UserError(
                f"{self.folder / MANIFEST}: damaged; remove it, then the files are checked anew"
            )
        return manifest

    def _verify(self, file: RemoteFile, entry: dict[str, Any] | None, show: Bars) -> str | None:
        """Line for a file that is whole; None if it has to be fetched."""
        path = self.folder / file.name
        if entry is None or not path.is_file() or path.stat().st_size != entry["size"]:
            return None
        same = self._digest(path, show) == entry["sha256"]
        return _line(file.name, "verified", entry) if same else None

    def _digest(self, path: Path, show: Bars) -> str:
        with show.task(f"verifying {path.name}", path.stat().st_size, "bytes") as step:
            return self._client.sha256(path, step)

    # --- fetching ----------------------------------------------------------------------------

    def _check_space(self, remotes: dict[str, Remote]) -> None:
        needed = 0
        for name, remote in remotes.items():
            part = self.folder / f"{name}.part"
            needed += max((remote.size or 0) - (part.stat().st_size if part.exists() else 0), 0)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise UserError(
                f"{self.folder}: {needed / 1e9:.3g} GB are to be fetched, {free / 1e9:.3g} GB are "
                "free; choose another folder or fewer --shards"
            )

    def _get(self, name: str, remote: Remote, known_bad: bool, show: Bars) -> str:
        path, part = self.folder / name, self.folder / f"{name}.part"
        # Fetched by other means: what it contains is recorded, so that damage shows later.
        found = path.is_file() and path.stat().st_size == remote.size and not known_bad
        if not found:
            with show.task(name, remote.size, "bytes") as step:
                self._client.fetch(name, remote, part, step)
        digest = self._digest(path if found else part, show)
        if not found:
            part.replace(path)
            notes_of(part).unlink(missing_ok=True)
        entry = {
            "url": remote.url,
            "size": path.stat().st_size,
            "sha256": digest,
            "version": remote.version,
        }
        with self._lock:
            manifest = self._manifest() | {name: entry}
            with aside(self.folder / MANIFEST) as new:
                new.write_text(json.dumps(dict(sorted(manifest.items())), indent=1))
        return _line(name, "found, length as promised" if found else "downloaded", entry)


def _results(jobs: dict[str, Future[_T]], failures: dict[str, str]) -> dict[str, _T]:
    """Results by name; what a user has to know of the others is put into `failures`."""
    names = {job: name for name, job in jobs.items()}
    results = {}
    for job in as_completed(names):
        try:
            results[names[job]] = job.result()
        except UserError as error:
            failures[names[job]] = str(error)
        except Stopped:
            pass
    return results


def _line(name: str, what: str, entry: dict[str, Any]) -> str:
    return f"{name}: {what}, {entry['size']:,} bytes, SHA-256 {entry['sha256'][:16]}…"
