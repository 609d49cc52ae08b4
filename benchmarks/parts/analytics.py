"""The projections of analytics, beside a handler that does the same for one event at a time; and a rebuild of them."""

import os
import time
from collections.abc import Sequence
from io import StringIO
from typing import Any

from confluent_kafka import Producer
from django.core.management import call_command

from benchmarks.bench import Bench, Installation
from benchmarks.consumers import ONE_BY_ONE
from benchmarks.processes import Worker
from benchmarks.report import Report, ratio
from benchmarks.stories import Record, records

PART = "analytics"
GROUP = "analytics"
# One at a time is so slow that a twentieth of the events is enough to know its rate.
SINGLE_SHARE = 20
WATCH_SECONDS = 0.05
STALLED_SECONDS = 60.0
FLUSH_SECONDS = 60.0

EMPTY = """
    TRUNCATE analytics_orderfact, analytics_sales, analytics_funnel, analytics_productsales, analytics_activity,
             outbox_inboxevent, failed_messages, outbox_parkedevent, outbox_consumergroup RESTART IDENTITY CASCADE
"""
# Every event is counted here.
COUNTED = "SELECT coalesce(sum(count), 0) FROM analytics_activity"
# Over the shards, which depend on who has counted.
SUMS = (
    "SELECT hour, currency, sum(orders), sum(units), sum(revenue), sum(refunds) FROM analytics_sales GROUP BY 1, 2",
    """
    SELECT hour, sum(created), sum(reserved), sum(completed), sum(reserved_and_completed), sum(cancelled_out_of_stock),
           sum(cancelled_payment_failed), sum(cancelled_customer), sum(cancelled_timeout), sum(created_to_reserved_us),
           sum(reserved_to_completed_us), sum(created_to_completed_us), sum(created_to_cancelled_us)
    FROM analytics_funnel GROUP BY 1
    """,
    "SELECT hour, sku, currency, sum(units), sum(revenue) FROM analytics_productsales GROUP BY 1, 2, 3",
    "SELECT hour, event_type, sum(count) FROM analytics_activity GROUP BY 1, 2",
    "SELECT * FROM analytics_orderfact",
)


def run(bench: Bench, report: Report, events: int) -> None:
    """Measure both in turns, and let ours build it all again."""
    told = records(events)
    few = told[: max(1, events // SINGLE_SHARE)]
    topics = sorted({record.topic for record in told})
    ours: list[float] = []
    single: list[float] = []
    rebuilt: list[float] = []
    costs: list[float] = []
    differences = 0
    for number in range(bench.rounds):
        for way in (GROUP, ONE_BY_ONE) if number % 2 else (ONE_BY_ONE, GROUP):
            with bench.installation(topics) as place:
                put(place, told if way == GROUP else few)
                bench.db.execute(EMPTY)
                bench.db.execute("CHECKPOINT")
                with place.start(f"{PART}-{way}", ["manage.py", "run_consumer", way]) as worker:
                    if way == ONE_BY_ONE:
                        single.append(follow(bench, worker, len(few))[0])
                        bench.say(f"one at a time: {single[-1]:,.0f} events/s")
                        continue
                    rate, cpu_seconds = follow(bench, worker, events)
                    ours.append(rate)
                    costs.append(1e6 * cpu_seconds)
                    rate, different = rebuild(bench, worker, events)
                    rebuilt.append(rate)
                    differences += different
                    bench.say(f"in bulk: {ours[-1]:,.0f} events/s, rebuilt at {rate:,.0f} events/s")

    title = "Analytics"
    report.add(PART, "ours, in bulk", "events/s", ours, group=title)
    report.add(PART, "ours, in bulk: CPU", "µs/event", costs)
    report.add(PART, "ours, a rebuild", "events/s", rebuilt, group=title)
    report.add(PART, "the same rule, one at a time", "events/s", single, group=title)
    report.aim(PART, "bulk handlers' rate by that of one event at a time", ratio(ours, single), at_least=10)
    report.aim(PART, "rows that a rebuild makes another", differences)


def put(place: Installation, told: Sequence[Record]) -> None:
    """Write records to Kafka, each where the relay would have written it."""
    failed: list[Any] = []
    producer = Producer(
        {
            "bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"],
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "linger.ms": 10,
            "queue.buffering.max.messages": len(told) + 1,
            "on_delivery": lambda error, message: failed.append(error) if error else None,
        }
    )
    for record in told:
        producer.produce(place.prefix + record.topic, record.value, record.key, headers=record.headers)
    if producer.flush(FLUSH_SECONDS) or failed:
        raise RuntimeError(f"Kafka did not take the events: {failed[:1]}")


def follow(bench: Bench, worker: Worker, events: int) -> tuple[float, float]:
    """Return how many events a second a member counts, and its CPU time for one.

    Both from its first batch to its last.
    """
    first, began_at = wait_for(bench, worker, 1)
    cpu_before = worker.cpu_seconds()
    last, ended_at = wait_for(bench, worker, events)
    if last != events:
        raise RuntimeError(f"{worker.name} has counted {events} events as {last}")
    measured = events - first
    return measured / (ended_at - began_at), (worker.cpu_seconds() - cpu_before) / measured


def rebuild(bench: Bench, worker: Worker, events: int) -> tuple[float, int]:
    """Build all again while the member runs. Return its rate, and how many rows are others than before."""
    before = sums(bench)
    call_command("replay_events", GROUP, "--rebuild", stdout=StringIO())
    rate, _ = follow(bench, worker, events)
    return rate, len(before ^ sums(bench))


def sums(bench: Bench) -> set[tuple[Any, ...]]:
    """Return all rows of all sums, each with the number of its table."""
    return {(table, *row) for table, query in enumerate(SUMS) for row in bench.db.execute(query)}


def wait_for(bench: Bench, worker: Worker, events: int) -> tuple[int, float]:
    """Block until so many events are counted. Return how many are, and when that was."""
    seen, seen_at = 0, time.perf_counter()
    while True:
        found = bench.db.execute(COUNTED).fetchone()
        now = time.perf_counter()
        counted = int(found[0]) if found else 0
        if counted >= events:
            return counted, now
        if counted != seen:
            seen, seen_at = counted, now
        elif now - seen_at > STALLED_SECONDS:
            raise TimeoutError(f"{worker.name} has counted {counted} of {events} events and counts no more")
        worker.watch()
        time.sleep(WATCH_SECONDS)
