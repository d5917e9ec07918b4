"""Types of arguments that several commands take; what they refuse, argparse tells the user."""

from __future__ import annotations

import argparse
from collections.abc import Callable


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
