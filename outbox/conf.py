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
    # Whether publish() wakes the relay by NOTIFY, and the least time between two of them. Without, a relay looks once
    # a second.
    "NOTIFY": True,
    "NOTIFY_INTERVAL_MS": 5,
    # From a dead letter to its first automatic retry, and from each to the next; and how many of them there are.
    "RETRY_SECONDS": 30,
    "RETRY_LIMIT": 3,
    # Dead-letter topics of other systems (full names) and the group of this project whose handlers are to retry what
    # is on them, by the worker `run_consumer dead-letters`.
    "FOREIGN_DEAD_LETTER_TOPICS": {},
    # How long solved and discarded dead letters are kept.
    "FAILED_RETENTION_DAYS": 30,
    # An unpublished event older than this is an alarm: in the metrics, in the log of the relay, in consumer_lag and
    # in the admin.
    "ALARM_SECONDS": 60,
    # The Info Object of the AsyncAPI document: whose events they are.
    "ASYNCAPI_INFO": {"title": "Events", "version": "1.0.0"},
}


def get(name: str) -> Any:
    """Return one setting of OUTBOX, or its default."""
    return getattr(settings, "OUTBOX", {}).get(name, DEFAULTS[name])
