"""The fault proof: relays and consumers are killed in turn under load, and afterwards everything is counted.

Needs Django set up, a migrated database of its own and an installation of its own in Kafka, with its topics.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from subprocess import Popen
from threading import Event, Thread

from django.db import Error, connection, connections, transaction

from outbox import publish
from outbox.models import OutboxEvent
from outbox.tests.processes import running, terminate, wait_until
from outbox.tests.sample import ThingCounted

# How many aggregates the load is about, and how many events are in one of its transactions.
KEYS, EVENTS = 50, 20
PAUSE_SECONDS = 0.02
# How long what is left may take, once nobody is killed any more.
DRAIN_SECONDS = 120.0

TABLES = """
    DROP TABLE IF EXISTS sample_effect, sample_published;
    CREATE TABLE sample_effect (id bigserial, subject text, number int);
    CREATE TABLE sample_published (subject text, number int);
"""
MISSING = "SELECT subject, number FROM sample_published EXCEPT SELECT subject, number FROM sample_effect"
INVENTED = "SELECT subject, number FROM sample_effect EXCEPT SELECT subject, number FROM sample_published"
DOUBLED = "SELECT subject, number FROM sample_effect GROUP BY subject, number HAVING count(*) > 1"
DISORDERED = """
    SELECT subject, number
    FROM (SELECT *, lag(number) OVER (PARTITION BY subject ORDER BY id) AS before FROM sample_effect) AS effects
    WHERE before > number
"""


@dataclass(frozen=True)
class Outcome:
    """What was found: of the lists, (subject, number) of each event concerned."""

    published: int
    applied: int
    killed: int
    missing: list[tuple[str, int]]
    invented: list[tuple[str, int]]
    doubled: list[tuple[str, int]]
    disordered: list[tuple[str, int]]

    @property
    def is_good(self) -> bool:
        return self.published == self.applied and not (self.missing or self.invented or self.doubled or self.disordered)


def chaos(
    seconds: float,
    *,
    relays: int = 2,
    consumers: int = 3,
    kill_every_seconds: float = 1.0,
    disturb: Callable[[float], None] = lambda elapsed: None,
) -> Outcome:
    """Kill one process after the other for `seconds`, each with SIGKILL and replaced at once; count what came of it.

    `disturb` is called after each kill, with the seconds since the beginning: for what else shall go wrong.
    """
    with connection.cursor() as cursor:
        cursor.execute(TABLES)
    commands = [("relay_outbox",)] * relays + [("run_consumer", "sample", "--batch-size=50")] * consumers
    with ExitStack() as left:
        processes = [left.enter_context(running(*command)) for command in commands]
        with load():
            wait_until(lambda: rows("SELECT FROM sample_effect LIMIT 1"), 60)
            began = time.monotonic()
            for killed in count():
                elapsed = time.monotonic() - began
                if elapsed > seconds:
                    break
                victim = killed % len(processes)
                replace(processes, victim, left.enter_context(running(*commands[victim])))
                disturb(elapsed)
                time.sleep(kill_every_seconds)
        wait_until(is_drained, DRAIN_SECONDS)
        for process in processes:
            assert terminate(process) == 0
    return Outcome(
        published=len(rows("SELECT FROM sample_published")),
        applied=len(rows("SELECT FROM sample_effect")),
        killed=killed,
        missing=rows(MISSING),
        invented=rows(INVENTED),
        doubled=rows(DOUBLED),
        disordered=rows(DISORDERED),
    )


def replace(processes: list[Popen], victim: int, heir: Popen) -> None:
    processes[victim].kill()
    processes[victim].wait(10)
    processes[victim] = heir


def is_drained() -> bool:
    """Return whether all that was published is applied, and all that came of it is in Kafka."""
    try:
        return not OutboxEvent.objects.exists() and not rows(f"{MISSING} LIMIT 1")
    except Error:
        # Our connection, too, may be what was disturbed.
        connection.close()
        return False


def rows(query: str) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


@contextmanager
def load() -> Iterator[None]:
    """Publish while the block runs, and write down, in the same transaction, what."""
    enough = Event()

    def run() -> None:
        numbers = count()
        while not enough.wait(PAUSE_SECONDS):
            # Of a number whose commit is not certain there is no second try: its own row tells what became of it.
            numbered = [(f"t{number % KEYS}", number) for number in (next(numbers) for _ in range(EVENTS))]
            try:
                publish_noted(numbered)
            except Error:
                connection.close()
        connections.close_all()

    thread = Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()


def publish_noted(numbered: list[tuple[str, int]]) -> None:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO sample_published VALUES (%s, %s)", numbered)
        publish(*(ThingCounted(thing=subject, number=number) for subject, number in numbered))
