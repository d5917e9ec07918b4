"""Reads a topic of alerts and keeps their scores, batch by batch."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rb.errors import UserError
from rb.interrupts import uninterrupted
from rb.io.progress import bar
from rb.scoring.alerts import Gathered
from rb.scoring.kafka.outputs import Done, Output
from rb.scoring.kafka.topics import (
    POLL_S,
    WAIT_S,
    StreamSettings,
    Topic,
    library,
    partitions_of,
    say,
)
from rb.scoring.table import ScoreTable, side_of
from rb.sources.alerts.packets import Packet, read_message

if TYPE_CHECKING:
    from rb.sources.alerts.settings import AlertSettings


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
        kafka = library()
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
            partitions_of(consumer, self._topic)
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
        committed = {p.partition: p.offset for p in consumer.committed(places, timeout=WAIT_S)}
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
            return POLL_S
        left = self._begun + self._settings.latency_s - time.monotonic()
        return min(max(left, 0.0), POLL_S)

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

        kafka = library()
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
        if time.monotonic() - self._told_s > WAIT_S:
            self._told_s = time.monotonic()
            say(f"{self._topic.brokers}: {error.str()}; still trying")
