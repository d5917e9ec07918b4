"""Fetch one file over HTTP, in as many attempts as it takes, and trust nothing of it.

Servers drop connections, ignore ranges, replace a file between two requests, or promise
another length than they send. Each of these ends an attempt, never in a wrong file: going on
needs the same version (Range with If-Range, RFC 9110, sections 13.1.5 and 14), and a
file is whole when it has the promised length.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rb.errors import UserError
from rb.io.progress import Step

if TYPE_CHECKING:
    import requests

_CHUNK = 2**20
_WORTH_A_RETRY = {408, 425, 429, 500, 502, 503, 504, 507, 509}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
#: Opens a request: method, address, headers.
Opener = Callable[
    [str, str, dict[str, str]], contextlib.AbstractContextManager["requests.Response"]
]


@dataclass
class Remote:
    """What the server says of a file."""

    url: str
    size: int | None
    etag: str | None
    modified: str | None

    @property
    def validator(self) -> str | None:
        """What If-Range may carry: a strong ETag, or the time of change."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


class Stopped(Exception):
    """Another file's failure, or Ctrl-C, ends this one."""


class TryAgain(Exception):
    """A failure that may pass; `pause` is what the server asked for, in seconds."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


class Transfer:
    """One file on its way: the partial file, its digest so far, and the version it is of."""

    def __init__(
        self,
        open_request: Opener,
        stop: threading.Event,
        name: str,
        part: Path,
        remote: Remote,
        step: Step,
    ) -> None:
        self._open, self._stop = open_request, stop
        self._name, self._part, self._step = name, part, step
        self._notes = part.with_suffix(".part.json")
        self.remote = remote
        self.digest = hashlib.sha256()
        self._hashed = 0

    def length(self) -> int:
        """Bytes that are there."""
        return self._part.stat().st_size if self._part.exists() else 0

    def attempt(self) -> None:
        """Fetch what is missing; returns when the file is whole."""
        have = self.length()
        version = self._version() if have else None
        if have and version is None:
            have = self._restart()
        headers = {"Range": f"bytes={have}-", "If-Range": version} if have and version else {}
        with self._open("GET", self.remote.url, headers) as response:
            if response.status_code == 416:
                return self._beyond_the_end(response, have)
            check_status(response, self._name)
            _check_content(response, self._name)
            if response.status_code == 206:
                size = self._resumed_size(response, have)
            else:
                # The server ignores ranges, or has another version by now.
                have = self._restart()
                size = length_of(response)
            found = remote_of(response, self.remote.url, self.remote.size if size is None else size)
            if self.remote.size is not None and size not in (None, self.remote.size):
                # A file that is replaced meanwhile shows up here as well.
                expected, self.remote = self.remote.size, found
                raise TryAgain(f"the server promised {expected:,} bytes and then {size:,}")
            if size is None and not _has_end(response) and self.remote.size is None:
                raise UserError(f"{self._name}: the server does not say how long the file is")
            self.remote = found
            self._receive(response, have, found)
        self._check_whole(found.size)

    def _receive(self, response: requests.Response, have: int, remote: Remote) -> None:
        notes = {"url": remote.url, "validator": remote.validator, "size": remote.size}
        self._notes.write_text(json.dumps(notes), encoding="utf-8")
        if self._hashed != have:
            self.digest = sha256_of(self._part, self._step, self._stop)
            self._hashed = have
        with self._part.open("ab") as out:
            while chunk := response.raw.read(_CHUNK):
                if self._stop.is_set():
                    raise Stopped
                if remote.size is not None and self._hashed + len(chunk) > remote.size:
                    out.close()
                    self._restart()
                    raise TryAgain(f"the server sends more than the {remote.size:,} bytes promised")
                out.write(chunk)
                self.digest.update(chunk)
                self._hashed += len(chunk)
                self._step.at(self._hashed)
            out.flush()
            os.fsync(out.fileno())

    def _check_whole(self, size: int | None) -> None:
        have = self.length()
        if size is not None and have != size:
            raise TryAgain(f"the connection ended at {have:,} of {size:,} bytes")

    def _resumed_size(self, response: requests.Response, have: int) -> int | None:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != have:
            self._restart()
            raise TryAgain("the server sends another part of the file than was asked for")
        return None if match[3] == "*" else int(match[3])

    def _beyond_the_end(self, response: requests.Response, have: int) -> None:
        """There is nothing behind `have`: the file is whole, or it is not the same file."""
        size = response.headers.get("Content-Range", "").removeprefix("bytes */")
        expected = self.remote.size
        if have and size == str(have) and expected in (None, have):
            if self._hashed != have:
                self.digest = sha256_of(self._part, self._step, self._stop)
                self._hashed = have
            return
        self._restart()
        promised = "" if expected is None else f" of {expected:,} promised"
        raise TryAgain(f"the server has no more than {have:,} bytes{promised}")

    def _version(self) -> str | None:
        """Version that the partial file is of; None if it cannot go on."""
        try:
            notes = json.loads(self._notes.read_text(encoding="utf-8"))
            if notes["url"] == self.remote.url and isinstance(notes["validator"], str):
                return notes["validator"]
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def _restart(self) -> int:
        self._part.unlink(missing_ok=True)
        self.digest, self._hashed = hashlib.sha256(), 0
        self._step.at(0)
        return 0


def remote_of(response: requests.Response, url: str, size: int | None) -> Remote:
    """What a response says of the file that was asked for at `url`."""
    # The address that was redirected to may expire; the one that was asked for does not.
    return Remote(url, size, response.headers.get("ETag"), response.headers.get("Last-Modified"))


def length_of(response: requests.Response) -> int | None:
    """Length that a response promises; None if it does not."""
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _has_end(response: requests.Response) -> bool:
    return "chunked" in response.headers.get("Transfer-Encoding", "").lower()


def check_status(response: requests.Response, name: str) -> None:
    """Refuse a response that is not the file; TryAgain if it may be one later."""
    status = response.status_code
    if status in (200, 206):
        return
    reason = f"{status} {response.reason or ''}".strip()
    if status in _WORTH_A_RETRY:
        asked = response.headers.get("Retry-After", "")
        raise TryAgain(f"{reason} from {response.url}", float(asked) if asked.isdigit() else 0.0)
    raise UserError(f"{name}: {reason} from {response.url}")


def _check_content(response: requests.Response, name: str) -> None:
    kind = response.headers.get("Content-Type", "")
    if "html" in kind.lower():
        raise UserError(f"{name}: {response.url} is a web page ({kind}), not the file")
    if response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
        # Apache labels a .tar.gz that way, but there is none among these files.
        raise UserError(f"{name}: the server sends the file packed, which was not asked for")


def network_reason(error: Exception) -> str:
    """What went wrong, for people."""
    import requests

    if isinstance(error, requests.Timeout) or "timed out" in str(error).lower():
        return "the server fell silent"
    if isinstance(error, requests.ConnectionError) and "establish" in str(error):
        return "no connection to the server"
    if "IncompleteRead" in str(error):
        return "the connection was dropped"
    return f"the transfer failed ({type(error).__name__})"


def sha256_of(path: Path, step: Step, stop: threading.Event) -> Any:
    """Digest of a file so far."""
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            if stop.is_set():
                raise Stopped
            digest.update(chunk)
            done += len(chunk)
            step.at(done)
    return digest
