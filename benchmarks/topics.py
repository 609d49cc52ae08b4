"""What reached Kafka: each event once or more, and each order's events in their order?"""

import os
import uuid
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import msgspec
from confluent_kafka import Consumer, TopicPartition

READ_AT_ONCE = 10_000
SILENCE_SECONDS = 10.0


class Numbered(msgspec.Struct, rename="camel"):
    """What all events of the benchmarks have."""

    order_id: str
    number: int


class Value(msgspec.Struct):
    """As much of a record's value as the count needs."""

    data: Numbered


@dataclass
class Count:
    """What is on a topic. `violations` are first appearances behind a later event of their order."""

    distinct: int = 0
    repeated: int = 0
    violations: int = 0


def reader(topic: str, *, at_end: bool = False) -> tuple[Consumer, dict[int, int]]:
    """Return a consumer of a whole topic, and the records that each partition holds now.

    It belongs to no group: nobody rebalances it. `at_end`: it begins with what comes next.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"],
            "group.id": f"bench-reader-{uuid.uuid4()}",
            "enable.auto.commit": False,
            "log_level": 2,
        }
    )
    partitions = consumer.list_topics(topic, timeout=SILENCE_SECONDS).topics[topic].partitions
    ends = {
        partition: consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=SILENCE_SECONDS)[1]
        for partition in partitions
    }
    consumer.assign([TopicPartition(topic, part, end if at_end else 0) for part, end in ends.items()])
    return consumer, ends


def count(topic: str) -> Count:
    """Read a topic of numbered events from its begin to its end, and count."""
    consumer, ends = reader(topic)
    left = sum(ends.values())
    result = Count()
    seen: dict[str, set[int]] = defaultdict(set)
    newest: dict[str, int] = defaultdict(int)
    decoder = msgspec.json.Decoder(Value)
    while left > 0:
        messages: list[Any] = consumer.consume(min(left, READ_AT_ONCE), SILENCE_SECONDS)
        if not messages:
            raise RuntimeError(f"{left} records of {topic} do not come")
        for message in messages:
            order = decoder.decode(message.value()).data
            if order.number in seen[order.order_id]:
                result.repeated += 1
                continue
            seen[order.order_id].add(order.number)
            result.distinct += 1
            if order.number < newest[order.order_id]:
                result.violations += 1
            newest[order.order_id] = max(newest[order.order_id], order.number)
        left -= len(messages)
    consumer.close()
    return result
