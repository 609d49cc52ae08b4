"""publish(): the only way in which an app tells of a change."""

from collections.abc import Sequence
from contextvars import ContextVar
from itertools import chain
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox import conf, context
from outbox.database import binary_cursor
from outbox.events import Event, InvalidEvent, Topic, encode

# What the record's headers take beside the event's type, in bytes.
HEADERS_BYTES = 256

# Up to so many rows are written as VALUES, which is planned in half the time; more of them as arrays, in a third.
FEW_ROWS = 8
TYPES = ("uuid", "text", "int", "text", "bytea", "bytea", "text", "jsonb")
ROW = f"({', '.join(f'%b::{name}' for name in TYPES)})"
ARRAYS = f"unnest({', '.join(f'%b::{name}[]' for name in TYPES)})"
# One statement for any number of rows. The ids, and so the order of publication, follow the order of the rows.
# NOTIFY makes commits wait for each other (PostgreSQL holds one lock from it to the end of the commit), so there is
# none where another was given a moment ago: a relay that was woken looks again, and again, before it sleeps. The
# sequence holds when, in ms, since what is written to a sequence is seen at once and blocks nobody.
INSERT = """
    WITH written AS (
        INSERT INTO outbox_outboxevent
            (event_id, event_type, event_version, topic, key, value, traceparent, headers, created_at)
        SELECT *, statement_timestamp() FROM {}
    )
    SELECT pg_notify('outbox', ''), setval('outbox_notified', now_ms)
    FROM outbox_notified, (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms) AS clock
    WHERE %b::bool AND abs(now_ms - last_value) >= %b::int
"""


class OutsideTransaction(RuntimeError):
    """publish() was called where no transaction is open, so that the event could not commit with its change."""


def publish(*events: Event) -> None:
    """Write events to the outbox, in the caller's transaction, to be sent to Kafka after its commit.

    Call it after the aggregate's row is locked or written: events of one key reach Kafka in the order of these calls.
    What a handler publishes is written when all handlers of its batch have returned; what was published after a
    savepoint that is undone goes with it, if the savepoint was set over Django's connection.

    Raises:
        OutsideTransaction: no transaction is open.
        InvalidEvent: an event does not fit its class, or is larger than Kafka would take. Nothing was written.
    """
    from outbox.models import OutboxEvent

    db = connections[router.db_for_write(OutboxEvent)]
    if not db.in_atomic_block:
        raise OutsideTransaction("publish() needs the transaction of the change that it tells of: transaction.atomic")
    rows = rows_of(events)
    gathering_db, together = gathered.get()
    if gathering_db is db:
        together += rows
    elif rows:
        write(rows)


class OutboxRow(NamedTuple):
    """What is written of a record to be sent. `headers` is JSON as FailedMessage keeps it; None: those of an event."""

    event_id: UUID | None
    event_type: str
    event_version: int | None
    topic: str
    key: bytes | None
    value: bytes | None
    traceparent: str | None = None
    headers: str | None = None


# Takes in what is published over a connection, to be written together: see consuming/gathering.py. A thread that was
# given this context has another connection.
gathered: ContextVar[tuple[BaseDatabaseWrapper | None, list[OutboxRow]]] = ContextVar(
    "outbox_gathered", default=(None, [])
)


def write(rows: Sequence[OutboxRow]) -> None:
    """Write rows, one at least, to the outbox, in this order, and wake the relay when they are committed."""
    from outbox.models import OutboxEvent

    values: list[Any]
    if len(rows) <= FEW_ROWS:
        source, values = f"(VALUES {', '.join([ROW] * len(rows))}) AS few", list(chain.from_iterable(rows))
    else:
        source, values = ARRAYS, [list(column) for column in zip(*rows, strict=True)]
    with binary_cursor(connections[router.db_for_write(OutboxEvent)]) as cursor:
        cursor.execute(INSERT.format(source), [*values, conf.get("NOTIFY"), conf.get("NOTIFY_INTERVAL_MS")])


def rows_of(events: Sequence[Event]) -> list[OutboxRow]:
    """Return the rows of events.

    Raises:
        InvalidEvent: an event does not fit its class, or is larger than Kafka would take.
    """
    prefix = conf.get("PREFIX")
    keys = [event.key.encode() for event in events]
    rows = []
    for event, key, traceparent in zip(events, keys, context.traceparents(keys), strict=True):
        value = encode(event)
        if too_large(event.topic, key, value):
            raise InvalidEvent(f"{event.type} {event.key}: {len(value):,} bytes are more than Kafka takes")
        topic = prefix + event.topic.name
        rows.append(OutboxRow(event.event_id, event.type, event.version, topic, key, value, traceparent))
    return rows


def too_large(topic: Topic, key: bytes, value: bytes) -> bool:
    """Return whether Kafka would refuse an event of a topic, as that is declared and MAX_EVENT_BYTES allows."""
    size = len(key) + len(value) + HEADERS_BYTES
    return size > min(conf.get("MAX_EVENT_BYTES"), topic.max_message_bytes or size)
