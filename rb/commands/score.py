"""`rb score`: say `p_real` of every candidate, in a table."""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rb.commands import Command
from rb.commands.arguments import add_runs, amount, keep_apart, positive, share, workers
from rb.errors import UserError

if TYPE_CHECKING:
    from rb.scoring.table import ScoreTable


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        metavar="DATA",
        help="stamp set, .npy stack (N, 3, S, S), alerts (Avro, Parquet, HATS), DES tars or trees, "
        "or kafka://HOST:PORT/TOPIC",
    )
    parser.add_argument(
        "--model", required=True, metavar="NAME", help="file of a model, or ID or name of a run"
    )
    parser.add_argument(
        "--out", default="scores.parquet", metavar="TABLE",
        help=".parquet or .csv (scores.parquet); of a stream a folder, or kafka://HOST:PORT/TOPIC",
    )  # fmt: skip
    add_runs(parser)
    parser.add_argument(
        "--embeddings", action="store_true", help="also the network's last hidden layer"
    )
    parser.add_argument(
        "--reference", type=Path, metavar="FILE",
        help="examples from `rb reference`: say how unlike them each candidate is, and the nearest",
    )  # fmt: skip
    parser.add_argument(
        "--max-nan", type=share, default=0.2, metavar="SHARE",
        help="tag candidates that lack more of an image's pixels (0.2)",
    )  # fmt: skip
    parser.add_argument(
        "--pixel-scale", type=amount("arcsec"), metavar="ARCSEC",
        help="resample alerts to this many arcsec per pixel (as they come)",
    )  # fmt: skip
    parser.add_argument("--threads", type=positive, metavar="N", help="of the engine (all cores)")
    parser.add_argument(
        "--dask", type=workers, metavar="WHERE",
        help="score by so many processes, or by the workers of a scheduler, tcp://HOST:PORT",
    )  # fmt: skip
    parser.add_argument(
        "--batch", type=positive, default=1024, metavar="N", help="candidates read at once (1024)"
    )
    stream = parser.add_argument_group("of streams")
    stream.add_argument(
        "--group", default="rb-score", metavar="NAME",
        help="consumer group: processes of one share the partitions (rb-score)",
    )  # fmt: skip
    stream.add_argument(
        "--latency", type=amount("seconds"), default=2.0, metavar="S",
        help="longest time that an alert waits for others of its batch (2)",
    )  # fmt: skip
    stream.add_argument(
        "--idle",
        type=amount("seconds"),
        metavar="S",
        help="end after so long without an alert (never)",
    )
    stream.add_argument(
        "--kafka", action="append", default=[], metavar="KEY=VALUE",
        help="setting of librdkafka, such as security.protocol=SASL_SSL; any number of times",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace a table of another job")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _score(arguments: argparse.Namespace) -> int:
    from rb.scoring.cluster import Cluster, Work, score_piece
    from rb.scoring.job import ScoreJob, check_output

    if arguments.threads:
        # What PyTorch and our engines go by; before the first of them is imported.
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    stream = arguments.data.startswith("kafka://")
    if not stream:
        check_output(Path(arguments.out), arguments.embeddings)
        read = (arguments.data, arguments.model, arguments.reference)
        keep_apart({"--out": Path(arguments.out)}, *read)
    import rb

    work = Work(
        rb.load,
        str(Path(arguments.data).absolute()),
        _absolute(arguments.model),
        arguments.runs and str(arguments.runs.absolute()),
        arguments.max_nan,
        arguments.embeddings,
        arguments.batch,
        arguments.pixel_scale,
        arguments.reference and str(arguments.reference.absolute()),
    )
    table = work.table()
    if stream:
        return _stream(arguments, table)
    source = work.source(table)
    about = {"data": str(Path(arguments.data).resolve()), "pixel_scale": arguments.pixel_scale}
    cluster = None
    if arguments.dask:
        about["by"] = "pieces"  # parts of one process are others
        share = partial(score_piece, work, table.about, source.digest)
        cluster = partial(Cluster(arguments.dask).map, share)
    job = ScoreJob(table, source, Path(arguments.out), about, cluster)
    summary = job.run(arguments.overwrite, progress=not arguments.quiet)
    print(f"{arguments.out}: {summary}")
    return 0


def _absolute(model: str) -> str:
    """A file by a path that holds in other processes; names of runs and models as they are."""
    return str(Path(model).absolute()) if Path(model).is_file() else model


def _stream(arguments: argparse.Namespace, table: ScoreTable) -> int:
    from rb.scoring.alerts import alert_settings
    from rb.scoring.kafka import ParquetOutput, Stream, StreamSettings, Topic, TopicOutput

    topic = Topic.parse(arguments.data)
    client = dict(pair.split("=", 1) for pair in arguments.kafka if "=" in pair)
    if len(client) < len(arguments.kafka):
        raise UserError("--kafka: give KEY=VALUE")
    settings = StreamSettings(
        arguments.group, arguments.batch, arguments.latency, arguments.idle, client
    )
    output: ParquetOutput | TopicOutput
    if arguments.out.startswith("kafka://"):
        output = TopicOutput(Topic.parse(arguments.out), topic, settings)
    else:
        output = ParquetOutput(Path(arguments.out), topic, table.about | {"topic": topic.name})
    alerts = alert_settings(Path(), table.scorer.inputs, arguments.pixel_scale)
    rows = Stream(topic, table, alerts, output, settings).run(progress=not arguments.quiet)
    print(f"{arguments.out}: {rows:,} candidates by {table.scorer.provenance.name}")
    return 0


COMMANDS = (
    Command(
        ("score",),
        "say p_real of every candidate, in a table",
        _add_arguments,
        _score,
    ),
)
