"""Where the benchmarks run: a database of their own, topics of their own, and the processes that work on them."""

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from confluent_kafka.admin import AdminClient, NewTopic
from rich.console import Console

from benchmarks.processes import CHECKOUT, Worker

RESULTS = CHECKOUT / "benchmarks" / "results"
PARTITIONS = 6
TIMEOUT_SECONDS = 30.0


@dataclass
class Bench:
    """What every part gets."""

    console: Console
    # A connection of our own to the benchmarks' database.
    db: psycopg.Connection[Any]
    rounds: int
    admin: AdminClient
    logs: Path = RESULTS / "log"

    def say(self, text: str) -> None:
        """Tell the person who waits what is going on."""
        self.console.print(f"  {text}", style="dim", highlight=False)

    def reconnect(self) -> None:
        """Get a new connection to the database, which was stopped meanwhile."""
        self.db.close()
        self.db = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)

    @contextmanager
    def installation(self, topics: Sequence[str] = ()) -> Iterator["Installation"]:
        """Give an installation in Kafka with topics that nobody has written to, deleted at the end.

        `topics` are their names without the prefix, if not those of the benchmarks' own events.
        """
        from django.conf import settings

        from benchmarks.consumers import BULK, SINGLE
        from benchmarks.events import ORDERS, RESERVATIONS

        prefix = f"bench-{uuid.uuid4().hex[:8]}-"
        settings.OUTBOX["PREFIX"] = prefix
        names = [prefix + name for name in topics or (ORDERS.name, RESERVATIONS.name, f"{BULK}-dlq", f"{SINGLE}-dlq")]
        new = [NewTopic(name, PARTITIONS, 1) for name in names]
        for created in self.admin.create_topics(new, operation_timeout=TIMEOUT_SECONDS).values():
            created.result()
        try:
            yield Installation(self, prefix, topic=names[0])
        finally:
            for deleted in self.admin.delete_topics(names, operation_timeout=TIMEOUT_SECONDS).values():
                deleted.result()


@dataclass(frozen=True)
class Installation:
    """One installation: its prefix in Kafka, and the full name of its topic of orders."""

    bench: Bench
    prefix: str
    topic: str

    @property
    def followers(self) -> str:
        """The full name of the topic of what the handlers publish."""
        from benchmarks.events import RESERVATIONS

        return self.prefix + RESERVATIONS.name

    @property
    def environment(self) -> dict[str, str]:
        """What its processes find in their environment."""
        return {"KAFKA_PREFIX": self.prefix}

    def start(self, name: str, arguments: Sequence[str], **environment: str) -> Worker:
        """Start a process of this installation."""
        return Worker(name, arguments, {**self.environment, **environment}, self.bench.logs)

    @contextmanager
    def relays(self, number: int = 1) -> Iterator[list[Worker]]:
        """Run so many of our relays, as a person would start them, until the block ends."""
        with ExitStack() as running:
            yield [
                running.enter_context(self.start(f"relay-{place + 1}", ["manage.py", "relay_outbox"]))
                for place in range(number)
            ]

    @contextmanager
    def baseline(self, name: str, *arguments: str) -> Iterator[list[Worker]]:
        """Run one of the loops in benchmarks.baselines until the block ends."""
        with self.start(f"baseline-{name}", ["-m", f"benchmarks.baselines.{name}", *arguments]) as worker:
            yield [worker]


@contextmanager
def prepared(console: Console, rounds: int) -> Iterator[Bench]:
    """Create a database, with Orderbox' tables and the benchmarks', and drop it at the end.

    Sets this process' environment, and Django up.
    """
    with new_database() as url:
        os.environ["DATABASE_URL"] = url
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
        _set_up()
        admin = AdminClient({"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"], "log_level": 2})
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db:
            from benchmarks import tables

            tables.create(db)
            yield Bench(console, db, rounds, admin)


@contextmanager
def new_database() -> Iterator[str]:
    """Create an empty database where DATABASE_URL points, give its URL, and drop it at the end."""
    given = os.environ["DATABASE_URL"]
    name = f"bench_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(given, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')
    try:
        yield urlunsplit(urlsplit(given)._replace(path=f"/{name}"))
    finally:
        with psycopg.connect(given, autocommit=True) as server:
            server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def _set_up() -> None:
    import django
    from django.core.management import call_command
    from django.db import connections

    django.setup()
    call_command("migrate", verbosity=0)
    connections.close_all()
