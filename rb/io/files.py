"""Files that appear whole or not at all."""

from __future__ import annotations

import re
import uuid
from contextlib import suppress
from pathlib import Path

from rb.errors import UserError


def write_whole(path: Path, content: bytes, what: str) -> None:
    """Write `content` under a temporary name and rename it; missing folders are made.

    Parameters
    ----------
    path
        The file.
    what
        What it is, for the message: "the report".

    Raises
    ------
    UserError
        If the file cannot be written; nothing is left of it then.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path}: {what} cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def safe_name(text: str, longest: int = 100) -> str:
    """`text` as part of a file's name or an address: letters, digits, ``-``, ``_`` and ``.``."""
    name = re.sub(r"[^\w.-]", "_", text, flags=re.ASCII)[:longest]
    return name.lstrip(".") or "_"
