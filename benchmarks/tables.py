"""What the benchmarks' handlers write, ours and the baselines': a reservation for each event, and the stock's level."""

from typing import Any

import psycopg

from benchmarks.backlog import SKUS

CREATE = """
    CREATE TABLE bench_level (sku text PRIMARY KEY, reserved bigint NOT NULL);
    CREATE TABLE bench_order (order_id text PRIMARY KEY, number int NOT NULL);
    CREATE TABLE bench_reservation (
        id bigserial PRIMARY KEY, order_id text NOT NULL, number int NOT NULL, sku text NOT NULL, quantity int NOT NULL
    );
"""
EMPTY = """
    TRUNCATE bench_level, bench_order, bench_reservation, outbox_outboxevent, outbox_inboxevent, failed_messages,
             outbox_parkedevent, outbox_consumergroup RESTART IDENTITY CASCADE
"""
STOCK = "INSERT INTO bench_level SELECT 'SKU-' || lpad(n::text, 4, '0'), 0 FROM generate_series(0, %s) AS n"

# The effect of many events, in one statement. Levels are locked in SKU order, so that two batches cannot deadlock.
RESERVE_MANY = """
    WITH incoming AS (
        SELECT * FROM unnest(%s::text[], %s::int[], %s::text[], %s::int[]) AS r (order_id, number, sku, quantity)
    ), written AS (
        INSERT INTO bench_reservation (order_id, number, sku, quantity) SELECT * FROM incoming
    ), locked AS (
        SELECT sku FROM bench_level WHERE sku IN (SELECT sku FROM incoming) ORDER BY sku FOR UPDATE
    )
    UPDATE bench_level SET reserved = reserved + taken.quantity
    FROM (SELECT sku, sum(quantity) AS quantity FROM incoming JOIN locked USING (sku) GROUP BY sku) AS taken
    WHERE bench_level.sku = taken.sku
"""
# The effect of one, in two, as a service would have it.
TAKE_ONE = "UPDATE bench_level SET reserved = reserved + %s WHERE sku = %s"
RESERVE_ONE = "INSERT INTO bench_reservation (order_id, number, sku, quantity) VALUES (%s, %s, %s, %s)"

# Reservations made so far, committed or not: a sequence is read in no time, however many there are.
PROGRESS = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM bench_reservation_id_seq"


def create(db: psycopg.Connection[Any]) -> None:
    """Create the tables of the handlers."""
    db.execute(CREATE)


def empty(db: psycopg.Connection[Any]) -> None:
    """Make all tables as new, so that every event is a fresh one."""
    db.execute(EMPTY)
    db.execute(STOCK, (SKUS - 1,))
    db.execute("CHECKPOINT")
