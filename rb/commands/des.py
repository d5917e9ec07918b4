"""`rb des download`: fetch the DES autoscan archive."""

from __future__ import annotations

import argparse
from pathlib import Path

from rb.commands import Command
from rb.commands.arguments import amount, positive, whole

_URL = "http://portal.nersc.gov/project/dessn/autoscan/stamps/"


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="where the files go; made if need be")
    parser.add_argument("--base-url", default=_URL, metavar="URL", help=f"({_URL})")
    parser.add_argument(
        "--shards",
        default="0-10",
        metavar="LIST",
        help="which of the shards, e.g. 0,3-5; none for the table alone (0-10)",
    )
    parser.add_argument("--no-table", action="store_true", help="leave the feature table out")
    parser.add_argument("--parallel", type=positive, default=3, help="files at a time (3)")
    parser.add_argument("--retries", type=whole, default=8, help="attempts after a failure (8)")
    parser.add_argument(
        "--timeout", type=amount("seconds"), default=60.0, help="seconds of silence (60)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def _download(arguments: argparse.Namespace) -> int:
    from rb.sources.des.download import Downloader, des_files

    files = des_files(arguments.base_url, arguments.shards, table=not arguments.no_table)
    downloader = Downloader(
        arguments.folder,
        parallel=arguments.parallel,
        retries=arguments.retries,
        timeout=arguments.timeout,
        progress=not arguments.quiet,
    )
    for line in downloader.fetch(files):
        print(line)
    return 0


COMMANDS = (
    Command(
        ("des", "download"),
        "fetch the DES autoscan archive (more than 60 GB), or verify it",
        _add_arguments,
        _download,
        family="the DES autoscan archive",
    ),
)
