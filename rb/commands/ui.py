"""`rb ui`: MLflow's page, opened at the trainings side by side."""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rb.commands import Command
from rb.commands.arguments import add_runs, port
from rb.errors import UserError
from rb.interrupts import Interrupted, listen

_PATIENCE_S = 120.0


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    parser.add_argument("--experiment", default="rb", metavar="NAME", help="of MLflow (rb)")
    parser.add_argument(
        "--port", type=port, default=5000, metavar="N", help="on this machine (5000)"
    )
    parser.add_argument("--no-browser", action="store_true", help="only say where the page is")


def _ui(arguments: argparse.Namespace) -> int:
    from rb.config import project_root
    from rb.tracking.database import address, database_file

    folder = (arguments.runs or project_root() / "mlruns").absolute()
    server = os.environ.get("MLFLOW_TRACKING_URI", "")
    if server.startswith(("http://", "https://")):
        _show(arguments, folder, server)
        return 0
    if not server and not database_file(folder).is_file():
        raise UserError(f"{folder}: nothing was trained there yet; run make demo, or give --runs")
    if _is_taken(arguments.port):
        raise UserError(f"--port: {arguments.port} is in use; give another one")
    page = f"http://127.0.0.1:{arguments.port}"
    print("starting MLflow …", file=sys.stderr)
    listen()  # or SIGTERM would leave the server behind, and Ctrl-C be ignored by some shells' jobs
    with tempfile.TemporaryFile(mode="w+", errors="replace") as said:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"),
                *("--port", str(arguments.port), "--workers", "1"),
                *("--backend-store-uri", server or address(folder)),
            ],
            # Its page for chats needs workers of its own, which start longer than all the rest.
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        try:
            _show(arguments, folder, page, _Server(process, said))
            print("Ctrl-C ends it", flush=True)
            process.wait()
        except Interrupted:
            pass
        finally:
            process.terminate()
            process.wait()
    return 0


def _show(
    arguments: argparse.Namespace,
    folder: Path,
    page: str,
    server: _Server | None = None,
) -> None:
    """Prepare the view, wait for the page, and say where it is."""
    from rb.tracking import Tracking
    from rb.tracking.view import view_address

    tracking = Tracking(None, folder, arguments.experiment, create=False)
    if server is not None:
        server.wait_for(page)
    link = view_address(page, tracking.experiment_id)
    print(f"the trainings side by side: {link}")
    print(f"their charts: {view_address(page, tracking.experiment_id, charts=True)}", flush=True)
    on_desktop = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if on_desktop and not arguments.no_browser:
        import webbrowser

        webbrowser.open(link)


@dataclass(frozen=True)
class _Server:
    process: subprocess.Popen[bytes]
    said: IO[str]

    def wait_for(self, page: str) -> None:
        """Until it answers; UserError if it ends before, or never does."""
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            if self.process.poll() is not None:
                self.said.seek(0)
                lines = self.said.read().strip().splitlines()
                raise UserError(
                    f"MLflow did not start ({lines[-1] if lines else 'without a word'})"
                )
            try:
                urllib.request.urlopen(f"{page}/health", timeout=2).close()
                return
            except OSError:
                time.sleep(0.1)
        raise UserError(f"MLflow did not answer within {_PATIENCE_S:g} s")


def _is_taken(number: int) -> bool:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", number))
        except OSError:
            return True
    return False


COMMANDS = (Command(("ui",), "open MLflow's page on what was trained", _add_arguments, _ui),)
