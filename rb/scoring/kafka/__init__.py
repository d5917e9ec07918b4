"""Alerts of a Kafka topic, scored as they come: each of them once in the output.

What is in the output says how far each partition of the topic was scored, and the next attempt
goes on behind it; the group's offsets at the broker follow only after the output is durable. So an
end at any moment neither loses an alert nor writes it twice.
"""

from rb.scoring.kafka.outputs import ParquetOutput, TopicOutput
from rb.scoring.kafka.stream import Stream
from rb.scoring.kafka.topics import StreamSettings, Topic

__all__ = ["ParquetOutput", "Stream", "StreamSettings", "Topic", "TopicOutput"]
