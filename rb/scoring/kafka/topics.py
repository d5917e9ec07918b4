"""Topics and their brokers, and how they are read."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from rb.errors import UserError

SCHEME = "kafka"
POLL_S = 0.1
WAIT_S = 15.0  # until it is said that no broker answers; librdkafka goes on trying


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


def partitions_of(client: Any, topic: Topic) -> list[int]:
    """Partitions of a topic; UserError if there is no such topic, or no broker."""
    kafka = library()
    where = f"kafka://{topic.brokers}/{topic.name}"
    try:
        found = client.list_topics(topic.name, timeout=WAIT_S).topics[topic.name]
    except kafka.KafkaException as error:
        raise UserError(f"{where}: {error.args[0].str()}; is the broker up?") from error
    if found.error is not None or not found.partitions:
        raise UserError(f"{where}: there is no such topic")
    return sorted(found.partitions)


def library() -> Any:
    """confluent-kafka; UserError where it is not installed."""
    try:
        import confluent_kafka
    except ImportError:
        raise UserError("streams need the extra: pip install 'rb[kafka]'") from None
    return confluent_kafka


def say(text: str) -> None:
    """Tell the user while it goes on."""
    print(text, file=sys.stderr)
