"""Fetch one file over HTTP, in as many attempts as it takes, and trust nothing of it.

Servers drop connections, ignore ranges, replace a file between two requests, or promise
another length than they send. Each of these ends an attempt, never in a wrong file: going on
needs the same version (Range with If-Range, RFC 9110, sections 13.1.5 and 14), and a
file is whole when it has the promised length.

Connections, redirects and certificates are those of `requests`. Its retries (urllib3's `Retry`)
are not used: they begin a body anew where it was cut, and sleep through Ctrl-C.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rb.errors import UserError
from rb.io.progress import Step

if TYPE_CHECKING:
    import requests

_CHUNK = 2**20
_WORTH_A_RETRY = {408, 425, 429, 500, 502, 503, 504, 507, 509}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_ATTEMPTS_TO_ASK = 3  # before anything is known to be there, waiting for long is no use
_T = TypeVar("_T")


@dataclass
class Remote:
    """What the server says of a file.

    Parameters
    ----------
    url : str
        The address that was asked for; the one that it redirects to may expire.
    size : int or None
        Its length in bytes.
    version : str or None
        What If-Range may carry: a strong ETag, or the time of change.
    """

    url: str
    size: int | None = None
    version: str | None = None


class Stopped(Exception):
    """Another file's failure, or Ctrl-C, ends this one."""


class _TryAgain(Exception):
    """A failure that may pass; `pause` is what the server asked for, in seconds."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


class Client:
    """Asks for files and fetches them; may be shared by threads.

    Parameters
    ----------
    retries : int
        Attempts after a failure; a file that grew meanwhile starts counting anew.
    timeout : float
        Seconds of silence after which a connection counts as dropped.
    backoff : float
        Seconds before the first new attempt; it doubles, up to a minute.
    """

    def __init__(self, retries: int, timeout: float, backoff: float) -> None:
        self.retries, self.timeout, self.backoff = retries, timeout, backoff
        self.stop = threading.Event()

    def ask(self, name: str, urls: Sequence[str]) -> Remote:
        """What the first address that has the file says of it.

        Raises
        ------
        UserError
            If none has it.
        """

        def attempt() -> Remote:
            for url in urls:
                with self._open("HEAD", url, {}) as response:
                    if response.status_code == 404 and url != urls[-1]:
                        continue
                    if response.status_code in (405, 501):  # HEAD is not everybody's
                        return Remote(url)
                    _check_status(response, name)
                    return Remote(url, _length(response), _version(response))
            raise AssertionError("a file without an address")

        return self._insist(name, attempt, None, min(self.retries, _ATTEMPTS_TO_ASK))

    def fetch(self, name: str, remote: Remote, part: Path, step: Step) -> None:
        """Make `part` the whole file, going on with what is there of it.

        Raises
        ------
        UserError
            If it cannot be had; what there is of it stays.
        """
        self._insist(name, lambda: self._attempt(name, remote, part, step), part, self.retries)

    def sha256(self, path: Path, step: Step) -> str:
        """Digest of a file."""
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                if self.stop.is_set():
                    raise Stopped
                digest.update(chunk)
                step.advance(len(chunk))
        return digest.hexdigest()

    def _attempt(self, name: str, remote: Remote, part: Path, step: Step) -> None:
        notes = notes_of(part)
        have, version = _size(part), _known_version(notes, remote.url)
        have = have if version else 0
        headers = {"Range": f"bytes={have}-", "If-Range": version or ""} if have else {}
        with self._open("GET", remote.url, headers) as response:
            size: int | None = None
            if response.status_code == 416 and _whole(response, have, remote):
                return
            if response.status_code == 206:
                match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
                if match is None or int(match[1]) != have:
                    part.unlink(missing_ok=True)
                    raise _TryAgain("the server sends another part of the file than was asked for")
                size = None if match[3] == "*" else int(match[3])
            elif response.status_code == 416:
                part.unlink(missing_ok=True)
                raise _TryAgain(f"the server has no more than {have:,} bytes")
            else:
                # The server ignores ranges, or has another version by now.
                _check_status(response, name)
                have, size = 0, _length(response)
            _check_content(response, name)
            if remote.size is not None and size not in (None, remote.size):
                # A file that is replaced meanwhile shows up here as well.
                promised, remote.size = remote.size, size
                raise _TryAgain(f"the server promised {promised:,} bytes and then {size:,}")
            if size is None and remote.size is None and not _has_end(response):
                raise UserError(f"{name}: the server does not say how long the file is")
            remote.size = remote.size if size is None else size
            remote.version = _version(response)
            notes.write_text(json.dumps({"url": remote.url, "version": remote.version}))
            self._receive(response, part, have, remote.size, step)

    def _receive(
        self, response: requests.Response, part: Path, have: int, size: int | None, step: Step
    ) -> None:
        with part.open("ab") as out:
            out.truncate(have)
            while chunk := response.raw.read(_CHUNK):
                if self.stop.is_set():
                    raise Stopped
                have += len(chunk)
                if size is not None and have > size:
                    out.truncate(0)
                    raise _TryAgain(f"the server sends more than the {size:,} bytes promised")
                out.write(chunk)
                step.at(have)
            out.flush()
            os.fsync(out.fileno())
        if size is not None and have != size:
            raise _TryAgain(f"the connection ended at {have:,} of {size:,} bytes")

    def _insist(self, name: str, attempt: Callable[[], _T], part: Path | None, retries: int) -> _T:
        """Call `attempt` until it succeeds, or fails `retries` times without getting further."""
        import requests
        import urllib3

        failures, best = 0, _size(part)
        while True:
            if self.stop.is_set():
                raise Stopped
            try:
                return attempt()
            except _TryAgain as error:
                reason, asked = str(error), error.pause
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                reason, asked = _network_reason(error), 0.0
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    self.stop.set()
                raise UserError(f"{name}: cannot be written ({error.strerror or error})") from error
            failures, best = (1, _size(part)) if _size(part) > best else (failures + 1, best)
            if failures > retries:
                raise UserError(f"{name}: {reason}, after {failures} attempts")
            pause = min(60.0, self.backoff * 2 ** (failures - 1)) * random.uniform(0.5, 1.0)
            self.stop.wait(max(pause, min(asked, 300.0)))

    def _open(self, method: str, url: str, headers: dict[str, str]) -> requests.Response:
        import requests

        return requests.request(
            method,
            url,
            # Packed in transit, a length or a range would not be that of the file.
            headers={"Accept-Encoding": "identity", **headers},
            stream=True,
            timeout=(min(self.timeout, 30.0), self.timeout),
            allow_redirects=True,
        )


def notes_of(part: Path) -> Path:
    """The file that says of which version `part` is."""
    return part.with_suffix(".part.json")


def _known_version(notes: Path, url: str) -> str | None:
    """Version that the partial file is of; None if it cannot go on."""
    try:
        said = json.loads(notes.read_text(encoding="utf-8"))
        return said["version"] if said["url"] == url and isinstance(said["version"], str) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _size(path: Path | None) -> int:
    return path.stat().st_size if path is not None and path.exists() else 0


def _whole(response: requests.Response, have: int, remote: Remote) -> bool:
    """Whether there is nothing behind the `have` bytes because they are the whole file."""
    total = response.headers.get("Content-Range", "").removeprefix("bytes */")
    return have > 0 and total == str(have) and remote.size in (None, have)


def _version(response: requests.Response) -> str | None:
    etag = response.headers.get("ETag")
    strong = etag and not etag.startswith("W/")
    return etag if strong else response.headers.get("Last-Modified")


def _length(response: requests.Response) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _has_end(response: requests.Response) -> bool:
    return "chunked" in response.headers.get("Transfer-Encoding", "").lower()


def _check_status(response: requests.Response, name: str) -> None:
    """Refuse a response that is not the file; _TryAgain if it may be one later."""
    if response.status_code == 200:
        return
    reason = f"{response.status_code} {response.reason or ''}".strip()
    if response.status_code in _WORTH_A_RETRY:
        asked = response.headers.get("Retry-After", "")
        raise _TryAgain(f"{reason} from {response.url}", float(asked) if asked.isdigit() else 0.0)
    raise UserError(f"{name}: {reason} from {response.url}")


def _check_content(response: requests.Response, name: str) -> None:
    kind = response.headers.get("Content-Type", "")
    if "html" in kind.lower():
        raise UserError(f"{name}: {response.url} is a web page ({kind}), not the file")
    if response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
        # Apache labels a .tar.gz that way, but there is none among these files.
        raise UserError(f"{name}: the server sends the file packed, which was not asked for")


def _network_reason(error: Exception) -> str:
    import requests

    if isinstance(error, requests.Timeout) or "timed out" in str(error).lower():
        return "the server fell silent"
    if isinstance(error, requests.ConnectionError) and "establish" in str(error):
        return "no connection to the server"
    if "IncompleteRead" in str(error):
        return "the connection was dropped"
    return f"the transfer failed ({type(error).__name__})"
