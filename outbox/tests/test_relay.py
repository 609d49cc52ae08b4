"""The relay on real PostgreSQL and Kafka: in order, once acknowledged, never without a commit."""

import json
import signal
from collections import defaultdict
from contextlib import ExitStack

import pytest
from confluent_kafka.admin import NewTopic
from django.db import connection, transaction

from outbox import publish
from outbox.kafka import admin_client, topic_name
from outbox.letters.retrying import edit_and_retry
from outbox.models import BUCKETS, FailedMessage, OutboxEvent
from outbox.relay.backlog import READ_LARGE
from outbox.relay.relay import Relay
from outbox.relay.shares import LOCKS
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
    # The broker answers before everybody can see it.
    wait_until(lambda: topic_name(SMALL) in admin.list_topics(timeout=10).topics)
    assert send_all() == 1
    assert len(kafka.records(SMALL)) == 1


def test_what_kafka_refuses_for_good_becomes_a_failed_message_and_only_its_key_waits(kafka):
    kafka.shrink()
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


def test_a_refused_event_that_was_mended_goes_ahead_of_those_that_wait_for_it(kafka):
    kafka.shrink()
    with running("relay_outbox") as relay:
        publish_committed(ThingShrunk(thing="a", note="x" * 20_000))
        wait_until(FailedMessage.objects.exists)
        publish_committed(*(ThingShrunk(thing="a", note=f"behind {n}") for n in range(50)))
        publish_committed(ThingShrunk(thing="b", note="other"))
        wait_until(lambda: OutboxEvent.objects.count() == 50)
        letter = FailedMessage.objects.get()
        edit_and_retry(letter.pk, value=bytes(letter.value).replace(b"x" * 20_000, b"mended"))
        wait_until(lambda: not OutboxEvent.objects.exists())
        assert terminate(relay) == 0

    notes = [json.loads(message.value())["data"]["note"] for message in kafka.records(SMALL)]
    assert notes == ["other", "mended", *(f"behind {n}" for n in range(50))]


def test_takes_few_rows_at_a_time_when_they_are_large(transactional_db):
    publish_committed(*(ThingCounted(thing="a", number=n, note="x" * 3_000) for n in range(5)))

    look = {"after": 0, "on_their_way": "{}", "buckets": list(range(BUCKETS)), "resting": [], "limit": 100}

    def rows_within(size: int) -> int:
        with connection.cursor() as cursor:
            cursor.execute(READ_LARGE, {**look, "bytes": size})
            return len(cursor.fetchall())

    assert [rows_within(size) for size in (1, 5_000, 100_000)] == [1, 2, 5]


def test_a_relay_killed_in_the_middle_loses_nothing_and_keeps_the_order(kafka):
    for start in range(0, 40_000, 2_000):
        publish_committed(*(ThingCounted(thing=f"t{n % 20}", number=n) for n in range(start, start + 2_000)))
    for left in (35_000, 25_000):
        with running("relay_outbox") as relay:
            wait_until(lambda left=left: OutboxEvent.objects.count() < left)
            relay.kill()
    with running("relay_outbox") as relay:
        wait_until(lambda: shares() == [32] and not OutboxEvent.objects.exists())
        assert terminate(relay) == 0

    found = numbers(kafka.records(THING))
    for key in range(20):
        assert first_appearances(found[f"t{key}".encode()]) == list(range(key, 40_000, 20))


def shares() -> list[int]:
    """Return how many buckets each relay holds that there is."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) - 1 FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND granted AND database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database()) GROUP BY pid",
            [LOCKS],
        )
        return sorted(number for (number,) in cursor.fetchall())


def publish_numbers(start: int, end: int, keys: int = 40) -> None:
    publish_committed(*(ThingCounted(thing=f"t{n % keys}", number=n) for n in range(start, end)))


def in_order(found: dict[bytes, list[int]], end: int, keys: int = 40) -> None:
    for key in range(keys):
        assert first_appearances(found[f"t{key}".encode()]) == list(range(key, end, keys))


def test_relays_share_the_keys_evenly_and_those_of_one_that_went_go_to_the_others(kafka):
    with running("relay_outbox") as first, running("relay_outbox"):
        wait_until(lambda: shares() == [16, 16])
        with running("relay_outbox") as third:
            wait_until(lambda: shares() == [10, 11, 11])
            publish_numbers(0, 4_000)
            first.kill()
            assert terminate(third) == 0
            wait_until(lambda: shares() == [32])
            publish_numbers(4_000, 8_000)
            wait_until(lambda: not OutboxEvent.objects.exists())

    in_order(numbers(kafka.records(THING)), 8_000)


def test_relays_that_come_and_go_under_load_keep_the_order_of_each_key(kafka):
    published = 0
    with ExitStack() as relays:
        for more, expected in ((1, [32]), (1, [16, 16]), (2, [8, 8, 8, 8])):
            for _ in range(more):
                relays.enter_context(running("relay_outbox"))
            while shares() != expected:
                publish_numbers(published, published + 400)
                published += 400
        wait_until(lambda: not OutboxEvent.objects.exists(), 60)

    in_order(numbers(kafka.records(THING)), published)


def test_the_keys_of_a_relay_that_hangs_are_taken_over_and_it_starts_over(kafka):
    with running("relay_outbox") as hanging, running("relay_outbox") as other:
        wait_until(lambda: shares() == [16, 16])
        publish_numbers(0, 20_000)
        hanging.send_signal(signal.SIGSTOP)
        publish_numbers(20_000, 21_000)
        wait_until(lambda: not OutboxEvent.objects.exists())
        assert shares() == [32]
        hanging.send_signal(signal.SIGCONT)
        wait_until(lambda: shares() == [16, 16])
        publish_numbers(21_000, 22_000)
        wait_until(lambda: not OutboxEvent.objects.exists())
        assert terminate(hanging) == terminate(other) == 0

    in_order(numbers(kafka.records(THING)), 22_000)


def cut_other_connections() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_a_relay_whose_connection_was_cut_starts_over(kafka):
    with running("relay_outbox") as relay:
        for start in range(0, 12_000, 4_000):
            publish_numbers(start, start + 4_000)
            wait_until(lambda start=start: OutboxEvent.objects.count() < 4_000)
            cut_other_connections()
        wait_until(lambda: not OutboxEvent.objects.exists())
        assert terminate(relay) == 0

    in_order(numbers(kafka.records(THING)), 12_000)


def test_a_local_queue_that_is_full_delays_and_loses_nothing(kafka, settings):
    settings.OUTBOX = {**settings.OUTBOX, "PRODUCER": {"queue.buffering.max.messages": 100}}
    publish_numbers(0, 3_000)

    assert send_all() == 3_000

    in_order(numbers(kafka.records(THING)), 3_000)


def test_large_values_are_sent_in_order_with_small_ones_between(kafka):
    for number in range(60):
        note = "x" * (900_000 if number % 10 == 3 else 10)
        publish_committed(ThingCounted(thing="a", number=number, note=note))

    assert send_all() == 60

    assert numbers(kafka.records(THING)) == {b"a": list(range(60))}


def test_a_row_that_becomes_visible_behind_the_others_is_sent_while_they_keep_coming(kafka):
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval('outbox_outboxevent_id_seq')")
        (lower,) = cursor.fetchone()
    publish_committed(ThingClosed(thing="late"))
    OutboxEvent.objects.update(id=2**40)
    with running("relay_outbox") as relay:
        publish_numbers(0, 20_000)
        OutboxEvent.objects.filter(event_type="thing.closed").update(id=lower)
        wait_until(lambda: not OutboxEvent.objects.filter(event_type="thing.closed").exists())
        wait_until(lambda: not OutboxEvent.objects.exists())
        assert terminate(relay) == 0


def test_without_notify_a_relay_finds_what_is_published_all_the_same(kafka, settings):
    settings.OUTBOX = {**settings.OUTBOX, "NOTIFY": False}
    with running("relay_outbox") as relay:
        wait_until(lambda: shares() == [32])
        publish_numbers(0, 100)
        wait_until(lambda: not OutboxEvent.objects.exists())
        assert terminate(relay) == 0


def test_stops_in_time_while_kafka_is_away_and_keeps_the_rows(kafka):
    publish_committed(ThingCounted(thing="a", number=1))
    with running("relay_outbox", KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1") as relay:
        wait_until(lambda: shares() == [32])
        assert terminate(relay) == 0

    assert OutboxEvent.objects.count() == 1
    assert not FailedMessage.objects.exists()
