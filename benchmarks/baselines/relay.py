"""A bare pipelined loop from the outbox to Kafka. Run with: python -m benchmarks.baselines.relay

psycopg and confluent-kafka and nothing else: no errors dealt with, no order across two of them, nothing counted. The
same table, headers, guarantees of Kafka and report for every row as ours.
"""

import os
from collections import deque
from collections.abc import Sequence
from typing import Any

import psycopg
from confluent_kafka import Producer

BATCH_SIZE = 2_000
IN_FLIGHT = 3

# What Kafka has of earlier batches is deleted in the statement that reads the next one.
READ = """
    WITH gone AS (DELETE FROM outbox_outboxevent WHERE id = ANY(%s))
    SELECT id, event_id::text, event_type, event_version::text, topic, key, value, traceparent
    FROM outbox_outboxevent
    WHERE id > %s
    ORDER BY id
    LIMIT %s
"""


class Batch:
    """Rows that are with Kafka."""

    __slots__ = ("ids", "missing")

    def __init__(self, ids: list[int]) -> None:
        self.ids, self.missing = ids, len(ids)

    def report(self, error: object, message: object) -> None:
        """Take the report of one row."""
        if error is not None:
            raise RuntimeError(error)
        self.missing -= 1


def main() -> None:
    """Send what comes into the outbox until killed."""
    producer = connect_to_kafka()
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db:
        db.execute("LISTEN outbox")
        while True:
            drain(db, producer)
            for _ in db.notifies(timeout=1, stop_after=1):
                pass


def connect_to_kafka() -> Producer:
    """Return a producer with the guarantees of ours."""
    producer = Producer(
        {
            "bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"],
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": "murmur2_random",
        }
    )
    producer.list_topics(timeout=10)
    return producer


def drain(db: psycopg.Connection[Any], producer: Producer) -> None:
    """Send what is in the outbox, with up to IN_FLIGHT batches on their way while the next is read."""
    cursor = db.cursor(binary=True)
    in_flight: deque[Batch] = deque()
    done: list[int] = []
    after = 0
    while True:
        rows = cursor.execute(READ, (done, after, BATCH_SIZE)).fetchall()
        done = []
        if rows:
            after = rows[-1][0]
            in_flight.append(send(producer, rows))
            producer.poll(0)
        elif not in_flight:
            return
        while in_flight and (not in_flight[0].missing or len(in_flight) >= IN_FLIGHT or not rows):
            if in_flight[0].missing:
                producer.poll(0.05)
            else:
                done += in_flight.popleft().ids


def send(producer: Producer, rows: Sequence[tuple[Any, ...]]) -> Batch:
    """Hand rows to the producer."""
    batch = Batch([row[0] for row in rows])
    produce, report = producer.produce, batch.report
    for _, event_id, event_type, event_version, topic, key, value, traceparent in rows:
        produce(
            topic,
            value,
            key,
            headers=[
                ("event-id", event_id),
                ("event-type", event_type),
                ("event-version", event_version),
                ("content-type", "application/json"),
                ("traceparent", traceparent),
            ],
            on_delivery=report,
        )
    return batch


if __name__ == "__main__":
    main()
