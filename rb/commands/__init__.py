"""What each command does: one module a command, with its arguments, its help and its work.

`train` and `evaluate` stand behind ``train.py`` and ``evaluate.py``; the others are subcommands
of ``rb``, each a `Command` in its module's ``COMMANDS``. Nothing heavy is imported before a
command runs, so that help answers at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One subcommand of ``rb``.

    Parameters
    ----------
    words : tuple of str
        What is typed: ``("show",)`` or ``("des", "download")``.
    help : str
        One line.
    add_arguments : callable
        Adds its options to a parser.
    run : callable
        Does it; returns the exit code.
    family : str
        One line on the first word, where there are two.
    """

    words: tuple[str, ...]
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    family: str = ""
