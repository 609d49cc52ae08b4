"""Members of a group as threads of the test's own process, so that a test can look into them."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

from django.db import connections

from outbox import conf
from outbox.consuming.consumer import Consumer
from outbox.events import encode
from outbox.kafka import admin_client
from outbox.tests.records import headers_of
from outbox.tests.sample import ThingCounted
from outbox.worker import Stop


@contextmanager
def member(group: str = "sample", **options) -> Iterator[Consumer]:
    """Run a consumer while the block runs. What it raises fails the test."""
    stop = Stop()
    consumer = Consumer(group, stop=stop, **options)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            consumer.run()
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    thread = Thread(target=run)
    thread.start()
    try:
        yield consumer
    finally:
        stop.request()
        thread.join(20)
        assert not thread.is_alive()
        assert errors == []


def consume(group: str = "sample", **options) -> None:
    """Apply what is there."""
    Consumer(group, stop=Stop(), until_idle=True, **options).run()


def members_of(group: str) -> int:
    """Return how many members a group has, as Kafka sees it."""
    # Kept in a variable: a client that is gone answers nothing.
    client = admin_client()
    name = conf.get("PREFIX") + group
    return len(client.describe_consumer_groups([name])[name].result(10).members)


def as_put(event) -> tuple:
    return event.key.encode(), encode(event), headers_of(event)


def events(numbers: range, keys: int = 10) -> list[ThingCounted]:
    """Return an event for each number, of as many keys in turn."""
    return [ThingCounted(thing=f"t{n % keys}", number=n) for n in numbers]


def in_order_once(rows: list[tuple], numbers: range, keys: int = 10) -> None:
    """Check that rows are those of `events`, each once and each key's in order."""
    assert len(rows) == len(numbers)
    for key in range(keys):
        assert [n for subject, n in rows if subject == f"t{key}"] == [n for n in numbers if n % keys == key]
