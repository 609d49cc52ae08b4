"""The settings of this app: the dict OUTBOX in Django's settings, every key optional but KAFKA."""

from typing import Any

from django.conf import settings

DEFAULTS: dict[str, Any] = {
    # librdkafka properties for every client: "bootstrap.servers", SASL, TLS.
    "KAFKA": {},
    # … for the relay's producer only, over the defaults in outbox/kafka.py.
    "PRODUCER": {},
    # … for the consumers only, likewise.
    "CONSUMER": {},
    # Stands before the name of every topic and consumer group, so that several installations can share a Kafka.
    "PREFIX": "",
    # For create_topics.
    "REPLICATION_FACTOR": 1,
    # Key, value and headers of an event together; what is larger, publish refuses. Kafka's own default
    # for a topic is 1,048,588 bytes, librdkafka's for a message 1,000,000.
    "MAX_EVENT_BYTES": 950_000,
    # An event older than this is dead-lettered, since the inbox need not remember it any more. Keep it above the
    # topics' retention.
    "INBOX_RETENTION_DAYS": 30,
    # From a dead letter to its first automatic retry.
    "RETRY_SECONDS": 30,
}


def get(name: str) -> Any:
    """Return one setting of OUTBOX, or its default."""
    return getattr(settings, "OUTBOX", {}).get(name, DEFAULTS[name])
