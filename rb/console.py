"""The terminal: one width and style for everything that is printed."""

from __future__ import annotations

from rich.console import Console

_PLAIN_WIDTH = 100  # of tables where the output is a file or a batch system's log


def make_console() -> Console:
    """A console that leaves the wrapping of sentences to the terminal."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    return console
