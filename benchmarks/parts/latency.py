"""From the commit of one event to a Kafka consumer that has it: ours beside a bare LISTEN loop."""

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import Event, Thread
from typing import Any

from confluent_kafka import Consumer

from benchmarks import backlog, topics
from benchmarks.bench import Bench, Installation
from benchmarks.events import OrderCounted
from benchmarks.parts.relay import WARM_UP_EVENTS
from benchmarks.processes import Worker
from benchmarks.report import Report, ratio

PART = "latency"
EVENTS_PER_SECOND = 100
# Events before those that count.
WARM_UP = 50
# How long the last event may be under way.
ARRIVAL_SECONDS = 20.0

Start = Callable[[Installation], AbstractContextManager[list[Worker]]]


def run(bench: Bench, report: Report, seconds: int) -> None:
    """Publish events one by one at a modest rate, and see how soon each arrives."""
    ways: dict[str, Start] = {
        "bare LISTEN loop": lambda place: place.baseline("listener"),
        "ours": lambda place: place.relays(),
    }
    medians: dict[str, list[float]] = {name: [] for name in ways}
    slowest: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(bench.rounds):
        for name in sorted(ways, reverse=bool(number % 2)):
            found = once(bench, ways[name], seconds * EVENTS_PER_SECOND)
            medians[name].append(1_000 * statistics.median(found))
            slowest[name].append(1_000 * statistics.quantiles(found, n=100)[-1])
            bench.say(f"{name}: p50 {medians[name][-1]:.1f} ms, p99 {slowest[name][-1]:.1f} ms")

    for name in ways:
        report.add(PART, f"{name}: p50", "ms", medians[name], group="Commit to consumer")
        report.add(PART, f"{name}: p99", "ms", slowest[name], group="Commit to consumer")
    median = ratio(medians["ours"], medians["bare LISTEN loop"])
    report.aim(PART, "p50 by that of the bare LISTEN loop", median, at_most=2)


def once(bench: Bench, start: Start, events: int) -> list[float]:
    """Return the time in seconds that each event took from its commit to the consumer."""
    backlog.empty(bench.db)
    with bench.installation() as place, start(place) as workers:
        backlog.pass_through(bench.db, workers, place.topic, WARM_UP_EVENTS)
        arrivals = Arrivals(topics.reader(place.topic, at_end=True)[0])
        with arrivals:
            committed = publish_slowly(WARM_UP + events)
            arrivals.wait_for(committed)
        for worker in workers:
            worker.watch()
    return [arrivals.seen[event_id] - committed[event_id] for event_id in list(committed)[WARM_UP:]]


def publish_slowly(events: int) -> dict[str, float]:
    """Publish events one by one, and return by id when the commit of each was done."""
    from django.db import connection, transaction

    from outbox import publish

    committed: dict[str, float] = {}
    begin = time.perf_counter()
    for number in range(events):
        time.sleep(max(0.0, begin + number / EVENTS_PER_SECOND - time.perf_counter()))
        event = OrderCounted(order_id=f"slow-{number}", number=1, sku="SKU-0001", quantity=1, note="x" * 40)
        with transaction.atomic():
            publish(event)
        committed[str(event.event_id)] = time.perf_counter()
    connection.close()
    return committed


class Arrivals:
    """Takes note of when each event arrives, until the block ends."""

    def __init__(self, consumer: Consumer) -> None:
        self.seen: dict[str, float] = {}
        self._consumer, self._done = consumer, Event()
        self._thread = Thread(target=self._read)

    def __enter__(self) -> "Arrivals":
        # The first poll is what connects it.
        self._consumer.poll(0.2)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._consumer.close()

    def wait_for(self, expected: dict[str, float]) -> None:
        """Block until all expected events are there."""
        end = time.monotonic() + ARRIVAL_SECONDS
        while missing := expected.keys() - self.seen.keys():
            if time.monotonic() > end:
                raise TimeoutError(f"{len(missing)} events did not arrive")
            time.sleep(0.05)

    def _read(self) -> None:
        while not self._done.is_set():
            message = self._consumer.poll(0.1)
            if message is None:
                continue
            now = time.perf_counter()
            headers: dict[str, Any] = dict(message.headers() or [])
            self.seen.setdefault(headers["event-id"].decode(), now)
