"""What /metrics tells of the engines at the moment it is asked."""

import logging
import time
from threading import Thread

import pytest
from django.db import connection, transaction

from outbox import publish
from outbox.events import encode
from outbox.models import ConsumerGroup, FailedMessage, OutboxEvent, ParkedEvent
from outbox.relay.alarm import Alarm
from outbox.tests.records import headers_of
from outbox.tests.sample import THING, ThingClosed, ThingCounted
from outbox.watching import gauges
from outbox.watching.gauges import Gauges, measure

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def asked():
    """Return a function that gives the value of each sample: by name, or by (name, *values of its labels)."""
    with Gauges() as asked:

        def ask():
            return samples(asked)

        yield ask


def samples(source) -> dict:
    found = {}
    for metric in source.collect():
        for sample in metric.samples:
            labels = tuple(sample.labels.values())
            found[(sample.name, *labels) if labels else sample.name] = sample.value
    return found


def age_outbox(seconds: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE outbox_outboxevent SET created_at = now() - %s * interval '1 s'", (seconds,))


def test_tells_what_waits_to_be_sent_and_sounds_the_alarm(asked):
    found = asked()
    assert found["outbox_postgresql_up"] == 1
    assert found["outbox_unpublished_events"] == 0
    assert found["outbox_oldest_unpublished_age_seconds"] == 0
    assert found["outbox_unpublished_alarm"] == 0

    with transaction.atomic():
        publish(ThingClosed(thing="a"), ThingClosed(thing="b"))
    age_outbox(59)
    assert asked()["outbox_unpublished_alarm"] == 0
    age_outbox(61)

    found = asked()
    assert found["outbox_unpublished_events"] == 2
    assert 61 <= found["outbox_oldest_unpublished_age_seconds"] < 90
    assert found["outbox_unpublished_alarm"] == 1


def test_counts_a_backlog_up_to_a_limit(monkeypatch, asked):
    monkeypatch.setattr(gauges, "COUNT_LIMIT", 3)
    with transaction.atomic():
        publish(*(ThingClosed(thing="a") for _ in range(5)))

    assert asked()["outbox_unpublished_events"] == 3


def test_tells_open_letters_parked_keys_and_halts_by_group(asked):
    now = "2026-01-01T00:00:00Z"
    place = {"consumer_group": "sample", "topic": "t", "partition": 0, "event_type": "thing.counted"}
    for offset, status in enumerate(["PENDING", "FAILED", "FAILED", "PROCESSED", "DISCARDED"]):
        FailedMessage.objects.create(
            **place, offset=offset, error_class="E", error="", status=status, created_at=now, processed_at=now
        )
    for offset, key in enumerate([b"a", b"a", b"b"]):
        ParkedEvent.objects.create(**place, offset=offset, key=key, value=b"", event_id="0" * 32, parked_at=now)
    ConsumerGroup.objects.create(name="sample", halted_at=now)
    ConsumerGroup.objects.create(name="orders")

    found = asked()

    assert found["outbox_dead_letters", "sample", "PENDING"] == 1
    assert found["outbox_dead_letters", "sample", "FAILED"] == 2
    assert found["outbox_parked_events", "sample"] == 3
    assert found["outbox_parked_keys", "sample"] == 2
    assert found["outbox_group_halted", "sample"] == 1
    # A series that is there from the start is one that an alarm can rest on.
    assert found["outbox_dead_letters", "relay", "FAILED"] == 0
    assert found["outbox_group_halted", "orders"] == found["outbox_group_halted", "stock"] == 0


def test_tells_how_long_a_transaction_keeps_dead_rows(asked, at_once):
    def hold():
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM outbox_outboxevent")
            time.sleep(1)
            return asked()["outbox_oldest_snapshot_age_seconds"]

    [age] = at_once(hold)
    assert age >= 1


def test_asks_over_one_connection_and_a_new_one_when_it_broke():
    with Gauges() as asked:
        first = samples(asked)
        pid = asked._db.info.backend_pid
        samples(asked)
        assert asked._db.info.backend_pid == pid
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        assert samples(asked) == {"outbox_postgresql_up": 0}
        assert samples(asked).keys() == first.keys()


def test_a_database_that_hangs_costs_a_moment_and_is_told_of(monkeypatch):
    monkeypatch.setattr(gauges, "WAIT_SECONDS", 0.3)
    with Gauges() as asked:
        samples(asked)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("LOCK TABLE outbox_outboxevent IN ACCESS EXCLUSIVE MODE")
            answers = []
            askers = [Thread(target=lambda: answers.append(samples(asked))) for _ in range(3)]
            for asker in askers:
                asker.start()
            for asker in askers:
                asker.join()
            assert answers == [{"outbox_postgresql_up": 0}] * 3
        # The statement ends by its own limit, if not before.
        end = time.monotonic() + 10
        while samples(asked)["outbox_postgresql_up"] == 0:
            assert time.monotonic() < end


def test_a_database_that_is_away_leaves_the_rest(monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")

    def ask():
        with Gauges() as asked:
            return samples(asked)

    assert ask() == {"outbox_postgresql_up": 0}


def test_tells_the_lag_of_the_workers_own_group(kafka):
    events = [ThingCounted(thing="a", number=number) for number in range(3)]
    kafka.put(THING, *((event.key.encode(), encode(event), headers_of(event)) for event in events))

    with Gauges(group="sample") as asked:
        found = samples(asked)

    records = {key[3]: value for key, value in found.items() if key[0] == "outbox_consumer_lag_records"}
    seconds = {key[3]: value for key, value in found.items() if key[0] == "outbox_consumer_lag_seconds"}
    assert found["outbox_kafka_up"] == 1
    assert sorted(records.values()) == [0, 0, 3]
    assert sorted(value > 0 for value in seconds.values()) == [False, False, True]


def test_kafka_that_is_away_leaves_the_rest(settings, monkeypatch):
    monkeypatch.setattr(gauges, "WAIT_SECONDS", 0.5)
    settings.OUTBOX = {**settings.OUTBOX, "KAFKA": {"bootstrap.servers": "127.0.0.1:1"}}

    with Gauges(group="sample") as asked:
        found = samples(asked)

    assert (found["outbox_kafka_up"], found["outbox_postgresql_up"]) == (0, 1)


def test_reads_the_oldest_age_off_the_primary_key_with_a_large_backlog():
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO outbox_outboxevent (event_type, topic, created_at) "
            "SELECT 'x', 't', now() FROM generate_series(1, 200000)"
        )
        cursor.execute("EXPLAIN " + gauges.OLDEST_AGE)
        assert "Index Scan using outbox_outboxevent_pkey" in str(cursor.fetchall())
        assert measure(cursor).unpublished == gauges.COUNT_LIMIT
    OutboxEvent.objects.all().delete()


def test_the_log_warns_of_what_waits_for_too_long_and_not_all_the_time(monkeypatch, caplog):
    monkeypatch.setattr("outbox.relay.alarm.LOOK_SECONDS", 0)
    caplog.set_level(logging.INFO)
    alarm = Alarm(logging.getLogger("outbox.test"))
    connection.ensure_connection()

    def look() -> list[str]:
        caplog.clear()
        alarm.look(connection.connection)
        return [record.levelname for record in caplog.records if record.name == "outbox.test"]

    assert look() == []
    with transaction.atomic():
        publish(ThingClosed(thing="a"))
    assert look() == []
    age_outbox(61)
    assert [look(), look()] == [["WARNING"], []]
    OutboxEvent.objects.all().delete()
    assert [look(), look()] == [["INFO"], []]
