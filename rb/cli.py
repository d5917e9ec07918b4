"""The command `rb`: what is not training or evaluating, gathered from `rb.commands`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rb.commands import des, export, labels, reference, scan, score, show, ui
from rb.errors import UserError
from rb.version import __version__

COMMANDS = (
    *show.COMMANDS,
    *ui.COMMANDS,
    *export.COMMANDS,
    *reference.COMMANDS,
    *scan.COMMANDS,
    *score.COMMANDS,
    *des.COMMANDS,
    *labels.COMMANDS,
)


def build_parser() -> argparse.ArgumentParser:
    """Parser with all `COMMANDS`."""
    parser = argparse.ArgumentParser(
        prog="rb",
        description="Real/bogus classification: stamp sets and their sources. "
        "Training and evaluation are `python train.py` and `python evaluate.py`.",
    )
    parser.add_argument("--version", action="version", version=f"rb {__version__}")
    top = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    families: dict[str, argparse._SubParsersAction[argparse.ArgumentParser]] = {}
    for command in COMMANDS:
        *family, word = command.words
        place = top
        if family:
            name = family[0]
            if name not in families:
                group = top.add_parser(name, help=command.family, description=command.family)
                families[name] = group.add_subparsers(
                    title="commands", metavar="COMMAND", required=True
                )
            place = families[name]
        sub = place.add_parser(word, help=command.help, description=command.help)
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Run `rb`; the exit code is 0, 2 for a user's mistake, 130 after Ctrl-C."""
    arguments = build_parser().parse_args(words)
    try:
        return arguments.run(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        return 130
