"""publish(): in the transaction, or not at all."""

import json

import psycopg
import pytest
from django.db import connection, transaction

from outbox import InvalidEvent, OutsideTransaction, Topic, publish
from outbox.models import OutboxEvent
from outbox.tests.declared import declare
from outbox.tests.sample import ThingClosed, ThingCounted


def test_writes_each_event_in_the_order_given_with_one_statement(db, django_assert_num_queries):
    events = [ThingCounted(thing=f"t{n}", number=n) for n in range(50)]

    with django_assert_num_queries(1):
        publish(*events)

    rows = list(OutboxEvent.objects.all())
    assert [row.event_id for row in rows] == [event.event_id for event in events]
    assert {(row.topic, row.event_type, row.event_version) for row in rows} == {("thing-events", "thing.counted", 1)}
    assert bytes(rows[3].key) == b"t3"
    assert json.loads(bytes(rows[3].value))["data"] == {"thing": "t3", "number": 3, "note": ""}


@pytest.mark.django_db(transaction=True)
def test_raises_outside_a_transaction_and_writes_nothing():
    with pytest.raises(OutsideTransaction):
        publish(ThingClosed(thing="a"))

    assert not OutboxEvent.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_is_undone_with_its_transaction():
    with pytest.raises(RuntimeError), transaction.atomic():
        publish(ThingClosed(thing="a"))
        raise RuntimeError

    assert not OutboxEvent.objects.exists()


def test_refuses_what_kafka_would_refuse_and_writes_nothing(db):
    with pytest.raises(InvalidEvent, match="more than Kafka takes"):
        publish(ThingClosed(thing="a"), ThingCounted(thing="a", number=1, note="x" * 950_000))

    assert not OutboxEvent.objects.exists()


def test_refuses_what_the_topic_of_an_event_is_declared_to_refuse(db):
    narrow = declare(topic=Topic("narrow-events", max_message_bytes=1_000), note=str)
    publish(narrow(thing="a", note="x" * 300))

    with pytest.raises(InvalidEvent, match="more than Kafka takes"):
        publish(narrow(thing="a", note="x" * 1_000))

    assert OutboxEvent.objects.count() == 1


def test_refuses_an_event_that_does_not_fit_its_class(db):
    with pytest.raises(InvalidEvent):
        publish(ThingCounted(thing="a", number="many"))

    assert not OutboxEvent.objects.exists()


def test_holds_text_with_a_nul(db):
    publish(ThingClosed(thing="a\0b"))

    assert bytes(OutboxEvent.objects.get().key) == b"a\0b"


def test_publishing_nothing_asks_the_database_nothing(db, django_assert_num_queries):
    with django_assert_num_queries(0):
        publish()


@pytest.fixture
def notified(transactional_db):
    """A function that counts the NOTIFYs since it was called last."""
    parameters = {**connection.get_connection_params(), "cursor_factory": None, "autocommit": True}
    with psycopg.connect(**parameters) as listener:
        listener.execute("LISTEN outbox")
        yield lambda: len(list(listener.notifies(timeout=0.3)))


def publish_one_by_one(number: int) -> None:
    for index in range(number):
        with transaction.atomic():
            publish(ThingCounted(thing="a", number=index))


def test_wakes_the_relay_but_not_with_every_one_of_many_commits(notified, settings):
    settings.OUTBOX = {**settings.OUTBOX, "NOTIFY_INTERVAL_MS": 60_000}
    with connection.cursor() as cursor:
        cursor.execute("SELECT setval('outbox_notified', 1)")

    publish_one_by_one(10)

    assert notified() == 1


def test_wakes_the_relay_with_every_commit_where_no_interval_is_set(notified, settings):
    settings.OUTBOX = {**settings.OUTBOX, "NOTIFY_INTERVAL_MS": 0}

    publish_one_by_one(10)

    assert notified() == 10


def test_wakes_nobody_where_notify_is_off(notified, settings):
    settings.OUTBOX = {**settings.OUTBOX, "NOTIFY": False, "NOTIFY_INTERVAL_MS": 0}

    publish_one_by_one(3)

    assert notified() == 0


def test_wakes_the_relay_though_the_clock_was_set_back(notified):
    with connection.cursor() as cursor:
        cursor.execute("SELECT setval('outbox_notified', 4102444800000)")

    publish_one_by_one(1)

    assert notified() == 1
