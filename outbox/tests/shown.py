"""A projection for the tests of this app. Its handler can be slow."""

import time

from django.db import connection

from outbox import consumer_group, handles
from outbox.tests.sample import ThingCounted

# By subject, how many seconds its events take.
delays: dict[str, float] = {}


def make_table() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS sample_shown")
        cursor.execute("CREATE TABLE sample_shown (id bigserial, subject text, number int)")


def shown() -> list[tuple[str, int]]:
    """Return the projection: (subject, number) rows in the order in which they were written."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT subject, number FROM sample_shown ORDER BY id")
        return cursor.fetchall()


def clear() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM sample_shown")


consumer_group("shown", clear=clear)


@handles(ThingCounted, group="shown", bulk=True)
def show(events: list[ThingCounted]) -> None:
    for event in events:
        time.sleep(delays.get(event.thing, 0))
    # In one statement, since PostgreSQL takes no process for hung that stands still amid the pipeline of executemany.
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO sample_shown (subject, number) SELECT * FROM unnest(%s::text[], %s::int[])",
            ([event.thing for event in events], [event.number for event in events]),
        )
