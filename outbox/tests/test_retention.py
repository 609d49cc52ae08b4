"""Forgetting what need not be remembered: whole weeks of the inbox, and solved dead letters."""

from datetime import UTC, datetime, timedelta
from io import StringIO
from threading import Event, Thread
from uuid import UUID, uuid4

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource
from django.core.management import call_command
from django.db import connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from outbox import retention
from outbox.consuming.applying import Applier
from outbox.kafka import admin_client, topic_name
from outbox.management.commands.apply_retention import Command
from outbox.models import ConsumerGroup, FailedMessage, InboxEvent
from outbox.retention import WEEK, apply, lowest_id
from outbox.tests.processes import wait_until
from outbox.tests.records import record_of
from outbox.tests.sample import THING, ThingCounted

pytestmark = pytest.mark.django_db

NOW = timezone.now()


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Wait less for consumers that do not stand aside."""
    monkeypatch.setattr(retention, "LOCK_SECONDS", 0.1)
    monkeypatch.setattr(retention, "PAUSE_SECONDS", 0.1)


def remember(event_id, *, applied_at=NOW, group="sample"):
    return InboxEvent.objects.create(
        consumer_group=group,
        event_id=event_id,
        event_type="thing.counted",
        topic="t",
        partition=0,
        offset=0,
        applied_at=applied_at,
    )


def made(ago: timedelta) -> UUID:
    """Return a UUIDv7 of an event that was made so long ago."""
    return UUID(int=lowest_id(NOW - ago).int | 7 << 76 | 2 << 62)


def partition_of(event_id) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM outbox_inboxevent WHERE event_id = %s", [event_id])
        return cursor.fetchone()[0]


def weeks() -> list[datetime]:
    return list(retention._partitions().values())


def letter(number, status, solved_at):
    return FailedMessage.objects.create(
        consumer_group="sample",
        topic="t",
        partition=0,
        offset=number,
        error_class="E",
        error="",
        status=status,
        created_at=NOW - timedelta(days=90),
        processed_at=solved_at,
    )


def test_an_event_is_remembered_in_the_partition_of_its_week():
    event = ThingCounted(thing="a", number=1)
    Applier("sample", pause=lambda seconds: None).apply([record_of(event)])

    monday = event.occurred_at.date() - timedelta(days=event.occurred_at.weekday())
    assert partition_of(event.event_id) == f"outbox_inboxevent_{monday:%Y%m%d}"


def test_ids_that_tell_no_time_are_remembered_too_and_once():
    event_id = uuid4()
    remember(event_id)

    assert partition_of(event_id) == "outbox_inboxevent_default"
    assert InboxEvent.objects.get(event_id=event_id).pk == (event_id, "sample")


def test_weeks_have_partitions_long_before_they_begin():
    assert max(weeks()) > NOW + 7 * WEEK

    assert apply(now=NOW).added == []
    later = apply(now=NOW + 5 * WEEK)

    assert len(later.added) == 5
    assert max(weeks()) > NOW + 12 * WEEK
    remember(made(-10 * WEEK))
    assert partition_of(made(-10 * WEEK)) in later.added


def test_a_week_is_dropped_when_all_of_it_is_older_than_the_retention():
    young, old = made(timedelta(days=29)), made(timedelta(days=38))
    remember(young)
    with connection.cursor() as cursor:
        week = datetime(2020, 1, 6, tzinfo=UTC)
        retention._add(cursor, f"outbox_inboxevent_{week:%Y%m%d}", week)
        ancient = lowest_id(week)
    remember(ancient)

    forgotten = apply(now=NOW)

    assert "outbox_inboxevent_20200106" in forgotten.dropped
    assert [entry.event_id for entry in InboxEvent.objects.all()] == [young]
    assert min(weeks()) + WEEK > NOW - timedelta(days=30, hours=1)
    # What comes after all goes to the default partition.
    remember(old)
    assert InboxEvent.objects.filter(event_id=old).exists()


def test_the_default_partition_forgets_by_what_tells_the_age(monkeypatch):
    monkeypatch.setattr(retention, "BATCH_SIZE", 2)
    before = NOW - timedelta(days=31)
    kept = {uuid4() for _ in range(5)} | {made(-timedelta(days=400))}
    gone = {uuid4() for _ in range(5)} | {made(timedelta(days=400))}
    for event_id in kept:
        # An event of a clock that is ahead is not too old to come again, whenever it was applied.
        remember(event_id, applied_at=before if event_id.version == 7 else NOW)
    for event_id in gone:
        remember(event_id, applied_at=before)

    assert apply(now=NOW).entries == 6

    assert {entry.event_id for entry in InboxEvent.objects.all()} == kept


def test_a_group_knows_from_when_on_its_inbox_is_whole():
    ConsumerGroup.objects.create(name="sample")
    remember(made(timedelta(days=100)), applied_at=NOW - timedelta(days=99))
    remember(made(timedelta(days=1)), group="other")
    remember(uuid4(), group="third")

    apply(now=NOW)

    before = dict(ConsumerGroup.objects.values_list("name", "forgotten_before"))
    assert before == {"sample": NOW - timedelta(days=30, hours=1)}
    apply(now=NOW + 8 * WEEK)
    before = dict(ConsumerGroup.objects.values_list("name", "forgotten_before"))
    assert before["sample"] == NOW - timedelta(days=30, hours=1)
    assert NOW - timedelta(days=1) < before["other"] < NOW + WEEK
    assert "third" in before


def test_solved_letters_are_forgotten_and_open_ones_never(monkeypatch):
    monkeypatch.setattr(retention, "BATCH_SIZE", 2)
    old, young = NOW - timedelta(days=31), NOW - timedelta(days=29)
    kept = [letter(1, "PENDING", None), letter(2, "FAILED", None), letter(3, "PROCESSED", young)]
    for number in range(10, 15):
        letter(number, "PROCESSED", old)
        letter(number + 10, "DISCARDED", old)

    assert apply(now=NOW).letters == 10

    assert list(FailedMessage.objects.order_by("id")) == kept


def test_weeks_that_came_before_their_partition_stay_where_they_are_and_nothing_is_lost():
    late = made(-11 * WEEK)
    remember(late)

    forgotten = apply(now=NOW + 11 * WEEK)

    (waiting,) = forgotten.waiting
    assert partition_of(late) == "outbox_inboxevent_default"
    assert waiting not in retention._partitions()
    # And it is forgotten in its time.
    InboxEvent.objects.filter(event_id=late).update(applied_at=NOW + 11 * WEEK)
    assert apply(now=NOW + 12 * WEEK).entries == 0
    assert apply(now=NOW + 17 * WEEK).entries == 1


@pytest.mark.django_db(transaction=True)
def test_waits_for_no_consumer_for_long_and_tries_again_later(at_once):
    applying, done = Event(), Event()

    def consume():
        with transaction.atomic():
            remember(made(timedelta(0)))
            applying.set()
            done.wait(30)
        connection.close()

    consumer = Thread(target=consume)
    consumer.start()
    applying.wait(30)
    with transaction.atomic():
        later = NOW + 7 * WEEK
        forgotten = apply(now=later)
        # Adding needs no one to stand aside who writes to a week of its own.
        assert (len(forgotten.added), forgotten.dropped != []) == (7, False)
        done.set()
        consumer.join()
        assert sorted(apply(now=later).dropped) == sorted(forgotten.waiting)
        transaction.set_rollback(True)


@pytest.mark.django_db(transaction=True)
def test_one_at_a_time_applies_it(at_once):
    held, done = Event(), Event()

    def hold():
        with retention._alone() as alone:
            held.set()
            done.wait(30)
            return alone

    def attempt():
        held.wait(30)
        try:
            return apply(now=NOW), call()
        finally:
            done.set()

    assert at_once(hold, attempt) == [True, (None, "another one is at it\n")]


def call() -> str:
    out = StringIO()
    # Not by its name, under which a project may do more.
    call_command(Command(), stdout=out, stderr=StringIO())
    return out.getvalue()


def test_the_command_says_what_it_did(kafka, monkeypatch):
    letter(1, "PROCESSED", NOW - timedelta(days=31))
    assert "deleted 1 failed messages" in call()


def test_the_command_warns_of_a_topic_that_kafka_keeps_for_longer(kafka):
    client = admin_client()
    change = ConfigResource(
        ConfigResource.Type.TOPIC,
        topic_name(THING),
        incremental_configs=[ConfigEntry("retention.ms", "-1", incremental_operation=AlterConfigOpType.SET)],
    )
    client.incremental_alter_configs([change])[change].result()
    wait_until(retention.kept_longer)
    err = StringIO()

    call_command(Command(), stdout=StringIO(), stderr=err)

    assert f"Kafka keeps {topic_name(THING)} for ever, the inbox remembers 30 days" in err.getvalue()


def test_the_inbox_can_be_made_whole_again_and_back(transactional_db):
    known = [remember(made(timedelta(days=1))).event_id, remember(uuid4()).event_id]

    def migrate(name):
        executor = MigrationExecutor(connection)
        executor.migrate([("outbox", name)])

    leaf = MigrationExecutor(connection).loader.graph.leaf_nodes("outbox")[0][1]
    try:
        migrate("0003_sharing_parking_groups")
        with connection.cursor() as cursor:
            cursor.execute("SELECT event_id FROM outbox_inboxevent ORDER BY id")
            assert sorted(cursor.fetchall()) == sorted((event_id,) for event_id in known)
    finally:
        migrate(leaf)

    assert sorted(entry.event_id for entry in InboxEvent.objects.all()) == sorted(known)
