"""What the handlers of a batch publish: by one statement, and only what their savepoints left."""

from contextlib import suppress
from contextvars import copy_context
from random import Random
from threading import Thread

import pytest
from django.db import connection, transaction

from outbox import publish
from outbox.consuming.gathering import gathering
from outbox.models import OutboxEvent
from outbox.tests.sample import ThingClosed, ThingCounted
from outbox.transactions import database

pytestmark = pytest.mark.django_db(transaction=True)

# Django's savepoints, and those that are written by hand: one name in each spelling that means the same.
SET = ("SAVEPOINT one", 'SAVEPOINT "one"', "savepoint ONE", "\n  SAVEPOINT two")
KEEP = ("RELEASE one", "RELEASE SAVEPOINT two", 'release savepoint "one"')
UNDO = ("ROLLBACK TO one", "ROLLBACK TO SAVEPOINT two", "rollback work to One", 'ROLLBACK TRANSACTION TO "two"')


def published() -> list[int]:
    return [int(bytes(key or b"")) for key in OutboxEvent.objects.values_list("key", flat=True)]


def test_what_many_calls_publish_is_written_by_one_statement_in_their_order(django_assert_num_queries):
    with transaction.atomic(), django_assert_num_queries(1), gathering(database()):
        for number in range(20):
            publish(ThingClosed(thing=str(number)))

    assert published() == list(range(20))


def test_what_is_published_afterwards_is_written_at_once():
    with transaction.atomic():
        with gathering(database()):
            publish(ThingClosed(thing="1"))
            assert published() == []
        assert published() == [1]
        publish(ThingClosed(thing="2"))
        assert published() == [1, 2]


def test_nothing_is_written_of_a_block_that_raises():
    with transaction.atomic():
        with pytest.raises(RuntimeError), gathering(database()):
            publish(ThingClosed(thing="1"))
            raise RuntimeError
        publish(ThingClosed(thing="2"))

    assert published() == [2]


def test_a_block_that_is_undone_takes_along_what_it_published():
    with transaction.atomic(), gathering(database()):
        publish(ThingClosed(thing="1"))
        with pytest.raises(RuntimeError), transaction.atomic():
            publish(ThingClosed(thing="2"))
            with transaction.atomic():
                publish(ThingClosed(thing="3"))
            raise RuntimeError
        with transaction.atomic():
            publish(ThingClosed(thing="4"))

    assert published() == [1, 4]


def test_going_back_to_before_the_first_event_leaves_none():
    with transaction.atomic():
        before = transaction.savepoint()
        with gathering(database()):
            publish(ThingClosed(thing="1"))
            transaction.savepoint()
            publish(ThingClosed(thing="2"))
            transaction.savepoint_rollback(before)
            publish(ThingClosed(thing="3"))

    assert published() == [3]


def test_another_connection_has_its_own_transaction():
    def publish_and_fail() -> None:
        with suppress(RuntimeError), transaction.atomic():
            publish(ThingClosed(thing="1"))
            raise RuntimeError
        connection.close()

    with transaction.atomic(), gathering(database()):
        # As asgiref's threads do.
        thread = Thread(target=copy_context().run, args=(publish_and_fail,))
        thread.start()
        thread.join()
        publish(ThingClosed(thing="2"))

    assert published() == [2]


@pytest.mark.parametrize("seed", range(30))
def test_leaves_what_postgresql_leaves(seed):
    chance = Random(seed)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE left_over (id serial, number int)")
    try:
        with transaction.atomic():
            with gathering(database()), connection.cursor() as cursor:
                for statement in (*SET, "SAVEPOINT two"):
                    cursor.execute(statement)
                open_names = ["one", "one", "one", "two", "two"]
                for number in range(60):
                    open_names = act(chance, number, open_names)
            with connection.cursor() as cursor:
                cursor.execute("SELECT number FROM left_over ORDER BY id")
                left = [number for (number,) in cursor.fetchall()]
            assert published() == left
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS left_over")


def act(chance: Random, number: int, names: list[str]) -> list[str]:
    """Publish, or set, keep or undo a savepoint; return the names of those that are set then."""
    statements = {statement: statement.lower().replace('"', "").split()[-1] for statement in (*SET, *KEEP, *UNDO)}
    statement = chance.choice([*SET, *KEEP, *UNDO, *[None] * 8])
    with connection.cursor() as cursor:
        if statement is None:
            cursor.execute("INSERT INTO left_over (number) VALUES (%s)", (number,))
            publish(ThingCounted(thing=str(number), number=number))
            return names
        name = statements[statement]
        if statement in SET:
            cursor.execute(statement)
            return [*names, name]
        if name not in names:
            return names
        cursor.execute(statement)
        place = len(names) - 1 - names[::-1].index(name)
        return names[: place + (statement in UNDO)]
