"""The worker that retries dead letters: what is due, once, through trouble of either engine, and in time at its end."""

import struct
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import NewTopic
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from outbox import conf
from outbox.consuming.applying import Applier
from outbox.kafka import admin_client
from outbox.letters.foreign_letters import letter_of
from outbox.letters.retrying import make_due
from outbox.letters.worker import DeadLetterWorker
from outbox.models import ConsumerGroup, FailedMessage, InboxEvent, OutboxEvent, ParkedEvent
from outbox.record import Record
from outbox.tests import sample
from outbox.tests.processes import run, running, terminate, wait_until
from outbox.tests.records import record_of
from outbox.tests.sample import ThingCounted, ThingIgnored
from outbox.worker import Stop


def bury(*numbers: int, group: str = "sample", thing: str = "t{}") -> None:
    """Make a letter of each number, by a handler that takes none of them."""
    sample.forbid(*numbers)
    applier = Applier(group, pause=lambda seconds: None)
    for number in numbers:
        applier.apply([record_of(ThingCounted(thing=thing.format(number), number=number), offset=number)])
        ConsumerGroup.objects.update(failures_in_a_row=0)


def work() -> None:
    DeadLetterWorker(stop=Stop(), until_idle=True).run()


def statuses() -> list[str]:
    return list(FailedMessage.objects.order_by("id").values_list("status", flat=True))


def test_retries_what_is_due_of_every_group_and_nothing_else(transactional_db, effects):
    bury(1, 2)
    bury(3, group="sample-ordered")
    make_due(FailedMessage.objects.exclude(offset=2))
    sample.forbid()

    work()

    assert sorted(effects()) == [("t1", 1), ("t3", 3)]
    assert statuses() == ["PROCESSED", "PENDING", "PROCESSED"]


def test_leaves_to_a_person_what_fails_for_the_third_time(transactional_db, effects, settings):
    settings.OUTBOX = {**settings.OUTBOX, "RETRY_SECONDS": 0, "RETRY_LIMIT": 3}
    bury(1)

    work()

    letter = FailedMessage.objects.get()
    assert (letter.status, letter.attempts, letter.next_retry_at) == ("FAILED", 3, None)
    assert effects() == []


def test_without_automatic_retries_a_letter_is_for_a_person_at_once(transactional_db, effects, settings):
    settings.OUTBOX = {**settings.OUTBOX, "RETRY_LIMIT": 0}
    sample.forbid(1)
    Applier("sample", pause=lambda seconds: None).apply([record_of(ThingCounted(thing="K", number=1))])

    letter = FailedMessage.objects.get()
    assert (letter.status, letter.attempts, letter.next_retry_at) == ("FAILED", 0, None)


def test_releases_what_is_parked_behind_a_letter(transactional_db, effects):
    bury(1, group="sample-ordered", thing="K")
    applier = Applier("sample-ordered", pause=lambda seconds: None)
    applier.apply([record_of(ThingCounted(thing="K", number=n), offset=n) for n in (2, 3)])
    make_due(FailedMessage.objects.all())
    sample.forbid()

    work()

    assert effects() == [("K", 1), ("K", 2), ("K", 3)]
    assert not ParkedEvent.objects.exists()


def test_leaves_the_letters_of_a_halted_group_alone(transactional_db, effects):
    bury(1)
    make_due(FailedMessage.objects.all())
    ConsumerGroup.objects.update(halted_at=datetime.now(UTC))
    sample.forbid()

    work()

    assert (statuses(), effects()) == (["PENDING"], [])


def test_a_letter_that_waits_behind_another_one_burns_no_attempt(transactional_db):
    bury(1, group="sample-ordered", thing="K")
    letter = FailedMessage.objects.get()
    letter.status = "FAILED"
    letter.save()
    newer = FailedMessage.objects.get()
    newer.pk, newer.offset, newer.status, newer.next_retry_at = None, 2, "PENDING", timezone.now()
    newer.save(force_insert=True)

    work()

    newer.refresh_from_db()
    assert (newer.status, newer.attempts) == ("PENDING", 0)


def test_a_refused_record_waits_for_no_other_topic(transactional_db):
    places = [("other", "FAILED", None), ("its own", "PENDING", timezone.now())]
    for number, (topic, status, next_retry_at) in enumerate(places, start=1):
        FailedMessage.objects.create(
            consumer_group="relay",
            topic=topic,
            partition=-1,
            offset=number,
            key=b"K",
            value=b"{}",
            error_class="MSG_SIZE_TOO_LARGE",
            error="too large",
            parks=True,
            status=status,
            next_retry_at=next_retry_at,
            created_at=timezone.now(),
        )

    work()

    assert statuses() == ["FAILED", "PROCESSED"]


def test_a_letter_that_somebody_holds_does_not_hold_up_the_others(transactional_db, effects):
    bury(1, 2, 3)
    make_due(FailedMessage.objects.all())
    sample.forbid()
    other = psycopg.connect(**{**connection.get_connection_params(), "cursor_factory": None})
    other.execute('SELECT FROM failed_messages WHERE "offset" = 2 FOR UPDATE')

    work()

    assert statuses() == ["PROCESSED", "PENDING", "PROCESSED"]
    # PostgreSQL notices a connection that is closed a moment later.
    other.rollback()
    other.close()
    work()
    assert sorted(effects()) == [("t1", 1), ("t2", 2), ("t3", 3)]


def test_two_workers_and_a_killed_one_double_nothing(transactional_db, prefix, effects):
    sample.mend()
    letters = [ThingCounted(thing=f"t{n}", number=n) for n in range(300)]
    FailedMessage.objects.bulk_create(letter_due(event, offset) for offset, event in enumerate(letters))

    with running("run_consumer", "dead-letters") as first, running("run_consumer", "dead-letters") as second:
        wait_until(lambda: InboxEvent.objects.count() > 30, 60)
        first.kill()
        wait_until(lambda: not FailedMessage.objects.exclude(status="PROCESSED").exists(), 60)
        assert terminate(second) == 0

    assert sorted(effects()) == sorted((f"t{n}", n) for n in range(300))
    assert OutboxEvent.objects.count() == 300
    assert {letter.attempts for letter in FailedMessage.objects.all()} == {0}


def letter_due(event, offset):
    record = record_of(event, offset=offset)
    return FailedMessage(
        consumer_group="sample",
        topic=record.topic,
        partition=0,
        offset=offset,
        key=record.key,
        value=record.value,
        headers=[[name, value.decode()] for name, value in record.headers],
        event_id=event.event_id,
        event_type=event.type,
        status="PENDING",
        next_retry_at=timezone.now() - timedelta(seconds=1),
        created_at=timezone.now(),
    )


def test_connections_cut_by_postgresql_burn_nothing(transactional_db, prefix, effects):
    sample.mend()
    events = [ThingCounted(thing=f"t{n}", number=n) for n in range(200)]
    FailedMessage.objects.bulk_create(letter_due(event, offset) for offset, event in enumerate(events))

    with running("run_consumer", "dead-letters") as worker:
        for done in (20, 80):
            wait_until(lambda done=done: InboxEvent.objects.count() > done, 60)
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
        wait_until(lambda: not FailedMessage.objects.exclude(status="PROCESSED").exists(), 60)
        assert terminate(worker) == 0

    assert len(effects()) == 200
    assert {letter.attempts for letter in FailedMessage.objects.all()} == {0}


def test_an_idle_worker_stops_in_time(transactional_db, prefix, effects):
    bury(1)
    with running("run_consumer", "dead-letters") as worker:
        make_due(FailedMessage.objects.all())
        sample.forbid()
        wait_until(lambda: statuses() == ["PROCESSED"])
        assert terminate(worker) == 0


# ── Dead-letter topics of other systems ───────────────────────────────────────────────────────────────────────────

EVENT = ThingCounted(thing="a", number=1)
KIP = [
    ("__dlq.errors.topic", b"thing-events"),
    ("__dlq.errors.partition", b"2"),
    ("__dlq.errors.offset", b"4000000000"),
    ("__dlq.errors.message", b"order 17 is broken"),
]
SPRING = [
    ("kafka_dlt-original-topic", b"thing-events"),
    ("kafka_dlt-original-partition", struct.pack(">i", 2)),
    ("kafka_dlt-original-offset", struct.pack(">q", 4_000_000_000)),
    ("kafka_dlt-exception-fqcn", b"org.springframework.kafka.listener.ListenerExecutionFailedException"),
    ("kafka_dlt-exception-cause-fqcn", b"com.example.OutOfStock"),
    ("kafka_dlt-exception-message", b"order 17 is broken"),
    ("kafka_dlt-exception-stacktrace", b"com.example.OutOfStock: order 17 is broken\n\tat Shop.java:1"),
]
CONNECT = [
    ("__connect.errors.topic", b"thing-events"),
    ("__connect.errors.partition", b"2"),
    ("__connect.errors.offset", b"4000000000"),
    ("__connect.errors.exception.class.name", b"org.apache.kafka.connect.errors.DataException"),
    ("__connect.errors.exception.message", b"order 17 is broken"),
]


def foreign(headers, event=EVENT):
    record = record_of(event)
    return Record("their.DLT", 0, 9, record.key, record.value, [*record.headers, *headers])


@pytest.mark.parametrize(
    ("headers", "error_class", "says"),
    [
        (KIP, "Unknown", "order 17 is broken"),
        (SPRING, "com.example.OutOfStock", "at Shop.java:1"),
        (CONNECT, "org.apache.kafka.connect.errors.DataException", "order 17 is broken"),
    ],
)
def test_a_foreign_letter_has_the_place_and_the_error_of_its_headers(headers, error_class, says):
    letter = letter_of("sample", foreign(headers))

    assert (letter.topic, letter.partition, letter.offset) == ("thing-events", 2, 4_000_000_000)
    assert (letter.status, letter.error_class, letter.event_id) == ("PENDING", error_class, EVENT.event_id)
    assert says in letter.error
    assert "their.DLT" in letter.error
    assert letter.fingerprint == f"sample thing.counted {error_class}: order # is broken"
    assert not letter.parks


@pytest.mark.parametrize(
    "headers",
    [
        [],
        KIP[1:],
        [*KIP[:2], ("__dlq.errors.offset", b"-1")],
        [*KIP[:2], ("__dlq.errors.offset", "١٢".encode())],
        [*KIP[:2], ("__dlq.errors.offset", b"9" * 30)],
        [*KIP[:1], ("__dlq.errors.partition", b"4000000000"), *KIP[2:]],
        [("__dlq.errors.topic", b"a\0b"), *KIP[1:]],
        [("__dlq.errors.topic", b"\xff"), *KIP[1:]],
        [("__dlq.errors.topic", None), *KIP[1:]],
        [*SPRING[:2], ("kafka_dlt-original-offset", b"12")],
        [*SPRING[:2], ("kafka_dlt-original-offset", struct.pack(">q", -1))],
    ],
)
def test_a_foreign_letter_whose_headers_tell_no_place_has_that_of_its_record(headers):
    letter = letter_of("sample", foreign(headers))

    assert (letter.topic, letter.partition, letter.offset) == ("their.DLT", 0, 9)


def test_a_foreign_letter_that_no_handler_can_take_is_for_a_person():
    unreadable = letter_of("sample", Record("their.DLT", 0, 9, b"a", b"\xff\0", [("odd\0", b"\xff\0")]))
    unhandled = letter_of("sample", foreign(KIP, ThingIgnored(thing="a")))

    assert (unreadable.status, unhandled.status) == ("FAILED", "FAILED")
    assert "Here: no valid envelope" in unreadable.error
    assert "Here: sample does not handle thing.ignored" in unhandled.error


@pytest.fixture
def their_topic(prefix, settings, transactional_db):
    name = f"{prefix}their.DLT"
    settings.OUTBOX = {**settings.OUTBOX, "FOREIGN_DEAD_LETTER_TOPICS": {name: "sample"}}
    client = admin_client()
    client.create_topics([NewTopic(name, 1)], operation_timeout=10)[name].result()
    producer = Producer(conf.get("KAFKA"))
    for number in range(3):
        record = record_of(ThingCounted(thing=f"t{number}", number=number))
        headers = [*record.headers, *KIP[:2], ("__dlq.errors.offset", str(number).encode())]
        producer.produce(name, key=record.key, value=record.value, headers=headers)
    producer.produce(name, key=None, value=b"garbage")
    assert producer.flush(20) == 0
    yield name
    client.delete_topics([name])[name].result()


def test_foreign_letters_are_taken_in_once_and_retried_like_any_other(their_topic, effects):
    sample.forbid(1)

    work()
    make_due(FailedMessage.objects.filter(status="PENDING"))
    work()

    assert sorted(effects()) == [("t0", 0), ("t2", 2)]
    assert sorted(statuses()) == ["FAILED", "PENDING", "PROCESSED", "PROCESSED"]
    assert not OutboxEvent.objects.filter(topic__endswith="-dlq").exists()
    work()
    assert FailedMessage.objects.count() == 4


def test_foreign_letters_that_are_read_again_change_nothing(their_topic, settings, effects):
    work()
    before = list(FailedMessage.objects.values())
    # Another group of Kafka's reads from the beginning.
    settings.OUTBOX = {**settings.OUTBOX, "PREFIX": f"{settings.OUTBOX['PREFIX']}again."}

    work()

    assert list(FailedMessage.objects.values()) == before


def test_without_kafka_letters_are_retried_all_the_same(transactional_db, prefix, settings, effects):
    settings.OUTBOX = {
        **settings.OUTBOX,
        "KAFKA": {"bootstrap.servers": "127.0.0.1:1"},
        "FOREIGN_DEAD_LETTER_TOPICS": {"their.DLT": "sample"},
    }
    bury(1)
    make_due(FailedMessage.objects.all())
    sample.forbid()
    stop = StopWhen(lambda: statuses() == ["PROCESSED"])

    DeadLetterWorker(stop=stop).run()

    assert effects() == [("t1", 1)]


class StopWhen(Stop):
    """Requested as soon as something has happened."""

    def __init__(self, happened) -> None:
        super().__init__()
        self._happened = happened

    def wait(self, seconds: float) -> None:
        self.requested = self._happened()
        super().wait(seconds)


def test_a_foreign_topic_for_a_group_that_is_none_is_told_before_anything_runs(settings, prefix, db):
    settings.OUTBOX = {**settings.OUTBOX, "FOREIGN_DEAD_LETTER_TOPICS": {"their.DLT": "nobody"}}

    with pytest.raises(CommandError, match="no consumer group 'nobody'"):
        call_command("run_consumer", "dead-letters", "--until-idle")


def test_the_command_runs_until_nothing_is_due(transactional_db, prefix, effects):
    bury(1)
    make_due(FailedMessage.objects.all())
    sample.forbid()

    run("run_consumer", "dead-letters", "--until-idle")

    assert effects() == [("t1", 1)]
