"""What inspectors said: a file for each, a line a verdict, written at once.

``verdicts-<name>.csv`` is only ever added to; of several verdicts on a candidate the last one
counts, so going back and deciding again is another line. A line that was cut short, because
the disk was full or the machine stopped, is left out.
"""

from __future__ import annotations

import csv
import io
import os
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from rb.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

VERDICTS = ("real", "bogus", "unsure")
COLUMNS = ("id", "verdict", "label", "shown", "stamp", "time")
"""``label`` is the one the candidate had, ``shown`` 1 if the inspector had it and p_real shown."""

_PREFIX, _SUFFIX = "verdicts-", ".csv"
_LONGEST_NAME, _LONGEST_FILE = 60, 200


def inspector_name(text: object) -> str:
    """A name as it is kept: without spaces around it, in Unicode's composed form.

    Raises
    ------
    UserError
        If it is empty, too long, or holds characters that cannot be seen.
    """
    name = unicodedata.normalize("NFC", text).strip() if isinstance(text, str) else ""
    if not name:
        raise UserError("the inspector has no name; give one")
    if not name.isprintable() or len(name) > _LONGEST_NAME or len(_quoted(name)) > _LONGEST_FILE:
        raise UserError(
            f"the inspector's name is longer than {_LONGEST_NAME} characters or holds some that "
            "cannot be printed; choose a shorter, plain one"
        )
    return name


def journal_path(folder: Path, inspector: str) -> Path:
    """The file of an inspector; names that differ have files that differ."""
    return folder / f"{_PREFIX}{_quoted(inspector_name(inspector))}{_SUFFIX}"


def append_verdict(
    folder: Path, inspector: str, *, id: str, verdict: str, label: int, shown: bool, stamp: str
) -> None:
    """Add a verdict to the inspector's file, on the disk when this returns.

    Raises
    ------
    UserError
        If there is no such verdict, or the file cannot be written.
    """
    if verdict not in VERDICTS:
        raise UserError(f"'{verdict}' is no verdict; say real, bogus or unsure")
    path = journal_path(folder, inspector)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    line = _line((id, verdict, label, int(shown), stamp, now))
    try:
        with path.open("ab") as file:
            if file.tell() == 0:
                line = _line(COLUMNS) + line
            elif not _ends_with_newline(path):
                line = b"\n" + line  # so that a line cut short does not spoil this one
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(f"{path}: the verdict cannot be written ({error.strerror})") from error


def read_journal(path: Path) -> pd.DataFrame:
    """The last verdict on each candidate: `COLUMNS` as text, ``label`` and ``shown`` as int.

    Raises
    ------
    UserError
        If the file cannot be read or is none of these.
    """
    import pandas as pd

    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    rows = list(csv.reader(io.StringIO(text)))
    if not rows or tuple(rows[0]) != COLUMNS:
        raise UserError(
            f"{path}: does not begin with the columns {','.join(COLUMNS)}; move it elsewhere"
        )
    whole = [row for row in rows[1:] if _is_whole(row)]
    table = pd.DataFrame(whole, columns=list(COLUMNS), dtype=object)
    table = table.drop_duplicates("id", keep="last", ignore_index=True)
    return table.astype({"label": "int8", "shown": "int8"})


def read_journals(folder: Path) -> dict[str, pd.DataFrame]:
    """All verdicts in a folder, by inspector; UserError if there are none."""
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; give the one of rb labels review")
    found = {}
    for path in sorted(folder.glob(f"{_PREFIX}*{_SUFFIX}")):
        name = unquote(path.name.removeprefix(_PREFIX).removesuffix(_SUFFIX))
        table = read_journal(path)
        if len(table):
            found[name] = table
    if not found:
        raise UserError(f"{folder}: holds no verdicts; begin with rb labels review")
    return found


def _quoted(name: str) -> str:
    # quote leaves no character that a file system could take for a path.
    return quote(name, safe=" ")


def _line(values: tuple[object, ...]) -> bytes:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow(values)
    return stream.getvalue().encode()


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _is_whole(row: list[str]) -> bool:
    return (
        len(row) == len(COLUMNS)
        and row[1] in VERDICTS
        and row[2] in ("0", "1", "-1")
        and row[3] in ("0", "1")
        and len(row[5]) == len("2000-01-01T00:00:00+00:00")
    )
