"""The rows that wait, as one relay reads them."""

import time
from collections.abc import Iterator

import psycopg
import pytest
from django.db import connection, transaction

from outbox import publish
from outbox.database import connection_parameters
from outbox.kafka import topic_name
from outbox.models import BUCKETS
from outbox.relay.backlog import Backlog
from outbox.tests.sample import SMALL, ThingClosed, ThingShrunk


@pytest.fixture
def backlog(transactional_db) -> Iterator[Backlog]:
    """A backlog that reads two rows at a time."""
    with psycopg.connect(**{**connection_parameters(connection), "autocommit": True}) as db:
        yield Backlog(db, batch_size=2)


def read(backlog: Backlog) -> list[str]:
    """Return the keys of the next rows."""
    rows, _ = backlog.read(range(BUCKETS), [])
    return [row[5].decode() for row in rows]


def test_a_topic_that_has_rested_goes_on_from_its_first_row(backlog):
    with transaction.atomic():
        others = [ThingClosed(thing=f"t{n}") for n in range(4)]
        publish(ThingShrunk(thing="first", note=""), *others, ThingShrunk(thing="second", note=""))
    backlog.rest(topic_name(SMALL))

    assert read(backlog) == ["t0", "t1"]
    now = time.monotonic()
    # The rest is over, and the next look from the front is not due yet.
    backlog._swept_at = now + 3600
    backlog._resting[topic_name(SMALL)] = (now, 2.0)

    assert read(backlog) == ["first", "t2"]
    assert read(backlog) == ["t3", "second"]
