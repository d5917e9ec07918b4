"""The review's page on this machine: a small server that only its own page can talk to.

It listens on the loopback interface alone. Every request has to carry the token that was
printed with the address; the page sends it in a header, which another site's script in the
same browser cannot. The name in ``Host`` has to be that of the loopback interface, so that
a foreign domain pointed at it gets nothing.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
import socket
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

from rb.errors import UserError
from rb.labels.review import Review

HOST = "127.0.0.1"
PORT = 8642
TOKEN_HEADER = "X-Review-Token"
_MOST_BODY = 4096  # bytes; a verdict has about a hundred
_PORTS_TRIED = 20
_LOCAL = ("127.0.0.1", "localhost", "[::1]")


class ReviewServer(ThreadingHTTPServer):
    """Serves one review until it is shut down.

    Parameters
    ----------
    review
        What is reviewed.
    port
        Port on the loopback interface; 0 for any that is free, None for `PORT` or one of the
        next ones.

    Raises
    ------
    UserError
        If the port is taken.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64  # a page asks for several candidates at once

    def __init__(self, review: Review, port: int | None = None) -> None:
        self.review = review
        self.token = secrets.token_urlsafe(24)
        self.nonce = secrets.token_urlsafe(16)
        # The page is read at once: a broken installation shows now.
        page = (files("rb.labels") / "templates" / "review.html").read_text("utf-8")
        self.page = page.replace("{{nonce}}", self.nonce).replace("{{token}}", self.token)
        wanted = [port] if port is not None else list(range(PORT, PORT + _PORTS_TRIED))
        for one in wanted:
            try:
                super().__init__((HOST, one), _Handler)
                return
            except OSError as error:
                problem = error
        raise UserError(
            f"--port {wanted[0]}: cannot listen there ({problem.strerror}); choose another"
        )

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """Address of the page, with the token."""
        return f"http://{HOST}:{self.port}/?token={self.token}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle of an answer is no news."""
        import sys

        if not isinstance(sys.exception(), ConnectionError | TimeoutError | socket.timeout):
            super().handle_error(request, client_address)


class _Refused(Exception):
    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: ReviewServer
    protocol_version = "HTTP/1.1"
    server_version = "rb"
    sys_version = ""
    timeout = 60

    def do_GET(self) -> None:
        """The page and what it asks for."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """A verdict."""
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: addresses hold the token."""

    def _answer(self, work: Any) -> None:
        try:
            self._check_host()
            kind, content = work(urlsplit(self.path))
            self._send(HTTPStatus.OK, kind, content)
        except _Refused as refused:
            self.close_connection = True  # a body that was not read would be the next request
            self._send(refused.status, "text/plain", f"{refused}\n".encode())
        except UserError as error:
            self._send(HTTPStatus.BAD_REQUEST, "text/plain", f"{error}\n".encode())

    def _get(self, url: Any) -> tuple[str, bytes]:
        query = parse_qs(url.query)
        if url.path == "/":
            self._check_token(query.get("token", [""])[0])
            return "text/html; charset=utf-8", self.server.page.encode()
        self._check_token(self.headers.get(TOKEN_HEADER, ""))
        review = self.server.review
        if url.path == "/api/start":
            return _json(review.start())
        if url.path == "/api/verdicts":
            return _json(review.verdicts(query.get("inspector", [""])[0]))
        number = re.fullmatch(r"/api/candidate/(\d{1,9})", url.path, re.ASCII)
        if number:
            return _json(review.candidate(int(number[1])))
        raise _Refused(HTTPStatus.NOT_FOUND, "there is nothing here")

    def _post(self, url: Any) -> tuple[str, bytes]:
        self._check_token(self.headers.get(TOKEN_HEADER, ""))
        if url.path != "/api/verdict":
            raise _Refused(HTTPStatus.NOT_FOUND, "there is nothing here")
        told = self._body()
        self.server.review.record(
            told.get("inspector"), told.get("number"), told.get("verdict"), told.get("shown")
        )
        return _json({"saved": True})

    def _body(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"\d{1,9}", length, re.ASCII):
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "how long is it?")
        if int(length) > _MOST_BODY:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too long for a verdict")
        if self.headers.get_content_type() != "application/json":
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a verdict is JSON")
        body = self.rfile.read(int(length))
        try:
            told = json.loads(body)
        except (ValueError, RecursionError):
            raise _Refused(HTTPStatus.BAD_REQUEST, "that is no JSON") from None
        if not isinstance(told, dict):
            raise _Refused(HTTPStatus.BAD_REQUEST, "a verdict is a JSON object")
        return told

    def _check_host(self) -> None:
        host = self.headers.get("Host", "")
        if host.rpartition(":")[0] not in _LOCAL and host not in _LOCAL:
            raise _Refused(HTTPStatus.FORBIDDEN, "this page is only for this machine")
        origin = self.headers.get("Origin")
        if origin is not None and origin != f"http://{host}":
            raise _Refused(HTTPStatus.FORBIDDEN, "another site's script has no business here")

    def _check_token(self, token: str) -> None:
        if not hmac.compare_digest(token.encode(), self.server.token.encode()):
            raise _Refused(
                HTTPStatus.FORBIDDEN,
                "this address lacks the right token; open the one that rb labels review printed",
            )

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        nonce = f"'nonce-{self.server.nonce}'"
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(content))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            (
                "Content-Security-Policy",
                f"default-src 'none'; script-src {nonce}; style-src {nonce}; connect-src 'self'; "
                "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            ),
        ):
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)


def _json(value: Any) -> tuple[str, bytes]:
    return "application/json", json.dumps(value, allow_nan=False).encode()
