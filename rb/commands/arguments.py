"""Arguments that several commands take, and types of them; what these refuse, argparse tells."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from rb.errors import UserError


def add_runs(parser: argparse.ArgumentParser) -> None:
    """Where the runs are that a command is given by name."""
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="where the runs are (mlruns)")


def add_target(parser: argparse.ArgumentParser, default: str) -> None:
    """A file that a command makes; see `rb.io.files.check_target`."""
    parser.add_argument(
        "--out", type=Path, default=Path(default), metavar="FILE", help=f"({default})"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")


def keep_apart(written: Mapping[str, Path | None], *read: str | Path | None) -> None:
    """Refuse to write over a file that is read, or two things to one file.

    Parameters
    ----------
    written : mapping of str to Path
        Files by the option that names them.
    *read : str or Path
        Files that are read; what is no file counts as none.

    Raises
    ------
    UserError
        Naming the option.
    """
    taken = {os.path.realpath(one): "is read" for one in read if one and os.path.isfile(one)}
    for option, file in written.items():
        if file is not None:
            place = os.path.realpath(file)
            if place in taken:
                raise UserError(f"{option} {file}: that file {taken[place]}; choose another name")
            taken[place] = f"is what {option} writes"


def whole(text: str) -> int:
    """A whole number of at least 0."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number")
    return value


def positive(text: str) -> int:
    """A whole number of at least 1."""
    value = whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 1")
    return value


def amount(unit: str) -> Callable[[str], float]:
    """Type of a number above 0 of `unit`, such as seconds."""

    def parsed(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0 < value < 1e6:
            raise argparse.ArgumentTypeError(f"'{text}' is not a number of {unit}")
        return value

    return parsed


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a share from 0 to 1")
    return value


def port(text: str) -> int:
    """Number of a TCP port."""
    value = whole(text)
    if value > 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port; give 1024 to 65535")
    return value


def workers(text: str) -> str:
    """A number of processes, or the address of a scheduler."""
    if "://" in text:
        return text
    try:
        return str(positive(text))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"'{text}' is neither a number of processes nor an address like tcp://HOST:PORT"
        ) from None
