"""Alerts of a Kafka topic, scored as they come: each of them once in the output.

What is in the output says how far each partition of the topic was scored, and the next attempt
goes on behind it; the group's offsets at the broker follow only after the output is durable. So an
end at any moment neither loses an alert nor writes it twice.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from rb.errors import UserError
from rb.interrupts import uninterrupted
from rb.io.files import aside
from rb.io.progress import bar
from rb.scoring.alerts import Gathered
from rb.scoring.table import ScoreTable, side_of
from rb.sources.alerts.packets import Packet, read_message

if TYPE_CHECKING:
    import pyarrow as pa

    from rb.sources.alerts.settings import AlertSettings

SCHEME = "kafka"
SOURCE_HEADER = "rb-source"
"""Header of a message of the output: ``TOPIC:PARTITION:OFFSET:K:N``, it is the K-th row of the N
that the message there makes."""

_PART = re.compile(
    r"(?P<topic>.+)-(?P<partition>\d{4})-(?P<first>\d{15})-(?P<last>\d{15})\.parquet"
)
_POLL_S = 0.1
_WAIT_S = 15.0  # until it is said that no broker answers; librdkafka goes on trying
_JOB = "job.json"
_HELPERS = ("offset", "packet")


@dataclass(frozen=True)
class Topic:
    """A topic and its brokers, from ``kafka://HOST:PORT[,HOST:PORT…]/TOPIC``."""

    brokers: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Topic:
        """UserError where `text` is no such address."""
        parts = urlsplit(text)
        name = parts.path.strip("/")
        if parts.scheme != SCHEME or not parts.netloc or not re.fullmatch(r"[\w.-]{1,249}", name):
            raise UserError(f"{text}: give kafka://HOST:PORT/TOPIC")
        return cls(parts.netloc, name)


@dataclass(frozen=True)
class StreamSettings:
    """How a topic is read.

    Parameters
    ----------
    group : str
        Consumer group; several processes of one group share the partitions.
    batch : int
        Alerts that are scored at once, at most.
    latency_s : float
        Longest time that an alert waits for others of its batch.
    idle_s : float, optional
        End after so long without an alert; None: go on until interrupted.
    client : mapping
        Settings of librdkafka, such as ``security.protocol``.
    """

    group: str
    batch: int = 1024
    latency_s: float = 2.0
    idle_s: float | None = None
    client: Mapping[str, str] | None = None

    def configuration(self, topic: Topic) -> dict[str, Any]:
        """What every client of `topic` is given."""
        return {**(self.client or {}), "bootstrap.servers": topic.brokers}


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
        kafka = _library()
        self._topic, self._source = topic, source
        self._settings = settings
        self._producer = kafka.Producer(
            settings.configuration(topic) | {"enable.idempotence": True, "linger.ms": 20}
        )
        self._n = len(_partitions(self._producer, topic))

    def done(self, partitions: list[int]) -> dict[int, Done]:
        """Told by the last messages of the output."""
        kafka = _library()
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
        kafka = _library()
        place = kafka.TopicPartition(self._topic.name, target)
        low, end = consumer.get_watermark_offsets(place, timeout=_WAIT_S)
        width = 64
        while end > low:
            start = max(low, end - width)
            consumer.assign([kafka.TopicPartition(self._topic.name, target, start)])
            told, at = [], start
            while at < end:
                message = consumer.poll(_WAIT_S)
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
                    self._producer.poll(_POLL_S)
        while self._producer.flush(_WAIT_S):
            _say(f"waiting for {self._topic.brokers} to take {len(self._producer):,} rows")
        if failed:
            raise UserError(f"kafka://{self._topic.brokers}/{self._topic.name}: {failed[0]}")


@dataclass
class _Waiting:
    """Alerts of a partition until they are scored."""

    gathered: Gathered
    first: int
    last: int = -1
    offsets: list[int] = field(default_factory=list)
    packets: list[str] = field(default_factory=list)


class Stream:
    """Scores the alerts of a topic.

    Parameters
    ----------
    topic : Topic
        Of alerts, as files of them or framed messages, one or more in each.
    table : ScoreTable
        Makes the rows.
    alerts : AlertSettings
        How packets become stamps.
    output : Output
        Where the rows go.
    settings : StreamSettings
        How it is read.
    """

    def __init__(
        self,
        topic: Topic,
        table: ScoreTable,
        alerts: AlertSettings,
        output: Output,
        settings: StreamSettings,
    ) -> None:
        self._topic, self._table, self._alerts = topic, table, alerts
        self._output, self._settings = output, settings
        self._begun: float | None = None
        self._last: float | None = None
        self._told_s = 0.0
        self._waiting: dict[int, _Waiting] = {}
        self._done: dict[int, Done] = {}
        self.rows = 0

    def run(self, progress: bool = True) -> int:
        """Score until there is nothing more, or for good; the number of rows.

        Raises
        ------
        UserError
            If there is no such topic, or the broker refuses.
        """
        kafka = _library()
        consumer = kafka.Consumer(
            self._settings.configuration(self._topic)
            | {
                "group.id": self._settings.group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "session.timeout.ms": 10_000,  # another may take over so long after a kill
            }
        )
        try:
            _partitions(consumer, self._topic)
            consumer.subscribe(
                [self._topic.name],
                on_assign=self._assigned,
                on_revoke=lambda consumer, places: self._flush(consumer),
                on_lost=lambda consumer, places: self._waiting.clear(),
            )
            with bar(progress, f"scoring {self._topic.name}", None, "alerts") as step:
                while True:
                    messages = consumer.consume(self._room(), timeout=self._patience())
                    now = time.monotonic()
                    for message in messages:
                        if message.error():
                            self._refuse_or_wait(message.error())
                            continue
                        self._last = now
                        self._add(message)
                    if self._is_due(now):
                        self._flush(consumer)
                        step.at(self.rows)
                    elif self._is_idle(now):
                        return self.rows
        except kafka.KafkaException as error:
            raise UserError(f"kafka://{self._topic.brokers}: {error.args[0].str()}") from error
        finally:
            consumer.close()

    def _assigned(self, consumer: Any, places: list[Any]) -> None:
        """Go on behind what is in the output, or was committed."""
        self._last = time.monotonic()
        self._done = self._output.done([place.partition for place in places])
        committed = {p.partition: p.offset for p in consumer.committed(places, timeout=_WAIT_S)}
        for place in places:
            done = self._done.get(place.partition, Done(-1))
            at = max(committed.get(place.partition, -1), done.offset)
            if at >= 0:
                place.offset = at
        consumer.assign(places)

    def _add(self, message: Any) -> None:
        offset, partition = message.offset(), message.partition()
        batch = self._waiting.setdefault(
            partition, _Waiting(Gathered(self._alerts, side_of(self._table.scorer.inputs)), offset)
        )
        self._begun = self._begun or time.monotonic()
        origin = f"{message.topic()}:{partition}:{offset}"
        packets = list(read_message(message.value() or b"", self._alerts.schemas))
        done = self._done.get(partition, Done(-1))
        for number, packet in enumerate(packets, 1):
            if offset == done.offset and number <= done.packets:
                continue
            if isinstance(packet, Packet):
                batch.gathered.add(packet, origin)
            else:
                batch.gathered.add_broken(origin, packet.detail)
            batch.offsets.append(offset)
            batch.packets.append(f"{number}:{len(packets)}")
        batch.last = offset

    def _count(self) -> int:
        return sum(len(batch.gathered) for batch in self._waiting.values())

    def _room(self) -> int:
        return max(1, self._settings.batch - self._count())

    def _patience(self) -> float:
        if self._begun is None:
            return _POLL_S
        left = self._begun + self._settings.latency_s - time.monotonic()
        return min(max(left, 0.0), _POLL_S)

    def _is_due(self, now: float) -> bool:
        if self._begun is None:
            return False
        return self._count() >= self._settings.batch or now - self._begun > self._settings.latency_s

    def _is_idle(self, now: float) -> bool:
        """Whether it is time to end; a process without partitions yet is not idle."""
        idle = self._settings.idle_s
        return idle is not None and self._last is not None and now - self._last > idle

    def _flush(self, consumer: Any) -> None:
        """Score and keep what waits, then tell the broker."""
        import pyarrow as pa

        kafka = _library()
        waiting, self._waiting, self._begun = self._waiting, {}, None
        for partition, batch in sorted(waiting.items()):
            table = self._table.rows(batch.gathered.chunk(None))
            table = table.append_column("offset", pa.array(batch.offsets, pa.int64()))
            table = table.append_column("packet", pa.array(batch.packets, pa.string()))
            with uninterrupted():
                self._output.write(partition, batch.first, batch.last, table)
            self.rows += len(table)
            place = kafka.TopicPartition(self._topic.name, partition, batch.last + 1)
            try:
                consumer.commit(offsets=[place], asynchronous=False)
            except kafka.KafkaException as error:
                # What is in the output counts; the group's offset follows with the next batch.
                self._refuse_or_wait(error.args[0])

    def _refuse_or_wait(self, error: Any) -> None:
        if error.fatal():
            raise UserError(f"kafka://{self._topic.brokers}/{self._topic.name}: {error.str()}")
        if time.monotonic() - self._told_s > _WAIT_S:
            self._told_s = time.monotonic()
            _say(f"{self._topic.brokers}: {error.str()}; still trying")


def _partitions(client: Any, topic: Topic) -> list[int]:
    """Partitions of a topic; UserError if there is no such topic, or no broker."""
    kafka = _library()
    where = f"kafka://{topic.brokers}/{topic.name}"
    try:
        found = client.list_topics(topic.name, timeout=_WAIT_S).topics[topic.name]
    except kafka.KafkaException as error:
        raise UserError(f"{where}: {error.args[0].str()}; is the broker up?") from error
    if found.error is not None or not found.partitions:
        raise UserError(f"{where}: there is no such topic")
    return sorted(found.partitions)


def _source_of(message: Any, topic: str) -> tuple[int, Done] | None:
    """The source's partition, and how far it is with a message of the output."""
    for name, value in message.headers() or ():
        if name == SOURCE_HEADER and value:
            source, partition, offset, packets, of = value.decode().rsplit(":", 4)
            if source == topic:
                whole = packets == of
                return int(partition), Done(int(offset) + whole, 0 if whole else int(packets))
    return None


def _library() -> Any:
    try:
        import confluent_kafka
    except ImportError:
        raise UserError("streams need the extra: pip install 'rb[kafka]'") from None
    return confluent_kafka


def _say(text: str) -> None:
    print(text, file=sys.stderr)
