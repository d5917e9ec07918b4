"""Where the scores of a stream go: a folder of Parquet files, or another topic."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rb.errors import UserError
from rb.io.files import aside
from rb.scoring.kafka.topics import (
    POLL_S,
    WAIT_S,
    StreamSettings,
    Topic,
    library,
    partitions_of,
    say,
)

if TYPE_CHECKING:
    import pyarrow as pa

SOURCE_HEADER = "rb-source"
"""Header of a message of the output: ``TOPIC:PARTITION:OFFSET:K:N``, it is the K-th row of the N
that the message there makes."""


_PART = re.compile(
    r"(?P<topic>.+)-(?P<partition>\d{4})-(?P<first>\d{15})-(?P<last>\d{15})\.parquet"
)
_JOB = "job.json"
_HELPERS = ("offset", "packet")


@dataclass(frozen=True)
class Done:
    """How far a partition is: the offset to go on at, and how many packets of it to leave out."""

    offset: int
    packets: int = 0


class Output(Protocol):
    """Where rows go. What `write` got is durable when it returns."""

    def done(self, partitions: list[int]) -> dict[int, Done]:
        """How much of each partition is in the output."""

    def write(self, partition: int, first: int, last: int, table: pa.Table) -> None:
        """Keep the rows of the alerts `first` to `last` of a partition."""


class ParquetOutput:
    """A folder of Parquet files, each named after the alerts it holds.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    topic : Topic
        Whose alerts they are.
    about : mapping
        What made the rows, in types of JSON; another job's folder is refused.
    """

    def __init__(self, folder: Path, topic: Topic, about: Mapping[str, Any]) -> None:
        self._folder, self._topic = folder, topic.name
        file = folder / _JOB
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if file.exists():
                if json.loads(file.read_text()) != dict(about):
                    raise UserError(f"{folder}: holds scores of another job; choose another folder")
            elif any(folder.iterdir()):
                raise UserError(f"{folder}: holds other files; choose another folder")
            else:
                with aside(file) as temporary:
                    temporary.write_text(json.dumps(about, indent=1))
        except (OSError, ValueError) as error:
            raise UserError(f"{folder}: no folder for scores ({error})") from error

    def done(self, partitions: list[int]) -> dict[int, Done]:
        """Told by the names of the files."""
        found: dict[int, int] = {}
        for file in self._folder.iterdir():
            match = _PART.fullmatch(file.name)
            if match and match["topic"] == self._topic:
                partition = int(match["partition"])
                found[partition] = max(found.get(partition, 0), int(match["last"]) + 1)
        return {p: Done(found[p]) for p in partitions if p in found}

    def write(self, partition: int, first: int, last: int, table: pa.Table) -> None:
        """Write a file; it is on the disk, under its name, when this returns."""
        import pyarrow.parquet as pq

        name = f"{self._topic}-{partition:04d}-{first:015d}-{last:015d}.parquet"
        with aside(self._folder / name) as temporary:
            pq.write_table(table.drop_columns("packet"), temporary)


class TopicOutput:
    """A topic of JSON messages, a row each; its key is the alert's identifier.

    The rows of a partition go to one partition of the output, in their order, so that the end of
    that one tells what is there already.

    Parameters
    ----------
    topic : Topic
        Of the output.
    source : Topic
        Of the alerts.
    settings : StreamSettings
        Those of the reader.
    """

    def __init__(self, topic: Topic, source: Topic, settings: StreamSettings) -> None:
        kafka = library()
        self._topic, self._source = topic, source
        self._settings = settings
        self._producer = kafka.Producer(
            settings.configuration(topic) | {"enable.idempotence": True, "linger.ms": 20}
        )
        self._n = len(partitions_of(self._producer, topic))

    def done(self, partitions: list[int]) -> dict[int, Done]:
        """Told by the last messages of the output."""
        kafka = library()
        consumer = kafka.Consumer(
            self._settings.configuration(self._topic)
            | {"group.id": f"{self._settings.group}-end", "enable.auto.commit": False}
        )
        found: dict[int, Done] = {}
        try:
            for target in {p % self._n for p in partitions}:
                wanted = {p for p in partitions if p % self._n == target}
                for partition, done in self._backwards(consumer, target):
                    if partition in wanted:
                        found.setdefault(partition, done)
                    if wanted <= found.keys():
                        break
        finally:
            consumer.close()
        return found

    def _backwards(self, consumer: Any, target: int) -> Iterator[tuple[int, Done]]:
        """What the messages of a partition say, the last one first."""
        kafka = library()
        place = kafka.TopicPartition(self._topic.name, target)
        low, end = consumer.get_watermark_offsets(place, timeout=WAIT_S)
        width = 64
        while end > low:
            start = max(low, end - width)
            consumer.assign([kafka.TopicPartition(self._topic.name, target, start)])
            told, at = [], start
            while at < end:
                message = consumer.poll(WAIT_S)
                if message is None or message.error():
                    why = "no answer" if message is None else message.error().str()
                    raise UserError(f"kafka://{self._topic.brokers}/{self._topic.name}: {why}")
                at = message.offset() + 1
                if message.offset() < end:
                    told += [_source_of(message, self._source.name)]
            yield from reversed([t for t in told if t is not None])
            end, width = start, width * 8

    def write(self, partition: int, first: int, last: int, table: pa.Table) -> None:
        """Send the rows; the broker has all of them when this returns."""
        failed: list[str] = []

        def sent(error: Any, message: Any) -> None:
            if error is not None:
                failed.append(str(error))

        columns = [name for name in table.column_names if name not in _HELPERS]
        rows = table.select(columns).to_pylist()
        offsets = table["offset"].to_pylist()
        for offset, of, row in zip(offsets, table["packet"].to_pylist(), rows, strict=True):
            source = f"{self._source.name}:{partition}:{offset}:{of}"
            while True:
                try:
                    self._producer.produce(
                        self._topic.name,
                        json.dumps(row),
                        key=row["id"],
                        partition=partition % self._n,
                        headers={SOURCE_HEADER: source},
                        on_delivery=sent,
                    )
                    break
                except BufferError:  # librdkafka's queue is full
                    self._producer.poll(POLL_S)
        while self._producer.flush(WAIT_S):
            say(f"waiting for {self._topic.brokers} to take {len(self._producer):,} rows")
        if failed:
            raise UserError(f"kafka://{self._topic.brokers}/{self._topic.name}: {failed[0]}")


def _source_of(message: Any, topic: str) -> tuple[int, Done] | None:
    """The source's partition, and how far it is with a message of the output."""
    for name, value in message.headers() or ():
        if name == SOURCE_HEADER and value:
            source, partition, offset, packets, of = value.decode().rsplit(":", 4)
            if source == topic:
                whole = packets == of
                return int(partition), Done(int(offset) + whole, 0 if whole else int(packets))
    return None
