"""The consumer beside bare loops: with a handler for many events, and with a handler for each."""

import time
from dataclasses import dataclass

from benchmarks import backlog, tables
from benchmarks.bench import Bench, Installation
from benchmarks.consumers import BULK, SINGLE
from benchmarks.processes import Worker
from benchmarks.report import Report, ratio

PART = "consumer"
# One at a time is so slow that a tenth is enough to know its rate.
SINGLE_SHARE = 10
WATCH_SECONDS = 0.005
STALLED_SECONDS = 60.0


@dataclass(frozen=True)
class Way:
    """A way to consume, ours or a baseline's, and the share of the events that is enough to measure it."""

    name: str
    group: str
    share: int
    baseline: str = ""

    def start(self, place: Installation) -> Worker:
        """Start it as a member of a group of its own."""
        if self.baseline:
            arguments = ["-m", "benchmarks.baselines.consumer", self.baseline, place.prefix + self.name, place.topic]
        else:
            arguments = ["manage.py", "run_consumer", self.group]
        return place.start(f"consumer-{self.name.replace(' ', '-')}", arguments)


BULK_BASELINE = Way("bare set-based SQL", BULK, 1, baseline="bulk")
BULK_OURS = Way("ours, in bulk", BULK, 1)
SINGLE_BASELINE = Way("a transaction per message, psycopg", SINGLE, SINGLE_SHARE, baseline="single")
SINGLE_DJANGO = Way("a transaction per message, Django", SINGLE, SINGLE_SHARE, baseline="django")
SINGLE_OURS = Way("ours, one at a time", SINGLE, SINGLE_SHARE)


def run(bench: Bench, report: Report, events: int) -> None:
    """Measure the rates of all ways."""
    titles = {
        "Consumer, in bulk": (BULK_BASELINE, BULK_OURS),
        "Consumer, one at a time": (SINGLE_BASELINE, SINGLE_DJANGO, SINGLE_OURS),
    }
    every_way = [way for ways in titles.values() for way in ways]
    rates: dict[str, list[float]] = {way.name: [] for way in every_way}
    costs: dict[str, list[float]] = {way.name: [] for way in every_way}
    for number in range(bench.rounds):
        for ways in titles.values():
            for way in ways if number % 2 else reversed(ways):
                rate, cpu_seconds = once(bench, way, max(1, events // way.share))
                rates[way.name].append(rate)
                costs[way.name].append(1e6 * cpu_seconds)
                bench.say(f"{way.name}: {rate:,.0f} events/s")

    for title, ways in titles.items():
        for way in ways:
            report.add(PART, way.name, "events/s", rates[way.name], group=title)
            report.add(PART, f"{way.name}: CPU", "µs/event", costs[way.name])
    bulk = ratio(rates[BULK_OURS.name], rates[BULK_BASELINE.name])
    report.aim(PART, "bulk handler's rate by that of bare set-based SQL", bulk, at_least=0.7)
    for baseline in (SINGLE_BASELINE, SINGLE_DJANGO):
        single = ratio(rates[SINGLE_OURS.name], rates[baseline.name])
        report.aim(PART, f"one-at-a-time handler's rate by that of {baseline.name}", single, at_least=1.5)


def once(bench: Bench, way: Way, events: int) -> tuple[float, float]:
    """Return how many events a second a fresh process applies, and its CPU time for one.

    Both from its first batch to its last.
    """
    with bench.installation() as place:
        backlog.empty(bench.db)
        with place.baseline("relay") as relays:
            backlog.pass_through(bench.db, relays, place.topic, events)
        tables.empty(bench.db)
        with way.start(place) as worker:
            first, began_at = wait_for(bench, worker, 1)
            cpu_before = worker.cpu_seconds()
            _, ended_at = wait_for(bench, worker, events)
            cpu_seconds = worker.cpu_seconds() - cpu_before
            check(bench, worker, events)
    measured = events - first
    return measured / (ended_at - began_at), cpu_seconds / measured


def wait_for(bench: Bench, worker: Worker, reservations: int) -> tuple[int, float]:
    """Block until so many reservations were made. Return how many there are, and when that was."""
    seen, seen_at = 0, time.perf_counter()
    while True:
        found = bench.db.execute(tables.PROGRESS).fetchone()
        now = time.perf_counter()
        made = found[0] if found else 0
        if made >= reservations:
            return made, now
        if made > seen:
            seen, seen_at = made, now
        elif now - seen_at > STALLED_SECONDS:
            raise TimeoutError(f"{worker.name} has made {made} of {reservations} reservations and makes no more")
        worker.watch()
        time.sleep(WATCH_SECONDS)


def check(bench: Bench, worker: Worker, events: int) -> None:
    """Wait for the last commit; raises RuntimeError unless each event was applied once, with all its effects."""
    end = time.monotonic() + STALLED_SECONDS
    while True:
        effects = bench.db.execute(
            "SELECT (SELECT count(*) FROM bench_reservation), (SELECT count(DISTINCT (order_id, number))"
            " FROM bench_reservation), (SELECT count(*) FROM outbox_inboxevent),"
            " (SELECT count(*) FROM outbox_outboxevent WHERE event_type = 'bench.order_reserved')"
        ).fetchone()
        if effects == (events,) * 4:
            return
        if time.monotonic() > end:
            raise RuntimeError(f"{worker.name} has applied {events} events as {effects}")
        time.sleep(0.1)
