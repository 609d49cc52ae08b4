"""The processes that the part `chaos` kills: started anew as a supervisor would, and killed only when they are at work.

PostgreSQL knows each of them by a name of its own, and notes how many events it has sent or applied.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import cycle

import psycopg

from benchmarks.bench import Bench, Installation
from benchmarks.consumers import BULK
from benchmarks.processes import Worker

RELAY, CONSUMER = "chaos-relay", "chaos-consumer"
RELAYS, CONSUMERS = 2, 3
# What a process must have sent or applied before it is killed.
AT_WORK_EVENTS = 50
# How long something may be waited for.
STALLED_SECONDS = 90.0

# A relay deletes what it has sent, a consumer's handler inserts a reservation for each event.
NOTE_WORK = """
    CREATE TABLE bench_work (worker text NOT NULL, events bigint NOT NULL, at timestamptz NOT NULL);
    CREATE FUNCTION note_work() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO bench_work
            SELECT current_setting('application_name'), count(*), clock_timestamp() FROM changed HAVING count(*) > 0;
            RETURN NULL;
        END
    $$;
    CREATE TRIGGER note_work AFTER DELETE ON outbox_outboxevent
        REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_work();
    CREATE TRIGGER note_work AFTER INSERT ON bench_reservation
        REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_work();
"""
NOTE_NO_MORE = "DROP TABLE bench_work; DROP FUNCTION note_work CASCADE"
WORK = "SELECT worker, sum(events)::bigint FROM bench_work WHERE at > to_timestamp(%s) GROUP BY worker"


class Crew:
    """Relays and members of one consumer group. As a context they run until its end."""

    def __init__(self, place: Installation) -> None:
        self._place = place
        self._commands = {
            **{f"{RELAY}-{number + 1}": ["relay_outbox"] for number in range(RELAYS)},
            **{f"{CONSUMER}-{number + 1}": ["run_consumer", BULK] for number in range(CONSUMERS)},
        }
        self._workers: dict[str, Worker] = {}
        # How often each was started, which makes the name by which PostgreSQL knows it; and what that one has done, as
        # far as we have seen: PostgreSQL may be away.
        self._lives: Counter[str] = Counter()
        self._seen: dict[str, int] = {}
        self._turns = cycle(self._commands)
        # Of each kill, how many events the victim had sent or applied since its start; how many ended by themselves.
        self.kills: list[int] = []
        self.ends = 0

    def __enter__(self) -> "Crew":
        for name in self._commands:
            self._start(name)
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.stop()

    def kill_next(self) -> None:
        """Kill the one whose turn it is, as soon as it is at work, and start it anew."""
        name = next(self._turns)
        self.wait_until(lambda: self._work_of(name) >= AT_WORK_EVENTS, f"{name} does nothing")
        self.kills.append(self._work_of(name))
        self._workers[name].kill()
        self._start(name)

    def wait_until(self, happened: Callable[[], bool], trouble: str) -> None:
        """Block until something has happened, and start anew whoever ends by itself. Raises TimeoutError."""
        end = time.monotonic() + STALLED_SECONDS
        while not happened():
            if time.monotonic() > end:
                raise TimeoutError(f"{trouble} for {STALLED_SECONDS:.0f} s")
            self.revive()
            time.sleep(0.1)

    def revive(self) -> None:
        """Start anew whoever ended by itself."""
        for name, worker in list(self._workers.items()):
            if worker.has_ended:
                self.ends += 1
                self._start(name)

    def _work_of(self, name: str) -> int:
        self._seen |= work(self._place.bench)
        return self._seen.get(self._title(name), 0)

    def _title(self, name: str) -> str:
        return f"{name} #{self._lives[name]}"

    def _start(self, name: str) -> None:
        self._lives[name] += 1
        # A consumer that comes back under its old name gets its partitions back at once (KIP-345). With new names, and
        # three killed more often than Kafka believes one dead, the group would divide partitions all the time, and
        # apply nothing that a kill could interrupt.
        self._workers[name] = self._place.start(
            name,
            ["manage.py", *self._commands[name]],
            KAFKA_CONSUMER=f"group.instance.id={name}",
            PGAPPNAME=self._title(name),
        )


def applied(bench: Bench, *, since: float) -> int:
    """Return how many events were applied since a time."""
    return sum(events for worker, events in work(bench, since=since).items() if worker.startswith(CONSUMER))


def work(bench: Bench, *, since: float = 0.0) -> dict[str, int]:
    """Return how many events each process has sent or applied since a time; nothing while PostgreSQL is away."""
    try:
        return dict(bench.db.execute(WORK, (since,)).fetchall())
    except psycopg.OperationalError:
        with suppress(psycopg.OperationalError):
            bench.reconnect()
        return {}


@contextmanager
def work_noted(bench: Bench) -> Iterator[None]:
    """Note in bench_work who has sent or applied how many events, until the block ends."""
    bench.db.execute(NOTE_WORK)
    yield
    bench.db.execute(NOTE_NO_MORE)
