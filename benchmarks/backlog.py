"""Events written to the outbox in bulk, and the watch on how they leave it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from benchmarks.events import OrderCounted
from benchmarks.processes import Worker

# How many orders the events belong to.
KEYS = 5_000
# SKUs that the orders are about.
SKUS = 200
WATCH_SECONDS = 0.01

# Rows as publish() writes them: event n is number n / keys of order n % keys.
FILL = """
    INSERT INTO outbox_outboxevent
        (event_id, event_type, event_version, topic, key, value, traceparent, created_at)
    SELECT event_id, %(type)s::text, %(version)s::int, %(topic)s, convert_to(order_id, 'UTF8'),
           convert_to(
               '{"eventId":"' || event_id || '","eventType":"' || %(type)s::text || '","version":' || %(version)s::int
               || ',"timestamp":"' || to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
               || '","data":{"orderId":"' || order_id || '","number":' || number || ',"sku":"' || sku
               || '","quantity":' || 1 + n %% 3 || ',"note":"' || repeat('x', 40) || '"}}',
               'UTF8'
           ),
           '00-' || md5(n::text) || '-' || left(md5(order_id), 16) || '-01', now()
    FROM (
        SELECT n, uuidv7() AS event_id, %(series)s::text || '-' || lpad((n %% %(keys)s)::text, 6, '0') AS order_id,
               n / %(keys)s + 1 AS number, 'SKU-' || lpad((n * 7 %% %(skus)s)::text, 4, '0') AS sku
        FROM generate_series(0::bigint, %(events)s - 1) AS n
        OFFSET 0
    ) AS made
    ORDER BY n
"""


def empty(db: psycopg.Connection[Any]) -> None:
    """Make the outbox as new, and let PostgreSQL write out what earlier runs have left to be written."""
    db.execute("TRUNCATE outbox_outboxevent, failed_messages RESTART IDENTITY CASCADE")
    db.execute("ANALYZE outbox_outboxevent")
    db.execute("CHECKPOINT")


def fill(db: psycopg.Connection[Any], topic: str, events: int, *, series: str = "order", keys: int = KEYS) -> None:
    """Write events to the outbox for a topic (full name), and wake the relay as publish() does.

    The orders' ids begin with `series`: two series have no order in common.
    """
    with db.transaction():
        db.execute(
            FILL,
            {
                "type": OrderCounted.type,
                "version": OrderCounted.version,
                "topic": topic,
                "events": events,
                "series": series,
                "keys": keys,
                "skus": SKUS,
            },
        )
        db.execute("NOTIFY outbox")


@dataclass(frozen=True)
class Passage:
    """How events went through the outbox."""

    events: int
    # From the commit that wrote them until the last one had left.
    seconds: float
    # … until the event of that number had left, for each of the numbers asked for.
    marks: dict[int, float]
    # CPU time of the relays, from the commit on.
    cpu_seconds: float

    @property
    def rate(self) -> float:
        return self.events / self.seconds


def pass_through(
    db: psycopg.Connection[Any],
    workers: Sequence[Worker],
    topic: str,
    events: int,
    *,
    marks: Sequence[int] = (),
    series: str = "order",
) -> Passage:
    """Write events to the outbox in one transaction, and return how the running relays got rid of them.

    The relays are up and connected before: what is measured begins with the commit, for ours and for any other.
    """
    # However wrong the statistics are, looking must cost next to nothing.
    db.execute("SET enable_seqscan = off")
    db.execute("SET enable_sort = off")
    fill(db, topic, events, series=series)
    started_at, cpu_before = time.perf_counter(), sum(worker.cpu_seconds() for worker in workers)
    [last] = db.execute("SELECT last_value FROM outbox_outboxevent_id_seq").fetchone() or [0]
    pending = {last - events + mark: mark for mark in marks}
    gone: dict[int, float] = {}
    while True:
        here = db.execute("SELECT id FROM outbox_outboxevent WHERE id = ANY(%s)", (list(pending),)).fetchall()
        newest = db.execute("SELECT id FROM outbox_outboxevent ORDER BY id DESC LIMIT 1").fetchone()
        seconds = time.perf_counter() - started_at
        for row_id in pending.keys() - {row_id for (row_id,) in here}:
            gone[pending.pop(row_id)] = seconds
        for worker in workers:
            worker.watch()
        if newest is None:
            break
        time.sleep(WATCH_SECONDS)
    return Passage(events, seconds, gone, sum(worker.cpu_seconds() for worker in workers) - cpu_before)
