"""The relay on real PostgreSQL and Kafka: in order, once acknowledged, never without a commit."""

import json
from collections import defaultdict

import pytest
from confluent_kafka.admin import NewTopic
from django.db import connection, transaction

from outbox import publish
from outbox.kafka import admin_client, topic_name
from outbox.models import FailedMessage, OutboxEvent
from outbox.relay import READ, Relay
from outbox.tests.processes import running, terminate, wait_until
from outbox.tests.sample import SMALL, THING, ThingClosed, ThingCounted, ThingShrunk
from outbox.worker import Stop


def send_all() -> int:
    return Relay().run(Stop(), once=True)


def publish_committed(*events) -> None:
    with transaction.atomic():
        publish(*events)


def numbers(messages) -> dict[bytes, list[int]]:
    """Return the numbers of ThingCounted by key, in the order of Kafka."""
    found = defaultdict(list)
    for message in messages:
        found[message.key()].append(json.loads(message.value())["data"]["number"])
    return found


def first_appearances(values: list[int]) -> list[int]:
    return list(dict.fromkeys(values))


def test_sends_key_value_and_headers_and_empties_the_outbox(kafka):
    event = ThingCounted(thing="a", number=1)
    publish_committed(event)

    assert send_all() == 1

    (message,) = kafka.records(THING)
    assert message.key() == b"a"
    assert json.loads(message.value())["eventId"] == str(event.event_id)
    headers = dict(message.headers())
    assert headers["event-id"] == str(event.event_id).encode()
    assert headers["event-type"] == b"thing.counted"
    assert headers["event-version"] == b"1"
    assert headers["content-type"] == b"application/json"
    assert len(headers["traceparent"].split(b"-")) == 4
    assert not OutboxEvent.objects.exists()


def test_keeps_the_order_of_each_key_over_many_batches(kafka):
    for start in range(0, 600, 60):
        publish_committed(*(ThingCounted(thing=f"t{n % 7}", number=n) for n in range(start, start + 60)))

    assert Relay(batch_size=50).run(Stop(), once=True) == 600

    found = numbers(kafka.records(THING))
    assert found == {f"t{key}".encode(): list(range(key, 600, 7)) for key in range(7)}


def test_sends_nothing_of_an_open_or_undone_transaction(kafka):
    with pytest.raises(RuntimeError), transaction.atomic():
        publish(ThingClosed(thing="a"))
        assert send_all() == 0
        raise RuntimeError

    assert send_all() == 0
    assert kafka.records(THING) == []


def test_a_row_with_a_lower_id_that_commits_later_is_sent(kafka):
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval('outbox_outboxevent_id_seq')")
        (lower,) = cursor.fetchone()
    publish_committed(ThingCounted(thing="a", number=2))
    assert send_all() == 1
    publish_committed(ThingCounted(thing="b", number=1))
    OutboxEvent.objects.update(id=lower)

    assert send_all() == 1
    assert numbers(kafka.records(THING)) == {b"a": [2], b"b": [1]}


def test_a_missing_topic_holds_up_its_own_events_alone(kafka):
    admin = admin_client()
    admin.delete_topics([topic_name(SMALL)])[topic_name(SMALL)].result()
    wait_until(lambda: topic_name(SMALL) not in admin.list_topics(timeout=10).topics)
    publish_committed(ThingShrunk(thing="a", note=""), ThingCounted(thing="a", number=1))

    assert send_all() == 1

    assert list(OutboxEvent.objects.values_list("event_type", flat=True)) == ["thing.shrunk"]
    assert not FailedMessage.objects.exists()
    admin.create_topics([NewTopic(topic_name(SMALL), 1, 1)])[topic_name(SMALL)].result()
    assert send_all() == 1
    assert len(kafka.records(SMALL)) == 1


def test_what_kafka_refuses_for_good_becomes_a_failed_message_and_only_its_key_waits(kafka):
    publish_committed(
        ThingShrunk(thing="a", note="first"),
        ThingShrunk(thing="a", note="x" * 20_000),
        ThingShrunk(thing="a", note="behind"),
        ThingShrunk(thing="b", note="other"),
        ThingCounted(thing="a", number=1),
    )

    assert send_all() == 3

    notes = [json.loads(message.value())["data"]["note"] for message in kafka.records(SMALL)]
    assert notes == ["first", "other"]
    letter = FailedMessage.objects.get()
    assert (letter.consumer_group, letter.topic, letter.status) == ("relay", topic_name(SMALL), "FAILED")
    assert letter.error_class == "MSG_SIZE_TOO_LARGE"
    assert len(bytes(letter.value)) > 20_000
    assert [name for name, _ in letter.headers][:2] == ["event-id", "event-type"]
    (waiting,) = OutboxEvent.objects.all()
    assert b"behind" in bytes(waiting.value)
    letter.status = "DISCARDED"
    letter.save()
    assert send_all() == 1


def test_takes_few_rows_at_a_time_when_they_are_large(transactional_db):
    publish_committed(*(ThingCounted(thing="a", number=n, note="x" * 3_000) for n in range(5)))

    def rows_within(size: int) -> int:
        with connection.cursor() as cursor:
            cursor.execute(READ, {"resting": [], "limit": 100, "bytes": size})
            return len(cursor.fetchall())

    assert [rows_within(size) for size in (1, 5_000, 100_000)] == [1, 2, 5]


def test_a_relay_killed_in_the_middle_loses_nothing_and_keeps_the_order(kafka):
    for start in range(0, 20_000, 2_000):
        publish_committed(*(ThingCounted(thing=f"t{n % 20}", number=n) for n in range(start, start + 2_000)))
    for left in (15_000, 8_000):
        with running("relay_outbox") as relay:
            wait_until(lambda left=left: OutboxEvent.objects.count() < left)
            relay.kill()
    with running("relay_outbox") as relay:
        wait_until(lambda: not OutboxEvent.objects.exists())
        assert terminate(relay) == 0

    found = numbers(kafka.records(THING))
    for key in range(20):
        assert first_appearances(found[f"t{key}".encode()]) == list(range(key, 20_000, 20))


def test_a_second_relay_stands_by_and_takes_over(kafka):
    with running("relay_outbox") as first, running("relay_outbox") as second:
        publish_committed(ThingCounted(thing="a", number=1))
        wait_until(lambda: not OutboxEvent.objects.exists())
        first.kill()
        second_alive = second.poll() is None
        publish_committed(ThingCounted(thing="a", number=2))
        wait_until(lambda: not OutboxEvent.objects.exists())
        assert second_alive
        assert terminate(second) == 0

    assert numbers(kafka.records(THING)) == {b"a": [1, 2]}


def test_stops_in_time_while_kafka_is_away_and_keeps_the_rows(kafka):
    publish_committed(ThingCounted(thing="a", number=1))
    with running("relay_outbox", KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1") as relay:
        wait_until(relay_has_read)
        assert terminate(relay) == 0

    assert OutboxEvent.objects.count() == 1
    assert not FailedMessage.objects.exists()


def relay_has_read() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND query LIKE '%%FROM outbox_outboxevent AS waiting%%'"
        )
        return cursor.fetchone() is not None
