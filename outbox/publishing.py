"""publish(): the only way in which an app tells of a change."""

import secrets
from collections.abc import Sequence
from typing import Any

from django.db import connections, router

from outbox import conf
from outbox.events import Event, InvalidEvent, encode

# What the record's headers take beside the event's type, in bytes.
HEADERS_BYTES = 256

# One statement for any number of events. The ids, and so the order of publication, follow the order of the arrays.
INSERT = """
    INSERT INTO outbox_outboxevent (event_id, event_type, event_version, topic, key, value, traceparent, created_at)
    SELECT *, statement_timestamp()
    FROM unnest(%s::uuid[], %s::text[], %s::int[], %s::text[], %s::bytea[], %s::bytea[], %s::text[])
"""


class OutsideTransaction(RuntimeError):
    """publish() was called where no transaction is open, so that the event could not commit with its change."""


def publish(*events: Event) -> None:
    """Write events to the outbox, in the caller's transaction, to be sent to Kafka after its commit.

    Call it after the aggregate's row is locked or written: events of one key reach Kafka in the order of these calls.

    Raises:
        OutsideTransaction: no transaction is open.
        InvalidEvent: an event does not fit its class, or is larger than Kafka would take. Nothing was written.
    """
    from outbox.models import OutboxEvent

    connection = connections[router.db_for_write(OutboxEvent)]
    if not connection.in_atomic_block:
        raise OutsideTransaction("publish() needs the transaction of the change that it tells of: transaction.atomic")
    if events:
        with connection.cursor() as cursor:
            cursor.execute(INSERT, columns(events))


def columns(events: Sequence[Event]) -> list[Any]:
    """Return the arrays for INSERT, one a column."""
    values = [encode(event) for event in events]
    for event, value in zip(events, values, strict=True):
        size = len(event.key.encode()) + len(value) + HEADERS_BYTES
        if size > conf.get("MAX_EVENT_BYTES"):
            raise InvalidEvent(f"{event.type} {event.key}: {size:,} bytes are more than Kafka takes")
    prefix = conf.get("PREFIX")
    # W3C Trace Context: version, trace id, parent id, sampled. The events of one call share a trace.
    traceparent = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
    return [
        [event.event_id for event in events],
        [event.type for event in events],
        [event.version for event in events],
        [prefix + event.topic.name for event in events],
        [event.key.encode() for event in events],
        values,
        [traceparent] * len(events),
    ]
