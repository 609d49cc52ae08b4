"""One, two and four relays on one backlog: how much faster, and is each order's order kept?"""

import time
from collections.abc import Sequence

from benchmarks import backlog, topics
from benchmarks.bench import Bench
from benchmarks.parts.relay import WARM_UP_EVENTS
from benchmarks.processes import Worker
from benchmarks.report import Report, ratio
from outbox.relay.shares import BUCKETS, LOCKS

PART = "several relays"
RELAYS = (1, 2, 4)
# How long the relays may take to divide the keys among themselves.
DIVIDE_SECONDS = 30.0

# How many keys' buckets each relay holds: every one has a lock of each, and one more that says that it is there.
HELD = """
    SELECT count(*) FILTER (WHERE objid < %s) FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND classid = %s
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    GROUP BY pid
"""


def run(bench: Bench, report: Report, events: int) -> None:
    """Measure rates, and read what reached Kafka."""
    rates: dict[int, list[float]] = {number: [] for number in RELAYS}
    total = topics.Count()
    for _ in range(bench.rounds):
        for number in RELAYS:
            rate, found = once(bench, number, events)
            rates[number].append(rate)
            total.distinct += found.distinct
            total.repeated += found.repeated
            total.violations += found.violations
            bench.say(f"{number} relays: {rate:,.0f} events/s, {found}")

    for number, found_rates in rates.items():
        report.add(PART, f"ours, {number} relay{'s' * (number > 1)}", "events/s", found_rates, group="Several relays")
    for number in RELAYS[1:]:
        report.add(PART, f"{number} relays by one", "×", [ratio(rates[number], rates[1])])
    report.add(PART, "records that came twice", "records", [total.repeated])
    expected = bench.rounds * len(RELAYS) * (events + WARM_UP_EVENTS)
    report.aim(PART, "events that did not reach Kafka", expected - total.distinct, at_most=0)
    report.aim(PART, "events out of their order", total.violations, at_most=0)


def once(bench: Bench, number: int, events: int) -> tuple[float, topics.Count]:
    """Return the rate of so many relays together, and what they have written."""
    backlog.empty(bench.db)
    with bench.installation() as place, place.relays(number) as workers:
        wait_until_divided(bench, workers)
        # Of other orders than those that are measured, since they begin to count anew.
        backlog.pass_through(bench.db, workers, place.topic, WARM_UP_EVENTS, series="warm-up")
        passage = backlog.pass_through(bench.db, workers, place.topic, events)
        return passage.rate, topics.count(place.topic)


def wait_until_divided(bench: Bench, relays: Sequence[Worker]) -> None:
    """Block until each of the relays has its share of the keys."""
    end = time.monotonic() + DIVIDE_SECONDS
    while True:
        held = [number for (number,) in bench.db.execute(HELD, (BUCKETS, LOCKS))]
        if len(held) == len(relays) and min(held) >= BUCKETS // len(relays):
            return
        if time.monotonic() > end:
            raise TimeoutError(f"{len(relays)} relays have not divided the keys: {held}")
        for worker in relays:
            worker.watch()
        time.sleep(0.05)
