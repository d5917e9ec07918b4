"""Fetch large files over HTTP so that nothing is fetched twice and nothing is taken on trust.

A file grows as ``<name>.part`` and gets its name only when it has the length that the
server promised; its size, SHA-256 and version are then recorded in ``download.json``, and
the next run compares them instead of downloading.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import random
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from rb.errors import UserError
from rb.io.http import (
    Remote,
    Stopped,
    Transfer,
    TryAgain,
    check_status,
    length_of,
    network_reason,
    remote_of,
    sha256_of,
)
from rb.io.progress import Bars, byte_bars

if TYPE_CHECKING:
    import requests

MANIFEST = "download.json"
N_SHARDS = 11
_ATTEMPTS_TO_ASK = 3  # before anything is known to be there, waiting for long is no use


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
    retries : int
        Attempts after a failure; a file that grew meanwhile starts counting anew.
    timeout : float
        Seconds of silence after which a connection counts as dropped.
    backoff : float
        Seconds before the first new attempt; it doubles, up to a minute.
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
        self.parallel, self.retries = parallel, retries
        self.timeout, self.backoff = timeout, backoff
        self.progress = progress
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._local = threading.local()

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
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._alone(), byte_bars(self.progress) as show:
                return self._fetch(files, show)
        except OSError as error:
            raise UserError(
                f"{error.filename or self.folder}: cannot be written ({error.strerror or error})"
            ) from error

    def _fetch(self, files: Sequence[RemoteFile], show: Bars) -> list[str]:
        manifest = self._manifest()
        todo, lines = [], {}
        for file in files:
            line = self._verify(file, manifest.get(file.name), show)
            if line is None:
                todo.append(file)
            else:
                lines[file.name] = line
        failures: dict[str, str] = {}
        with ThreadPoolExecutor(self.parallel) as pool:
            try:
                remotes = self._ask(pool, todo, failures)
                self._check_space(remotes)
                jobs = {
                    pool.submit(
                        self._get, file, remotes[file.name], file.name in manifest, show
                    ): file
                    for file in todo
                    if file.name in remotes
                }
                for job in as_completed(jobs):
                    try:
                        lines[jobs[job].name] = job.result()
                    except UserError as error:
                        failures[jobs[job].name] = str(error)
                    except Stopped:
                        pass
            except BaseException:
                self._stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        if failures:
            more = f" (and {len(failures) - 1} more failed)" if len(failures) > 1 else ""
            raise UserError(
                f"{next(iter(failures.values()))}{more}; {len(lines)} of {len(files)} files are "
                "whole, run the same command again to go on"
            )
        return [lines[file.name] for file in files]

    # --- what is there already -----------------------------------------------------------

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with (self.folder / ".download.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"{self.folder}: another download is running there") from None
            yield

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

    def _record(self, name: str, entry: dict[str, Any]) -> None:
        with self._lock:
            manifest = self._manifest() | {name: entry}
            part = self.folder / (MANIFEST + ".part")
            part.write_text(json.dumps(dict(sorted(manifest.items())), indent=1), encoding="utf-8")
            part.replace(self.folder / MANIFEST)

    def _verify(self, file: RemoteFile, entry: dict[str, Any] | None, show: Bars) -> str | None:
        """Line for a file that is whole; None if it has to be fetched."""
        path = self.folder / file.name
        if entry is None or not path.is_file() or path.stat().st_size != entry["size"]:
            return None
        with show.task(f"verifying {file.name}", entry["size"], "") as step:
            found = sha256_of(path, step, self._stop).hexdigest()
        if found != entry["sha256"]:
            return None
        return _line(file.name, "verified", entry)

    # --- what the server has ---------------------------------------------------------------

    @property
    def _session(self) -> requests.Session:
        # A session is not safe to share between threads.
        if not hasattr(self._local, "session"):
            import requests

            self._local.session = requests.Session()
            # Packed in transit, a length or a range would not be that of the file.
            self._local.session.headers["Accept-Encoding"] = "identity"
        return self._local.session

    def _ask(
        self, pool: ThreadPoolExecutor, files: Sequence[RemoteFile], failures: dict[str, str]
    ) -> dict[str, Remote]:
        jobs = {pool.submit(self._head, file): file for file in files}
        remotes = {}
        for job in as_completed(jobs):
            try:
                remotes[jobs[job].name] = job.result()
            except UserError as error:
                failures[jobs[job].name] = str(error)
        return remotes

    def _head(self, file: RemoteFile) -> Remote:
        def attempt() -> Remote:
            for i, url in enumerate(file.urls):
                with self._open("HEAD", url, {}) as response:
                    if response.status_code == 404 and i + 1 < len(file.urls):
                        continue
                    if response.status_code in (405, 501):  # HEAD is not everybody's
                        return Remote(url, None, None, None)
                    check_status(response, file.name)
                    return remote_of(response, url, length_of(response))
            raise AssertionError("a file without an address")

        return self._insist(file.name, attempt, lambda: 0, min(self.retries, _ATTEMPTS_TO_ASK))

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

    # --- fetching ----------------------------------------------------------------------------

    def _get(self, file: RemoteFile, remote: Remote, known_bad: bool, show: Bars) -> str:
        path, part = self.folder / file.name, self.folder / f"{file.name}.part"
        same_size = path.is_file() and path.stat().st_size == remote.size
        if same_size and not known_bad:
            # Fetched by other means: what it contains is recorded, so that damage shows later.
            with show.task(f"verifying {file.name}", remote.size, "") as step:
                digest = sha256_of(path, step, self._stop)
            return self._finished(file, remote, digest.hexdigest(), "found, length as promised")
        with show.task(file.name, remote.size, "") as step:
            transfer = Transfer(self._open, self._stop, file.name, part, remote, step)
            self._insist(file.name, transfer.attempt, transfer.length, self.retries)
            part.replace(path)
            part.with_suffix(".part.json").unlink(missing_ok=True)
        return self._finished(file, transfer.remote, transfer.digest.hexdigest(), "downloaded")

    def _finished(self, file: RemoteFile, remote: Remote, sha256: str, what: str) -> str:
        entry = {
            "url": remote.url,
            "size": (self.folder / file.name).stat().st_size,
            "sha256": sha256,
            "etag": remote.etag,
            "last_modified": remote.modified,
        }
        self._record(file.name, entry)
        return _line(file.name, what, entry)

    def _insist(
        self, name: str, attempt: Callable[[], Any], length: Callable[[], int], retries: int
    ) -> Any:
        """Call `attempt` until it succeeds, or fails `retries` times without getting further."""
        import requests
        import urllib3

        failures, best = 0, length()
        while True:
            if self._stop.is_set():
                raise Stopped
            try:
                return attempt()
            except TryAgain as error:
                reason, asked = str(error), error.pause
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                reason, asked = network_reason(error), 0.0
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    self._stop.set()
                raise UserError(f"{name}: cannot be written ({error.strerror or error})") from error
            failures, best = (1, length()) if length() > best else (failures + 1, best)
            if failures > retries:
                raise UserError(f"{name}: {reason}, after {failures} attempts")
            pause = min(60.0, self.backoff * 2 ** (failures - 1)) * random.uniform(0.5, 1.0)
            self._stop.wait(max(pause, min(asked, 300.0)))

    @contextlib.contextmanager
    def _open(self, method: str, url: str, headers: dict[str, str]) -> Iterator[requests.Response]:
        with self._session.request(
            method,
            url,
            headers=headers,
            stream=True,
            timeout=(min(self.timeout, 30.0), self.timeout),
            allow_redirects=True,
        ) as response:
            yield response


def _line(name: str, what: str, entry: dict[str, Any]) -> str:
    return f"{name}: {what}, {entry['size']:,} bytes, SHA-256 {entry['sha256'][:16]}…"
