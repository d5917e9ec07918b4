"""What inspectors said: a file for each, a line a verdict, written at once.

``verdicts-<name>.csv`` is only ever added to; of several verdicts on a candidate the last one
counts, so going back and deciding again is another line. A last line that was cut short, because
the disk was full or the machine stopped, is left out; any other line that cannot be read is an
error. A journal may have been through a spreadsheet: a byte-order mark, semicolons and times in
another form are understood, identifiers that were rounded are refused.

Verdicts that were collected elsewhere come as one table, a row a vote (`read_votes`).
"""

from __future__ import annotations

import csv
import io
import os
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote, unquote

from rb.errors import UserError
from rb.stamps.label_table import lost_digits, read_rows
from rb.stamps.layout import boolean_row

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
                line = _end_last_line(path, file) + line
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
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    header = next(iter(text.splitlines()), "")
    delimiter = max(",;\t", key=header.count)
    lines = csv.reader(io.StringIO(text), delimiter=delimiter)
    if tuple(next(lines, ())) != COLUMNS:
        raise UserError(
            f"{path}: does not begin with the columns {','.join(COLUMNS)}; move it elsewhere"
        )
    whole, wrong, cut = [], None, False
    for row in lines:
        if wrong is not None:
            raise UserError(f"{path}: {wrong}; put that line right or take it out")
        problem = _problem(row)
        if row and not problem:
            whole.append(row)
        elif row:
            wrong = f"line {lines.line_num} cannot be read ({problem})"
            cut = len(row) < len(COLUMNS) and not text.endswith("\n")
    if wrong is not None and not cut:
        raise UserError(f"{path}: {wrong}; put that line right or take it out")
    table = pd.DataFrame(whole, columns=list(COLUMNS), dtype=object)
    table = table.drop_duplicates("id", keep="last", ignore_index=True)
    return table.astype({"label": "int8", "shown": "int8"})


def read_votes(path: Path) -> dict[str, pd.DataFrame]:
    """Verdicts by inspector out of one table, parquet or CSV: ``id``, ``inspector``, ``verdict``.

    A verdict is real, bogus or unsure, or 0, 1 or null; the last one of an inspector on a candidate
    counts. ``label`` and ``stamp`` are taken where they are there.

    Raises
    ------
    UserError
        If it is no such table.
    """
    table = read_rows(path, "rb labels merge")
    for column in ("inspector", "verdict"):
        if column not in table:
            raise UserError(
                f"{path}: has no column '{column}'; a table of votes has id, inspector, verdict"
            )
    boolean = boolean_row(table["verdict"])  # true may mean that it is real, or bogus
    said = [_VOTES.get(_word(v)) for v in table["verdict"]]
    if boolean is not None or None in said:
        row = said.index(None) if boolean is None else boolean
        raise UserError(
            f"{path}: '{table['verdict'].iloc[row]}' of candidate {table['id'].iloc[row]} is no "
            "verdict; give real, bogus or unsure, or 0, 1 or nothing"
        )
    if table["inspector"].isna().any():
        row = int(table["inspector"].isna().to_numpy().argmax()) + 1
        raise UserError(f"{path}: has no inspector in row {row}")
    votes = _as_journal(table, said)
    return {
        inspector_name(str(name)): part.drop_duplicates("id", keep="last", ignore_index=True)
        for name, part in votes.groupby(table["inspector"].to_numpy(), sort=True)
    }


def _as_journal(table: pd.DataFrame, said: list[str | None]) -> pd.DataFrame:
    """Votes in the columns of a journal."""
    import pandas as pd

    label = pd.to_numeric(table["label"], errors="coerce") if "label" in table else None
    stamp = table["stamp"].astype(object).fillna("") if "stamp" in table else ""
    found = pd.DataFrame(
        {"id": table["id"], "verdict": said, "shown": 0, "stamp": stamp, "time": ""}
    )
    found["label"] = -1 if label is None else label.where(label.isin([0, 1]), -1).astype("int8")
    return found[list(COLUMNS)].astype({"label": "int8", "shown": "int8"})


def read_journals(folder: Path) -> dict[str, pd.DataFrame]:
    """All verdicts in a folder, or in a table of votes, by inspector; UserError if none."""
    if folder.is_file():
        return read_votes(folder)
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


def _end_last_line(path: Path, file: BinaryIO) -> bytes:
    """Take a last line that was cut short out of the journal, or give the end it lacks."""
    whole = path.read_bytes()
    start = whole.rfind(b"\n") + 1
    last = whole[start:].decode("utf-8", errors="replace")
    if not _problem(next(csv.reader([last]), [])):
        return b"\n"
    file.truncate(start)
    return b""


def _problem(row: list[str]) -> str:
    """What keeps a line from being a verdict; empty if nothing does."""
    if len(row) != len(COLUMNS):
        return f"{len(row)} columns instead of {len(COLUMNS)}"
    if not row[0]:
        return "no id"
    if lost_digits(row[0]):
        return f"id {row[0]} was rounded by a spreadsheet"
    if row[1] not in VERDICTS:
        return f"'{row[1][:20]}' is none of {', '.join(VERDICTS)}"
    if row[2] not in ("0", "1", "-1") or row[3] not in ("0", "1"):
        return f"label '{row[2][:20]}' or shown '{row[3][:20]}' is no such number"
    return ""


def _word(verdict: object) -> str:
    text = "" if verdict is None or verdict != verdict else str(verdict).strip().lower()
    return text.removesuffix(".0")


_VOTES = {v: v for v in VERDICTS} | {
    "0": "real", "1": "bogus", "-1": "unsure", "": "unsure", "<na>": "unsure", "nan": "unsure",
}  # fmt: skip
