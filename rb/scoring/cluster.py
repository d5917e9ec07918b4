"""Scoring by many processes or machines: pieces of a source, given out by Dask.

A piece is scored by whichever worker is free, and by another if that one dies; its rows come back
to the job, which keeps each piece once. Workers need `rb`, the data and the model under the same
paths.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rb.errors import UserError
from rb.io.workers import usable_cores

if TYPE_CHECKING:
    import pyarrow as pa

    from rb.models.contract import Scorer
    from rb.scoring.candidates import Source
    from rb.scoring.table import ScoreTable

_RETRIES = 3  # of a piece whose worker fails for reasons of its own
_WAIT_S = 15


@dataclass(frozen=True)
class Work:
    """What a worker is told: whatever it takes to make the same rows as everywhere.

    Parameters
    ----------
    load : callable
        `rb.load`, or what does as much.
    data, model : str
        As on the command line.
    runs : str, optional
        Folder of runs.
    max_nan : float
        See `ScoreTable`.
    embedding : bool
        See `ScoreTable`.
    batch : int
        Candidates that are read at once.
    pixel_scale : float, optional
        See `open_source`.
    reference : str, optional
        File of examples that candidates are held against.
    """

    load: Callable[[str, str | None], Scorer]
    data: str
    model: str
    runs: str | None = None
    max_nan: float = 0.2
    embedding: bool = False
    batch: int = 1024
    pixel_scale: float | None = None
    reference: str | None = None

    def table(self) -> ScoreTable:
        """What makes the rows."""
        from rb.scoring.load import model_digest
        from rb.scoring.table import ScoreTable
        from rb.uncertainty.strangeness import Reference

        scorer = self.load(self.model, self.runs)
        if (self.embedding or self.reference) and not hasattr(scorer, "run"):
            raise UserError(
                f"{scorer.provenance.name} has no embedding; leave --embeddings and --reference out"
            )
        reference = None if self.reference is None else Reference.load(Path(self.reference))
        digest = model_digest(scorer, self.model)
        return ScoreTable(scorer, digest, self.max_nan, self.embedding, reference)

    def source(self, table: ScoreTable) -> Source:
        """The candidates."""
        from rb.scoring.candidates import open_source

        return open_source(Path(self.data), table.scorer.inputs, self.batch, self.pixel_scale)


@lru_cache(maxsize=2)
def _opened(work: Work) -> tuple[ScoreTable, Source, str]:
    """The table, the candidates and their digest, once for all pieces of a job."""
    table = work.table()
    source = work.source(table)
    return table, source, source.digest


def score_piece(
    work: Work, about: Mapping[str, Any], digest: str, piece: Sequence[Any]
) -> pa.Table | None:
    """Rows of a piece of the source; None if there is no candidate in it.

    Parameters
    ----------
    work : Work
        The job.
    about : mapping
        `ScoreTable.about` of who asks.
    digest : str
        Of the data of who asks.
    piece : (start, stop)
        Positions of the source.

    Raises
    ------
    UserError
        If this worker has another model, other data, or another version of the code.
    """
    import pyarrow as pa

    table, source, own = _opened(work)
    different = [key for key, value in about.items() if table.about.get(key) != value]
    if different or own != digest:
        what = different[0].replace("_", " ") if different else "data"
        raise UserError(
            f"{os.uname().nodename}: this worker has another {what}; give all workers the same "
            "files under the same paths, and the same version of rb"
        )
    start, stop = piece
    with tempfile.TemporaryDirectory() as scratch:
        rows = [table.rows(chunk) for chunk in source.chunks(start, Path(scratch), stop)]
    return pa.concat_tables(rows) if rows else None


@dataclass(frozen=True)
class Cluster:
    """Workers of Dask: so many processes of this machine, or those of a scheduler.

    Parameters
    ----------
    where : str
        A number, or ``tcp://HOST:PORT``.
    """

    where: str

    def map(
        self, function: Callable[[Any], Any], items: Sequence[Any]
    ) -> Iterator[tuple[int, Any]]:
        """Yield number and result of each item, as they are ready.

        Raises
        ------
        UserError
            If no scheduler answers, or an item ends several workers.
        """
        with self._client() as client:
            from distributed import CancelledError, KilledWorker, as_completed
            from distributed.comm import CommClosedError

            numbers = {}
            for number, item in enumerate(items):
                numbers[client.submit(function, item, pure=False, retries=_RETRIES)] = number
            ready = as_completed(list(numbers))
            try:
                for future in ready:
                    yield numbers.pop(future), future.result()
                    future.release()
            except KilledWorker as error:
                raise UserError(
                    f"--dask: a piece has ended {_RETRIES + 1} workers; look at what they say "
                    f"({error})"
                ) from error
            except (CancelledError, CommClosedError) as error:
                raise UserError(
                    f"--dask: the scheduler {self.where} is gone; run the same command again to go "
                    "on where it stopped"
                ) from error

    @contextmanager
    def _client(self) -> Iterator[Any]:
        try:
            from distributed import Client, LocalCluster
        except ImportError:
            raise UserError(
                "--dask needs the package distributed; pip install 'rb[dask]'"
            ) from None
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        if not self.where.isdigit():
            try:
                client = Client(self.where, timeout=_WAIT_S)
            except (OSError, ValueError) as error:
                raise UserError(
                    f"--dask: no scheduler answers at {self.where}; start `dask scheduler` and "
                    "`dask worker`, or give a number of processes"
                ) from error
            with client:
                yield client
            return
        n = int(self.where)
        threads = str(max(1, usable_cores() // n))
        with (
            LocalCluster(
                n_workers=n,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address=None,
                env={"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads)},
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client
