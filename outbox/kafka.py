"""Kafka clients as this app needs them. What order and safety rest on is set here and cannot be overridden."""

import logging
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient

from outbox import conf
from outbox.events import Topic

ErrorCallback = Callable[[KafkaError], None]

# librdkafka's own lines say little that its errors do not: only critical ones.
CLIENT = {"log_level": 2, "reconnect.backoff.ms": 100, "reconnect.backoff.max.ms": 1_000}


def topic_name(topic: Topic) -> str:
    """Return the topic's name in Kafka: with the installation's prefix."""
    return conf.get("PREFIX") + topic.name


def dead_letter_topic(group: str) -> Topic:
    """Return the topic that takes copies of what `group` could not apply."""
    # Room for any record of the group's topics, and for the headers that say what went wrong.
    return Topic(f"{group}-dlq", partitions=1, max_message_bytes=4_000_000)


def producer_config(on_error: ErrorCallback, *, gapless: bool = True) -> dict[str, Any]:
    """Return the configuration of the relay's producer.

    With `gapless` a message that fails for good takes those behind it along, so that no later event of a key
    overtakes it, and the producer must be replaced.
    """
    return {
        **CLIENT,
        # For as long as rows keep coming: the last ones the relay sends at once.
        "linger.ms": 10,
        # The broker's limit counts, not the client's (default 1,000,000): copies of dead letters may be larger.
        "message.max.bytes": 4_000_000,
        # How long a topic may be unknown before its messages come back: the outbox keeps them, so not for long.
        "topic.metadata.propagation.max.ms": 2_000,
        **conf.get("KAFKA"),
        **conf.get("PRODUCER"),
        # As Java clients do, so that producers in any language agree on a key's partition.
        "partitioner": "murmur2_random",
        "enable.idempotence": True,
        "acks": "all",
        "enable.gapless.guarantee": gapless,
        # Messages wait for Kafka as long as it takes. One that timed out would let the next of its key overtake it.
        "message.timeout.ms": 0,
        "error_cb": on_error,
        "logger": logging.getLogger("outbox.librdkafka"),
    }


def consumer_config(group: str, on_error: ErrorCallback) -> dict[str, Any]:
    """Return the configuration of a member of consumer group `group`."""
    return {
        **CLIENT,
        # The classic protocol lets the member choose how soon its partitions move after it died; 6 s is the least
        # that a broker allows by default.
        "session.timeout.ms": 6_000,
        "heartbeat.interval.ms": 1_500,
        "isolation.level": "read_committed",
        "fetch.wait.max.ms": 100,
        "queued.max.messages.kbytes": 16_384,
        # How soon a topic that was created later is noticed.
        "topic.metadata.refresh.interval.ms": 10_000,
        **conf.get("KAFKA"),
        **conf.get("CONSUMER"),
        "group.id": conf.get("PREFIX") + group,
        # A group begins with all that Kafka still holds.
        "auto.offset.reset": "earliest",
        "partition.assignment.strategy": "cooperative-sticky",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "error_cb": on_error,
        "logger": logging.getLogger("outbox.librdkafka"),
    }


def admin_client() -> AdminClient:
    """Return a client for Kafka's administration."""
    return AdminClient({**CLIENT, **conf.get("KAFKA")})
