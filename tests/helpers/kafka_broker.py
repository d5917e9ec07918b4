"""A broker of its own process: librdkafka's mock cluster, which speaks the protocol over TCP.

Run as a script it prints where it listens, and takes ``down`` and ``up`` from standard input. What
was produced is kept in its memory while it is down.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class Broker:
    """The process, as tests see it."""

    def __init__(self, process: subprocess.Popen, address: str) -> None:
        self._process, self.address = process, address

    def tell(self, word: str) -> None:
        """``down`` closes all connections and takes no new ones; ``up`` ends that."""
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline().strip() == word


@contextmanager
def broker(**topics: int) -> Iterator[Broker]:
    """A broker with topics of so many partitions."""
    words = [f"{name}={partitions}" for name, partitions in topics.items()]
    process = subprocess.Popen(
        [sys.executable, __file__, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield Broker(process, process.stdout.readline().strip())
    finally:
        process.kill()
        process.communicate()


def produce(address: str, topic: str, messages: list[bytes], partitions: int) -> None:
    """Send messages, to the partitions in turn."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": address, "linger.ms": 5})
    for number, message in enumerate(messages):
        producer.produce(topic, message, partition=number % partitions)
        producer.poll(0)
    assert producer.flush(30) == 0


def consume(address: str, topic: str) -> list[tuple[bytes | None, bytes]]:
    """Key and value of all messages of a topic."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": address, "group.id": f"look-{time.monotonic_ns()}"})
    found = []
    for number in consumer.list_topics(topic, timeout=10).topics[topic].partitions:
        place = TopicPartition(topic, number)
        _, end = consumer.get_watermark_offsets(place, timeout=10)
        consumer.assign([TopicPartition(topic, number, 0)])
        at = 0
        while at < end:
            message = consumer.poll(10)
            assert message is not None and not message.error()
            at = message.offset() + 1
            found.append((message.key(), message.value()))
    consumer.close()
    return found


def counting(address: str, topic: str) -> Callable[[], int]:
    """What gives the number of messages of a topic, at once."""
    from confluent_kafka import Consumer, TopicPartition

    # Silent, because it outlives the broker by a little.
    consumer = Consumer({"bootstrap.servers": address, "group.id": "count", "log_level": 0})
    places = [
        TopicPartition(topic, number)
        for number in consumer.list_topics(topic, timeout=10).topics[topic].partitions
    ]
    return lambda: sum(consumer.get_watermark_offsets(p, timeout=10)[1] for p in places)


def _serve(topics: dict[str, int]) -> None:
    import confluent_kafka

    package = Path(confluent_kafka.__file__).parent
    (library,) = [
        *package.glob("librdkafka*"),
        *package.parent.glob("confluent_kafka.libs/librdkafka*"),
    ]
    kafka = ctypes.CDLL(str(library))
    for name in ("conf_new", "new", "mock_cluster_new"):
        getattr(kafka, f"rd_kafka_{name}").restype = ctypes.c_void_p
    kafka.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    said = ctypes.create_string_buffer(512)
    client = kafka.rd_kafka_new(0, ctypes.c_void_p(kafka.rd_kafka_conf_new()), said, 512)
    cluster = ctypes.c_void_p(kafka.rd_kafka_mock_cluster_new(ctypes.c_void_p(client), 1))
    for name, partitions in topics.items():
        kafka.rd_kafka_mock_topic_create(cluster, name.encode(), partitions, 1)
    print(kafka.rd_kafka_mock_cluster_bootstraps(cluster).decode(), flush=True)
    for line in sys.stdin:
        getattr(kafka, f"rd_kafka_mock_broker_set_{line.strip()}")(cluster, 1)
        print(line.strip(), flush=True)


if __name__ == "__main__":
    _serve({name: int(n) for name, _, n in (word.partition("=") for word in sys.argv[1:])})
