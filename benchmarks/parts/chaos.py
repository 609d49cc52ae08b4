"""Relays and consumers killed in turn under load, engines stopped and started: is each event applied once, in order?

Writers count up orders and publish each number in the same transaction, so the table of orders says what must have
been applied, also of a commit whose answer got lost.
"""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from threading import Event

from benchmarks import tables, topics
from benchmarks.bench import Bench, Installation
from benchmarks.consumers import BULK
from benchmarks.events import OrderCounted
from benchmarks.processes import Worker
from benchmarks.report import Report

PART = "chaos"
RELAYS, CONSUMERS, WRITERS = 2, 3, 2
KILL_EVERY_SECONDS = 1.0
# Orders of a writer, how many it counts up in a transaction, and its pause after one.
ORDERS, ORDERS_AT_ONCE, WRITER_PAUSE_SECONDS = 200, 20, 0.1
# How long nothing may happen after the last kill, with something left to be applied.
STALLED_SECONDS = 90.0
# How the engines that devstack runs are asked to stop, and after which share of the time. It starts them again.
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


class Crew:
    """The processes that are killed, and started anew as a supervisor would."""

    def __init__(self, place: Installation) -> None:
        self._place = place
        self._commands = {
            **{f"chaos-relay-{number + 1}": ["relay_outbox"] for number in range(RELAYS)},
            **{f"chaos-consumer-{number + 1}": ["run_consumer", BULK] for number in range(CONSUMERS)},
        }
        self._workers: dict[str, Worker] = {}
        self._turns = cycle(self._commands)
        # How many were killed, and how many ended by themselves.
        self.kills = self.ends = 0

    def __enter__(self) -> "Crew":
        for name in self._commands:
            self._start(name)
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.stop()

    def kill_next(self) -> None:
        """Kill the one whose turn it is, and start it anew."""
        name = next(self._turns)
        self._workers[name].kill()
        self.kills += 1
        self._start(name)

    def revive(self) -> None:
        """Start anew whoever ended by itself."""
        for name, worker in list(self._workers.items()):
            if worker.has_ended:
                self.ends += 1
                self._start(name)

    def _start(self, name: str) -> None:
        # A consumer that comes back under its old name gets its partitions back at once (KIP-345). With new names, and
        # three killed more often than Kafka believes one dead, the group would divide partitions all the time, and
        # apply nothing that a kill could interrupt.
        self._workers[name] = self._place.start(
            name, ["manage.py", *self._commands[name]], KAFKA_CONSUMER=f"group.instance.id={name}"
        )


@dataclass(frozen=True)
class Counts:
    """How far things are: events published, applications of them, events applied at least once, rows not sent."""

    published: int
    applied: int
    distinct: int
    unsent: int


def run(bench: Bench, report: Report, seconds: int) -> None:
    """Kill for so many seconds, let all come to rest, and count."""
    tables.empty(bench.db)
    with bench.installation() as place:
        with Crew(place) as crew:
            with under_load():
                before = wait_until_at_work(bench)
                kill_in_turn(bench, crew, seconds)
            bench.reconnect()
            under_fire = counts(bench)
            rest = wait_for_rest(bench, crew)
        orders, followers = topics.count(place.topic), topics.count(place.followers)
    [out_of_order] = bench.db.execute(OUT_OF_ORDER).fetchone() or [-1]
    [letters] = bench.db.execute("SELECT count(*) FROM failed_messages").fetchone() or [-1]

    report.add(PART, "events published under fire", "events", [rest.published - before.published])
    report.add(PART, "processes killed", "processes", [crew.kills])
    report.add(PART, "processes that ended by themselves", "processes", [crew.ends])
    report.add(PART, "records that came twice", "records", [orders.repeated + followers.repeated])
    lost = rest.distinct - followers.distinct + rest.unsent
    # Kills that hit nobody at work would say nothing.
    report.aim(PART, "events applied under fire", under_fire.applied - before.applied, at_least=1)
    report.aim(PART, "events never applied", rest.published - rest.distinct, at_most=0)
    report.aim(PART, "events applied twice", rest.applied - rest.distinct, at_most=0)
    report.aim(PART, "events applied out of their order", out_of_order, at_most=0)
    report.aim(PART, "events out of their order in Kafka", orders.violations + followers.violations, at_most=0)
    report.aim(PART, "handlers' events that did not reach Kafka", lost, at_most=0)
    report.aim(PART, "dead letters, of which there must be none", letters, at_most=0)


def kill_in_turn(bench: Bench, crew: Crew, seconds: int) -> None:
    """Kill one process after the other for so long, and stop each engine once."""
    begin = time.monotonic()
    engines = {name: begin + seconds * share for name, (_, share) in ENGINES.items()}
    while time.monotonic() - begin < seconds:
        time.sleep(KILL_EVERY_SECONDS)
        crew.revive()
        crew.kill_next()
        for name in [name for name, at in engines.items() if time.monotonic() > at]:
            del engines[name]
            stop_engine(bench, name)


def stop_engine(bench: Bench, name: str) -> None:
    """Stop an engine that devstack brought up for us; one of somebody else's is left alone."""
    state = os.environ.get("DEVSTACK_STATE")
    pid = Path(state, "pids", name) if state else None
    if pid is None or not pid.exists():
        bench.say(f"{name} is not ours to stop")
        return
    os.kill(int(pid.read_text()), ENGINES[name][0])
    bench.say(f"{name} stopped")


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


def wait_until_at_work(bench: Bench) -> Counts:
    """Block until the first events are applied. Return how far things are then."""
    end = time.monotonic() + STALLED_SECONDS
    while True:
        now = counts(bench)
        if now.applied:
            return now
        if time.monotonic() > end:
            raise TimeoutError(f"nothing is applied: {now}")
        time.sleep(0.1)


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
