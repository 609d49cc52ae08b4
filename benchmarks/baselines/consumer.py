"""Bare loops from Kafka to PostgreSQL. Run with: python -m benchmarks.baselines.consumer WAY GROUP TOPIC

psycopg, confluent-kafka and a JSON library, and nothing else: no errors dealt with, nothing checked, nothing counted.
The same effect as our handlers by the same statements, an inbox that takes each event once, and a new event in the
outbox. The way is bulk or single, or django: as single, but written as a Django project would write it.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import django
import msgspec
import psycopg
import uuid_utils
from confluent_kafka import Consumer, Message
from django.apps import apps
from django.db import IntegrityError, connection, transaction

from benchmarks.events import OrderReserved
from benchmarks.tables import RESERVE_MANY, RESERVE_ONE, TAKE_ONE

BATCH_SIZE = 500

REMEMBER_MANY = """
    INSERT INTO outbox_inboxevent (event_id, event_type, topic, partition, "offset", consumer_group, applied_at)
    SELECT *, %s, statement_timestamp()
    FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::int[], %s::bigint[])
    ON CONFLICT (event_id, consumer_group) DO NOTHING
    RETURNING event_id::text
"""
REMEMBER_ONE = """
    INSERT INTO outbox_inboxevent (event_id, event_type, topic, partition, "offset", consumer_group, applied_at)
    VALUES (%s, %s, %s, %s, %s, %s, statement_timestamp())
    ON CONFLICT (event_id, consumer_group) DO NOTHING
"""
PUBLISH_MANY = """
    INSERT INTO outbox_outboxevent (event_id, event_type, event_version, topic, key, value, created_at)
    SELECT *, statement_timestamp()
    FROM unnest(%s::uuid[], %s::text[], %s::int[], %s::text[], %s::bytea[], %s::bytea[])
"""
# The columns of what reserved() returns.
PUBLISHED = ("event_id", "event_type", "event_version", "topic", "key", "value")
PUBLISH_ONE = """
    INSERT INTO outbox_outboxevent (event_id, event_type, event_version, topic, key, value, created_at)
    VALUES (%s, %s, %s, %s, %s, %s, statement_timestamp())
"""

Record = tuple[Message, dict[str, Any]]


def main() -> None:
    """Apply what is on the topic until killed."""
    way, group, topic = sys.argv[1:]
    consumer = Consumer(
        {
            "bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"],
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([topic])
    apply = {"bulk": apply_together, "single": apply_one_by_one, "django": apply_by_django}[way]
    with psycopg.connect(os.environ["DATABASE_URL"]) as db:
        while True:
            messages = consumer.consume(1, 0.5)
            if messages:
                messages += consumer.consume(BATCH_SIZE - 1, 0)
                apply(db, group, [(message, msgspec.json.decode(message.value() or b"")) for message in messages])
                consumer.commit()


def apply_together(db: psycopg.Connection[Any], group: str, records: Sequence[Record]) -> None:
    """Apply a batch in one transaction, set by set."""
    places = [(value["eventId"], value["eventType"], *place(message)) for message, value in records]
    with db.transaction(), db.cursor() as cursor:
        cursor.execute(REMEMBER_MANY, (group, *columns(places)))
        fresh = {event_id for (event_id,) in cursor}
        data = [value["data"] for _, value in records if value["eventId"] in fresh]
        if data:
            cursor.execute(
                RESERVE_MANY,
                columns((order["orderId"], order["number"], order["sku"], order["quantity"]) for order in data),
            )
            cursor.execute(PUBLISH_MANY, columns(reserved(order) for order in data))


def apply_one_by_one(db: psycopg.Connection[Any], group: str, records: Sequence[Record]) -> None:
    """Apply each record in a transaction of its own."""
    for message, value in records:
        with db.transaction(), db.cursor() as cursor:
            cursor.execute(REMEMBER_ONE, (value["eventId"], value["eventType"], *place(message), group))
            if cursor.rowcount:
                order = value["data"]
                cursor.execute(TAKE_ONE, (order["quantity"], order["sku"]))
                cursor.execute(RESERVE_ONE, (order["orderId"], order["number"], order["sku"], order["quantity"]))
                cursor.execute(PUBLISH_ONE, reserved(order))


def apply_by_django(_: psycopg.Connection[Any], group: str, records: Sequence[Record]) -> None:
    """Apply each record in a transaction of its own, by Django's connection and models."""
    if not apps.ready:
        django.setup()
    from outbox.models import InboxEvent, OutboxEvent

    for message, value in records:
        topic, partition, offset = place(message)
        order = value["data"]
        # A repeated one violates the inbox' constraint, and its transaction ends there.
        with suppress(IntegrityError), transaction.atomic():
            InboxEvent.objects.create(
                event_id=value["eventId"],
                consumer_group=group,
                event_type=value["eventType"],
                topic=topic,
                partition=partition,
                offset=offset,
                applied_at=datetime.now(UTC),
            )
            with connection.cursor() as cursor:
                cursor.execute(TAKE_ONE, (order["quantity"], order["sku"]))
                cursor.execute(RESERVE_ONE, (order["orderId"], order["number"], order["sku"], order["quantity"]))
            row = dict(zip(PUBLISHED, reserved(order), strict=True))
            OutboxEvent.objects.create(**row, created_at=datetime.now(UTC))


def place(message: Any) -> tuple[str, int, int]:
    """Return where a message was read."""
    return message.topic(), message.partition(), message.offset()


def reserved(order: dict[str, Any]) -> tuple[Any, ...]:
    """Return the outbox row of the event that follows an order's."""
    event_id = str(uuid_utils.uuid7())
    value = {
        "eventId": event_id,
        "eventType": OrderReserved.type,
        "version": OrderReserved.version,
        "timestamp": datetime.now(UTC),
        "data": {"orderId": order["orderId"], "number": order["number"]},
    }
    return (
        event_id,
        OrderReserved.type,
        OrderReserved.version,
        OrderReserved.topic.name,
        order["orderId"].encode(),
        msgspec.json.encode(value),
    )


def columns(rows: Iterable[tuple[Any, ...]]) -> list[list[Any]]:
    """Return rows as the arrays that unnest() takes."""
    return [list(column) for column in zip(*rows, strict=True)]


if __name__ == "__main__":
    main()
