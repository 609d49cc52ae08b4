"""Relays and consumers killed in turn under load, engines stopped and started: is each event applied once, in order?

Writers count up orders and publish each number in the same transaction, so the table of orders says what must have
been applied, also of a commit whose answer got lost. A kill proves something only if it hits somebody at work, so each
process is left alone until it was: a slow machine makes the run longer, not empty. tests/test_chaos.py runs the short
form.
"""

import math
import os
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from threading import Event

from benchmarks import tables, topics
from benchmarks.bench import Bench
from benchmarks.crew import AT_WORK_EVENTS, STALLED_SECONDS, Crew, applied, work_noted
from benchmarks.events import OrderCounted
from benchmarks.report import Report

PART = "chaos"
KILL_EVERY_SECONDS = 1.0
# Writers, the orders of each, how many it counts up in a transaction, and its pause after one.
WRITERS, ORDERS, ORDERS_AT_ONCE, WRITER_PAUSE_SECONDS = 2, 200, 20, 0.1
# How the engines that devstack runs are asked to stop, and after which share of the kills. It starts them again.
ENGINES = {"kafka": (signal.SIGTERM, 1 / 3), "postgres": (signal.SIGINT, 2 / 3)}

COUNT_UP = "UPDATE bench_order SET number = number + 1 WHERE order_id = ANY(%s) RETURNING order_id, number"
COUNTS = """
    SELECT (SELECT coalesce(sum(number), 0) FROM bench_order),
           (SELECT count(*) FROM bench_reservation),
           (SELECT count(DISTINCT (order_id, number)) FROM bench_reservation),
           (SELECT count(*) FROM outbox_outboxevent)
"""
OUT_OF_ORDER = """
    SELECT count(*)
    FROM (
        SELECT number, lag(number, 1, 0) OVER (PARTITION BY order_id ORDER BY id) AS before FROM bench_reservation
    ) AS steps
    WHERE number <> before + 1
"""


@dataclass
class Engine:
    """An engine that devstack keeps running: when it ends, it is started again, and its pid is written anew."""

    name: str
    pid_file: Path
    stop_signal: signal.Signals
    share: float
    stopped_at: float = math.inf

    @property
    def is_up(self) -> bool:
        return self.pid_file.exists()

    def stop(self) -> None:
        """Ask it to stop, as at a restart of its machine."""
        self.stopped_at = time.time()
        os.kill(int(self.pid_file.read_text()), self.stop_signal)

    @property
    def back_at(self) -> float:
        """When it was started after its stop; infinity: it was not."""
        with suppress(FileNotFoundError):
            started_at = self.pid_file.stat().st_mtime
            if started_at > self.stopped_at:
                return started_at
        return math.inf


@dataclass(frozen=True)
class Counts:
    """How far things are: events published, applications of them, events applied at least once, rows not sent."""

    published: int
    applied: int
    distinct: int
    unsent: int


def run(bench: Bench, report: Report, seconds: int) -> None:
    """Kill one process for each of so many seconds, let all come to rest, and count."""
    tables.empty(bench.db)
    with bench.installation() as place, work_noted(bench):
        with Crew(place) as crew:
            with under_load():
                under_fire = kill_in_turn(bench, crew, seconds)
            rest = wait_for_rest(bench, crew)
        orders, followers = topics.count(place.topic), topics.count(place.followers)
    [out_of_order] = bench.db.execute(OUT_OF_ORDER).fetchone() or [-1]
    [letters] = bench.db.execute("SELECT count(*) FROM failed_messages").fetchone() or [-1]

    report.add(PART, "events published", "events", [rest.published])
    report.add(PART, "processes that ended by themselves", "processes", [crew.ends])
    report.add(PART, "records that came twice", "records", [orders.repeated + followers.repeated])
    lost = rest.distinct - followers.distinct + rest.unsent
    # Without these the others would say nothing.
    report.aim(PART, "processes killed", len(crew.kills), at_least=seconds)
    report.aim(
        PART, "events that each victim had sent or applied, the fewest", min(crew.kills), at_least=AT_WORK_EVENTS
    )
    report.aim(PART, "engines stopped and started", len(under_fire) - 1, at_least=len(ENGINES))
    for since, number in under_fire.items():
        report.aim(PART, f"events applied under fire since {since}", number, at_least=AT_WORK_EVENTS)
    report.aim(PART, "events never applied", rest.published - rest.distinct, at_most=0)
    report.aim(PART, "events applied twice", rest.applied - rest.distinct, at_most=0)
    report.aim(PART, "events applied out of their order", out_of_order, at_most=0)
    report.aim(PART, "events out of their order in Kafka", orders.violations + followers.violations, at_most=0)
    report.aim(PART, "handlers' events that did not reach Kafka", lost, at_most=0)
    report.aim(PART, "dead letters, of which there must be none", letters, at_most=0)


def kill_in_turn(bench: Bench, crew: Crew, kills: int) -> dict[str, int]:
    """Kill so many processes, one after the other, and stop each engine once, which comes back while this goes on.

    Return how many events were applied since the first kill, and since the return of each engine.
    """
    crew.kill_next()
    first_kill_at = time.time()
    engines, stopped = our_engines(bench), []
    for turn in range(1, kills):
        for engine in engines:
            if turn == int(kills * engine.share):
                engine.stop()
                stopped.append(engine)
                bench.say(f"{engine.name} stopped")
        time.sleep(KILL_EVERY_SECONDS)
        crew.kill_next()
    for engine in stopped:
        crew.wait_until(partial(is_overcome, bench, engine), f"nothing is applied after a stop of {engine.name}")
    return {
        "the first kill": applied(bench, since=first_kill_at),
        **{f"{engine.name} was back": applied(bench, since=engine.back_at) for engine in stopped},
    }


def is_overcome(bench: Bench, engine: Engine) -> bool:
    """Return whether an engine has come back after its stop, and events were applied since."""
    return applied(bench, since=engine.back_at) >= AT_WORK_EVENTS


def our_engines(bench: Bench) -> list[Engine]:
    """Return the engines that devstack brought up for us; those of somebody else are left alone."""
    state = os.environ.get("DEVSTACK_STATE")
    engines = [Engine(name, Path(state, "pids", name), *how) for name, how in ENGINES.items()] if state else []
    ours = [engine for engine in engines if engine.is_up]
    bench.say(f"engines that are ours to stop: {', '.join(engine.name for engine in ours) or 'none'}")
    return ours


@contextmanager
def under_load() -> Iterator[None]:
    """Let writers publish events until the block ends."""
    done = Event()
    with ThreadPoolExecutor(WRITERS) as pool:
        writers = [pool.submit(write, f"writer-{number}", done) for number in range(WRITERS)]
        try:
            yield
        finally:
            done.set()
        for writer in writers:
            writer.result()


def write(name: str, done: Event) -> None:
    """Count up orders of this writer's own and publish each step; PostgreSQL's absence is waited out."""
    from django.db import DatabaseError, InterfaceError, connection

    orders = [f"{name}-{number:04}" for number in range(ORDERS)]
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO bench_order SELECT unnest(%s::text[]), 0", (orders,))
    turns = cycle(range(0, ORDERS, ORDERS_AT_ONCE))
    while not done.wait(WRITER_PAUSE_SECONDS):
        turn = next(turns)
        try:
            count_up(orders[turn : turn + ORDERS_AT_ONCE])
        except (DatabaseError, InterfaceError):
            with suppress(DatabaseError, InterfaceError):
                connection.close()
    connection.close()


def count_up(orders: Sequence[str]) -> None:
    """Count up some orders and tell of it, in one transaction."""
    from django.db import connection, transaction

    from outbox import publish

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(COUNT_UP, (list(orders),))
        publish(
            *(
                OrderCounted(order_id=order_id, number=number, sku=f"SKU-{number % 20:04}", quantity=1, note="x" * 40)
                for order_id, number in cursor.fetchall()
            )
        )


def counts(bench: Bench) -> Counts:
    """Return how far things are."""
    found = bench.db.execute(COUNTS).fetchone()
    assert found is not None
    return Counts(*(int(number) for number in found))


def wait_for_rest(bench: Bench, crew: Crew) -> Counts:
    """Block until all is applied and sent, or nothing happens any more. Return how far things are then."""
    before, changed_at = counts(bench), time.monotonic()
    while True:
        now = counts(bench)
        if now.published == now.distinct and now.unsent == 0:
            return now
        if now != before:
            before, changed_at = now, time.monotonic()
        elif time.monotonic() - changed_at > STALLED_SECONDS:
            bench.say(f"nothing more happens: {now}")
            return now
        crew.revive()
        time.sleep(0.5)
