"""The command `rb`: what is not training or evaluating.

Subcommands register themselves in `COMMANDS`: a name of one or two words, a line of help, a
function that adds arguments and one that runs. Nothing heavy is imported before a command
runs, so that ``rb --help`` answers at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rb.errors import UserError


@dataclass(frozen=True)
class Command:
    """One subcommand.

    Attributes
    ----------
    words : tuple of str
        What is typed: ``("show",)`` or ``("des", "download")``.
    help : str
        One line.
    arguments : callable
        Adds its options to a parser.
    run : callable
        Does it; returns the exit code.
    """

    words: tuple[str, ...]
    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


# --- rb show ---------------------------------------------------------------------------


def _show_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("set", type=Path, help="folder of the stamp set")
    parser.add_argument(
        "--out", type=Path, metavar="PAGE", help="also draw example stamps (.png, .pdf, .svg)"
    )
    parser.add_argument("--stamps", type=_positive, default=24, help="how many to draw (24)")
    parser.add_argument("--seed", type=int, default=0, help="which ones (0)")
    parser.add_argument("--verify", action="store_true", help="compare content and digest")


def _show(told: argparse.Namespace) -> int:
    from rb.stamps.stampset import StampSet

    stamps = StampSet.open(told.set)
    if told.verify:
        stamps.verify()
    print(stamps)
    if told.out is not None:
        from rb.commands.show import draw_examples

        draw_examples(stamps, told.out, told.stamps, told.seed)
        print(f"  examples  {told.out}")
    return 0


# --- rb des download -------------------------------------------------------------------

_DES_URL = "http://portal.nersc.gov/project/dessn/autoscan/stamps/"


def _download_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="where the files go; made if need be")
    parser.add_argument("--base-url", default=_DES_URL, metavar="URL", help=f"({_DES_URL})")
    parser.add_argument(
        "--shards",
        default="0-10",
        metavar="LIST",
        help="which of the shards, e.g. 0,3-5; none for the table alone (0-10)",
    )
    parser.add_argument("--no-table", action="store_true", help="leave the feature table out")
    parser.add_argument("--parallel", type=_positive, default=3, help="files at a time (3)")
    parser.add_argument("--retries", type=_whole, default=8, help="attempts after a failure (8)")
    parser.add_argument("--timeout", type=_seconds, default=60.0, help="seconds of silence (60)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def _download(told: argparse.Namespace) -> int:
    from rb.sources.des.download import Downloader, des_files

    files = des_files(told.base_url, told.shards, table=not told.no_table)
    downloader = Downloader(
        told.folder,
        parallel=told.parallel,
        retries=told.retries,
        timeout=told.timeout,
        progress=not told.quiet,
    )
    for line in downloader.fetch(files):
        print(line)
    return 0


# --- rb labels -------------------------------------------------------------------------


def _review_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("suspects", type=Path, help="table of python evaluate.py study=labels")
    parser.add_argument(
        "--out", type=Path, default=Path("review"), metavar="FOLDER", help="for verdicts (review)"
    )
    parser.add_argument(
        "--set", type=Path, metavar="FOLDER", help="the stamp set (the one the table names)"
    )
    parser.add_argument("--inspector", metavar="NAME", help="only this one (ask in the page)")
    parser.add_argument("--top", type=_positive, metavar="N", help="only the first N suspects")
    parser.add_argument(
        "--given", choices=("real", "bogus"), help="only candidates labelled so, e.g. bogus"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--all", action="store_true", help="all ranked candidates, not suspects only"
    )
    which.add_argument(
        "--random",
        type=_positive,
        metavar="N",
        help="N candidates at random instead of suspects, to measure the share of wrong labels",
    )
    parser.add_argument("--seed", type=_whole, default=0, help="of --random (0)")
    parser.add_argument(
        "--facts", metavar="A,B", help="columns of the catalogue to show (magnitude, SNR, band, …)"
    )
    parser.add_argument("--port", type=_port, help="port on this machine (8642 or one of the next)")


def _review(told: argparse.Namespace) -> int:
    from rb.commands.labels import review
    from rb.labels.review import Choice, Review

    given = None if told.given is None else ("real", "bogus").index(told.given)
    session = Review(
        told.suspects,
        told.out,
        stamps=told.set,
        choice=Choice(told.top, told.all, given, told.random, told.seed),
        inspector=told.inspector,
        facts=None if told.facts is None else [f.strip() for f in told.facts.split(",")],
    )
    review(session, told.port)
    return 0


def _merge_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="folder of rb labels review")
    parser.add_argument(
        "--out", type=Path, default=Path("verdicts.parquet"), metavar="TABLE",
        help="table to write, .parquet or .csv (verdicts.parquet)",
    )  # fmt: skip
    parser.add_argument(
        "--at-least", type=_positive, default=1, metavar="N",
        help="no verdict on candidates that fewer inspectors looked at (1)",
    )  # fmt: skip
    parser.add_argument(
        "--unanimous", action="store_true", help="no verdict where some say real and some bogus"
    )


def _merge(told: argparse.Namespace) -> int:
    from rb.commands.labels import merge

    merge(told.folder, told.out, told.at_least, told.unanimous)
    return 0


def _port(text: str) -> int:
    value = _whole(text)
    if value > 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port; give 1024 to 65535")
    return value


def _positive(text: str) -> int:
    value = _whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 1")
    return value


def _whole(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds")
    return value


COMMANDS = [
    Command(("show",), "describe a stamp set, draw examples of it", _show_arguments, _show),
    Command(
        ("des", "download"),
        "fetch the DES autoscan archive (more than 60 GB), or verify it",
        _download_arguments,
        _download,
    ),
    Command(
        ("labels", "review"),
        "look at suspicious labels in a browser and judge them",
        _review_arguments,
        _review,
    ),
    Command(
        ("labels", "merge"),
        "combine the verdicts of several inspectors into a table for data.labels",
        _merge_arguments,
        _merge,
    ),
]
_FAMILIES = {
    "des": "the DES autoscan archive",
    "labels": "wrong labels: look at suspects, combine verdicts (docs/labels.md)",
}


def build_parser() -> argparse.ArgumentParser:
    """Parser with all `COMMANDS`."""
    parser = argparse.ArgumentParser(
        prog="rb",
        description="Real/bogus classification: stamp sets and their sources. "
        "Training and evaluation are `python train.py` and `python evaluate.py`.",
    )
    parser.add_argument("--version", action="version", version=_version())
    top = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    families: dict[str, argparse._SubParsersAction[argparse.ArgumentParser]] = {}
    for command in COMMANDS:
        *family, word = command.words
        place = top
        if family:
            name = family[0]
            if name not in families:
                group = top.add_parser(name, help=_FAMILIES[name], description=_FAMILIES[name])
                families[name] = group.add_subparsers(
                    title="commands", metavar="COMMAND", required=True
                )
            place = families[name]
        sub = place.add_parser(word, help=command.help, description=command.help)
        command.arguments(sub)
        sub.set_defaults(run=command.run)
    return parser


def _version() -> str:
    import rb

    return f"rb {rb.__version__}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `rb`; the exit code is 0, 2 for a user's mistake, 130 after Ctrl-C."""
    told = build_parser().parse_args(arguments)
    try:
        return told.run(told)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
