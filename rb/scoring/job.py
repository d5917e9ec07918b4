"""A score table in the making: parts that are kept, joined when all are there.

A job works in a hidden folder beside its output. What it keeps there is on the disk before it goes
on, so that the same job, started again after any end, goes on behind the last part; the output
appears by one rename.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rb.errors import UserError
from rb.io.files import aside, check_target
from rb.io.locks import locked
from rb.io.progress import bar
from rb.io.tables import DamagedTable, schema_of, whole
from rb.io.workers import ahead
from rb.scoring.candidates import Source
from rb.scoring.load import engine_of
from rb.scoring.table import ScoreTable, count_tags

if TYPE_CHECKING:
    import pyarrow as pa

METADATA = b"rb"
"""Key of the table's metadata that says what made it, as JSON."""

_PART_ROWS = 32_768
_PART_S = 30.0
_SUFFIXES = (".parquet", ".csv")


@dataclass
class Summary:
    """What a job has done.

    Parameters
    ----------
    rows, real, bogus : int
        Candidates, and those with either decision; the rest has no `p_real`.
    tags : Counter
        How often each tag occurs.
    kept : int
        Rows that an earlier attempt had made.
    seconds : float
        Of this attempt.
    engine : str
        What predicted; empty where there was nothing left to predict.
    """

    rows: int = 0
    real: int = 0
    bogus: int = 0
    tags: Counter[str] = field(default_factory=Counter)
    kept: int = 0
    seconds: float = 0.0
    engine: str = ""

    def add(self, table: pa.Table) -> None:
        """Count the rows of a part."""
        decisions = {e["values"]: e["counts"] for e in table["decision"].value_counts().to_pylist()}
        self.rows += len(table)
        self.real += decisions.get("real", 0)
        self.bogus += decisions.get("bogus", 0)
        self.tags += count_tags(table)

    def __str__(self) -> str:
        new = self.rows - self.kept
        rate = f" in {self.seconds:.1f} s ({new / max(self.seconds, 1e-3):,.0f}/s)" if new else ""
        kept = f", {self.kept:,} of them before" if self.kept else ""
        engine = f" by {self.engine}" if self.engine else ""
        tags = ", ".join(f"{n:,} {tag}" for tag, n in self.tags.most_common())
        return (
            f"{self.rows:,} candidates{kept}{rate}{engine}: {self.real:,} real, {self.bogus:,} "
            f"bogus, {self.rows - self.real - self.bogus:,} without p_real"
            + (f"; tagged: {tags}" if tags else "")
        )


class ScoreJob:
    """Score a source into a file.

    Parameters
    ----------
    table : ScoreTable
        Makes the rows.
    source : Source
        The candidates.
    out : Path
        ``.parquet`` or ``.csv``; beside the latter a ``.json`` says what made it.
    about : dict
        What decides the rows, in types of JSON; with the digests it tells one job from another.
    cluster : callable, optional
        Has pieces of the source scored elsewhere: takes them, yields number and rows of each.
    """

    def __init__(
        self,
        table: ScoreTable,
        source: Source,
        out: Path,
        about: dict[str, Any],
        cluster: Callable[[Sequence[Any]], Iterator[tuple[int, pa.Table | None]]] | None = None,
    ) -> None:
        self._table, self._source, self._out = table, source, out
        self._cluster = cluster
        self._about = about | table.about | {"data_digest": source.digest}
        identity = json.dumps(self._about, sort_keys=True).encode()
        self._about["job"] = hashlib.sha256(identity).hexdigest()
        self._work = out.with_name(f".{out.name}.partial")

    def run(self, overwrite: bool = False, progress: bool = True) -> Summary:
        """Do what is left of the job.

        Raises
        ------
        UserError
            If the output exists and is not this job's, or another process is at it.
        """
        lock = self._out.with_name(f".{self._out.name}.lock")
        with locked(lock, refusal=f"{self._out}: another process is writing it"):
            finished = self._finished(overwrite)
            try:
                if finished:
                    return self._counted()
                self._begin(overwrite)
                summary = self._score(progress) if self._cluster is None else self._gather(progress)
                self._join()
            except UserError:
                if not self._part(0).exists():  # the next attempt would end the same way
                    shutil.rmtree(self._work, ignore_errors=True)
                raise
            except DamagedTable as error:
                raise UserError(f"{error}; make the table anew with --overwrite") from error
            except OSError as error:
                raise UserError(
                    f"{error.filename or self._out}: {error.strerror or error}; run the same "
                    "command again to go on where it stopped"
                ) from error
            shutil.rmtree(self._work, ignore_errors=True)
            return summary

    def _finished(self, overwrite: bool) -> bool:
        if overwrite or self._begun() or not self._out.exists():
            return False
        if made_by(self._out).get("job") != self._about["job"]:
            raise UserError(
                f"{self._out}: exists already and is of another job; choose another name or "
                "--overwrite"
            )
        return True

    def _counted(self) -> Summary:
        summary = Summary()
        for part in read_scores(self._out):
            summary.add(part)
        summary.kept = summary.rows
        return summary

    def _begun(self) -> bool:
        """Whether an earlier attempt at this job has left parts."""
        file = self._work / "job.json"
        return file.exists() and json.loads(file.read_text())["job"] == self._about["job"]

    def _begin(self, overwrite: bool) -> None:
        if self._begun():
            return
        file = self._work / "job.json"
        if file.exists() and not overwrite:
            raise UserError(
                f"{self._out}: {self._work} holds an unfinished table of another job; finish it "
                "with its command, choose another name, or --overwrite"
            )
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir(parents=True)
        with aside(file) as temporary:
            temporary.write_text(json.dumps(self._about))

    def _score(self, progress: bool) -> Summary:
        summary, position, number = Summary(), None, 0
        for part in self._parts():
            summary.add(part)
            position = json.loads(part.schema.metadata[b"position"])
            number += 1
        summary.kept = summary.rows
        started = last = time.monotonic()
        done, source = [], self._source
        what = self._table.scorer.provenance.name
        with bar(progress, f"scoring with {what}", source.total, source.unit) as step:
            step.at(source.done(position))
            for chunk in ahead(source.chunks(position, self._work)):
                done.append(self._table.rows(chunk))
                position = chunk.position
                now = time.monotonic()
                if sum(map(len, done)) >= _PART_ROWS or now - last > _PART_S:
                    summary.add(self._keep(number, done, position))
                    number, done, last = number + 1, [], now
                step.at(source.done(position), f"{summary.rows + sum(map(len, done)):,} rows")
        if done:
            summary.add(self._keep(number, done, position))
        summary.seconds = time.monotonic() - started
        summary.engine = engine_of(self._table.scorer) if summary.rows > summary.kept else ""
        return summary

    def _gather(self, progress: bool) -> Summary:
        """The same with the rows of pieces as others score them."""
        summary, source = Summary(), self._source
        pieces = dict(enumerate(source.pieces()))
        number = 0
        for part in self._parts():
            summary.add(part)
            pieces.pop(json.loads(part.schema.metadata[b"position"]), None)
            number += 1
        summary.kept, started = summary.rows, time.monotonic()
        places = list(pieces)
        assert self._cluster is not None
        with bar(progress, "scoring", len(places), "pieces") as step:
            found = self._cluster([pieces[place] for place in places])
            for done, (item, table) in enumerate(found, 1):
                if table is not None:
                    summary.add(self._keep(number, [table], places[item]))
                    number += 1
                step.at(done, f"{summary.rows:,} rows")
        summary.seconds = time.monotonic() - started
        return summary

    def _keep(self, number: int, tables: list[pa.Table], position: Any) -> pa.Table:
        """Write a part; it is on the disk when this returns."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        part = pa.concat_tables(tables).replace_schema_metadata(
            {b"position": json.dumps(position).encode()}
        )
        with aside(self._part(number)) as temporary:
            pq.write_table(part, temporary, write_page_checksum=True)
        return part

    def _part(self, number: int) -> Path:
        return self._work / f"part-{number:06d}.parquet"

    def _parts(self, in_order: bool = False) -> Iterator[pa.Table]:
        """What was kept, as it came; or in the order of the source."""
        import pyarrow.parquet as pq

        files: list[Path] = []
        while (file := self._part(len(files))).exists():
            files.append(file)
        if in_order and self._cluster is not None:
            files.sort(key=lambda file: json.loads(pq.read_schema(file).metadata[b"position"]))
        for file in files:
            with whole(file):
                part = pq.read_table(file, page_checksum_verification=True)
            yield part

    def _join(self) -> None:
        """Make the output of the parts, one at a time."""
        import pyarrow.csv
        import pyarrow.parquet as pq

        with aside(self._out) as temporary:
            writer = None
            for part in self._parts(in_order=True):
                if writer is None:
                    schema = part.schema.with_metadata({METADATA: json.dumps(self._about)})
                    if self._out.suffix == ".csv":
                        writer = pyarrow.csv.CSVWriter(str(temporary), schema)
                    else:
                        writer = pq.ParquetWriter(temporary, schema, write_page_checksum=True)
                writer.write_table(part.cast(schema))
            if writer is None:
                raise UserError(f"{self._out}: there were no candidates, so nothing was written")
            writer.close()
            if self._out.suffix == ".csv":
                with aside(_sidecar(self._out)) as text:
                    text.write_text(json.dumps(self._about, indent=1))
        folder = os.open(self._out.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the rename, too
        finally:
            os.close(folder)


def check_output(out: Path, embedding: bool) -> None:
    """Refuse a name that no table can be written under."""
    check_target(out, _SUFFIXES)
    if embedding and out.suffix == ".csv":
        raise UserError(
            f"{out}: embeddings do not fit into CSV; give the table the ending .parquet"
        )


def made_by(out: Path) -> dict[str, Any]:
    """What a table says of the job that made it; nothing if it is none of ours."""
    try:
        if out.suffix == ".csv":
            found = json.loads(_sidecar(out).read_text())
        else:
            found = json.loads((schema_of(out).metadata or {})[METADATA])
    except (OSError, ValueError, KeyError):
        return {}
    return found if isinstance(found, dict) else {}


def read_scores(out: Path) -> Iterator[pa.Table]:
    """The rows of a finished table, piece by piece."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    with whole(out):
        if out.suffix == ".csv":
            batches = iter(pyarrow.csv.open_csv(out))
        else:
            batches = pq.ParquetFile(out, page_checksum_verification=True).iter_batches()
        for batch in batches:
            yield pa.Table.from_batches([batch])


def _sidecar(out: Path) -> Path:
    return out.with_suffix(".csv.json")
