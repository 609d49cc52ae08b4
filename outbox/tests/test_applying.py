"""Applying records: once, in order, each culprit alone; without Kafka."""

import threading
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from django.db import DataError, IntegrityError, OperationalError, connection, transaction

from outbox import context, registry, transactions
from outbox.consuming.applying import Applier, Outage, Tally
from outbox.database import connection_parameters
from outbox.letters.dead_letters import decode_headers
from outbox.models import ConsumerGroup, FailedMessage, InboxEvent, OutboxEvent
from outbox.record import Record
from outbox.registry import handlers_of, handles
from outbox.tests import sample
from outbox.tests.records import garbage, record_of
from outbox.tests.sample import ThingClosed, ThingCounted, ThingIgnored
from outbox.watching import metrics


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def applier(pauses, transactional_db) -> Applier:
    return Applier("sample", pause=pauses.append)


def counted(*numbers: int, thing: str = "a") -> list[Record]:
    return [record_of(ThingCounted(thing=thing, number=n), offset=n) for n in numbers]


def echoes() -> list[str]:
    return list(OutboxEvent.objects.filter(event_type="thing.echoed").values_list("event_type", flat=True))


def test_inbox_effects_and_new_events_are_written_together(applier, effects):
    tally = applier.apply(counted(1, 2, 3))

    assert (tally.applied, tally.failed) == (3, 0)
    assert effects() == [("a", 1), ("a", 2), ("a", 3)]
    assert len(echoes()) == 3
    entry = InboxEvent.objects.get(offset=2)
    assert (entry.consumer_group, entry.event_type, entry.topic, entry.partition) == (
        "sample",
        "thing.counted",
        "thing-events",
        0,
    )


def test_a_record_delivered_again_is_applied_once(applier, effects):
    records = counted(1, 2)
    applier.apply(records)

    tally = applier.apply([*records, *counted(3)])

    assert (tally.applied, tally.repeated) == (1, 2)
    assert effects() == [("a", 1), ("a", 2), ("a", 3)]


def test_an_event_twice_in_one_batch_is_applied_once(applier, effects):
    event = ThingCounted(thing="a", number=1)

    tally = applier.apply([record_of(event, offset=1), record_of(event, offset=2)])

    assert (tally.applied, tally.repeated) == (1, 1)
    assert effects() == [("a", 1)]


def test_groups_of_one_event_know_nothing_of_each_other(applier, effects):
    records = counted(1)
    InboxEvent.objects.create(
        consumer_group="another",
        event_id=UUID(dict(records[0].headers)["event-id"].decode()),
        event_type="thing.counted",
        topic="thing-events",
        partition=0,
        offset=1,
        applied_at=datetime.now(UTC),
    )

    assert applier.apply(records).applied == 1


def test_a_keys_order_holds_across_the_types_in_a_batch_with_few_calls(applier, effects):
    applier.apply(
        [
            record_of(ThingCounted(thing="a", number=1), offset=1),
            record_of(ThingCounted(thing="b", number=1), offset=2),
            record_of(ThingClosed(thing="a"), offset=3),
            record_of(ThingCounted(thing="a", number=2), offset=4),
            record_of(ThingCounted(thing="b", number=2), offset=5),
        ]
    )

    assert [row for row in effects() if row[0] == "a"] == [("a", 1), ("a", 0), ("a", 2)]
    assert [row for row in effects() if row[0] == "b"] == [("b", 1), ("b", 2)]
    assert sample.calls == [("count", 3), ("close", 1), ("count", 1)]


def test_a_function_that_handles_several_types_gets_them_together_in_order(applier):
    together = []

    def both(events):
        together.append([(event.type, event.thing) for event in events])

    applier._handlers = {kind: replace(handler, call=both, bulk=True) for kind, handler in applier._handlers.items()}
    applier.apply(
        [
            record_of(ThingCounted(thing="a", number=1), offset=1),
            record_of(ThingClosed(thing="a"), offset=2),
            record_of(ThingCounted(thing="b", number=1), offset=3),
            record_of(ThingCounted(thing="a", number=2), offset=4),
        ]
    )

    assert together == [[("thing.counted", "a"), ("thing.closed", "a"), ("thing.counted", "b"), ("thing.counted", "a")]]


def test_the_culprit_alone_becomes_a_dead_letter_after_three_tries(applier, effects, pauses):
    records = counted(1, 2) + counted(5000) + counted(3, 4, thing="b")

    tally = applier.apply(records)

    assert (tally.applied, tally.failed) == (4, 1)
    assert effects() == [("a", 1), ("a", 2), ("b", 3), ("b", 4)]
    letter = FailedMessage.objects.get()
    assert (letter.status, letter.offset, letter.event_type) == ("PENDING", 5000, "thing.counted")
    assert letter.error_class == "IntegrityError"
    assert "sample_effect" in letter.error
    assert bytes(letter.value) == records[2].value
    assert 29 < (letter.next_retry_at - letter.created_at).total_seconds() < 31
    assert not InboxEvent.objects.filter(event_id=letter.event_id).exists()
    assert len(pauses) == 2
    assert sum(pauses) < 1.0


def test_a_failing_handler_is_tried_three_times_alone(applier):
    sample.broken["a"] = ValueError("no good")
    sample.tries.clear()

    applier.apply(counted(1))

    assert sample.tries["a"] == 3
    assert FailedMessage.objects.get().error_class == "ValueError"


def test_a_dead_letter_has_one_copy_with_the_headers_of_kip_1191(applier):
    record = counted(5000)[0]
    applier.apply([record])

    copy = OutboxEvent.objects.get(topic="sample-dlq")
    headers = dict(decode_headers(copy.headers))
    assert (bytes(copy.key), bytes(copy.value)) == (record.key, record.value)
    assert headers["event-id"] == dict(record.headers)["event-id"]
    assert headers["__dlq.errors.topic"] == b"thing-events"
    assert headers["__dlq.errors.partition"] == b"0"
    assert headers["__dlq.errors.offset"] == b"5000"
    assert headers["__dlq.errors.group"] == b"sample"
    assert headers["__dlq.errors.delivery.count"] == b"3"
    assert headers["__dlq.errors.message"].startswith(b"IntegrityError: ")


def test_a_dead_letter_delivered_again_is_neither_tried_nor_written_again(applier, effects):
    records = counted(5000)
    applier.apply(records)
    sample.mend()

    tally = applier.apply(records)

    assert (tally.applied, tally.repeated) == (0, 1)
    assert FailedMessage.objects.count() == 1
    assert OutboxEvent.objects.filter(topic="sample-dlq").count() == 1


def test_a_type_without_handler_is_skipped_and_counted(applier, effects):
    tally = applier.apply([record_of(ThingIgnored(thing="a"))])

    assert (tally.skipped, tally.applied, tally.failed) == (1, 0, 0)
    assert not InboxEvent.objects.exists()


EXAMPLE = ThingCounted(thing="a", number=1)


@pytest.mark.parametrize("wrong", garbage(EXAMPLE))
def test_an_unreadable_record_is_dead_lettered_at_once_byte_for_byte(applier, effects, pauses, wrong):
    key, value, headers = garbage(EXAMPLE)[wrong]
    bad = Record("thing-events", 0, 7, key, value, headers)

    tally = applier.apply([*counted(1), bad, *counted(8)])

    assert (tally.applied, tally.failed) == (2, 1)
    assert effects() == [("a", 1), ("a", 8)]
    letter = FailedMessage.objects.get()
    assert letter.status == "FAILED"
    assert letter.next_retry_at is None
    assert (letter.key and bytes(letter.key), letter.value if letter.value is None else bytes(letter.value)) == (
        key,
        value,
    )
    assert decode_headers(letter.headers) == headers
    assert pauses == []


def test_a_record_whose_header_names_are_no_text_is_dead_lettered(applier):
    record = counted(1)[0]

    applier.apply([Record("thing-events", 0, 7, record.key, record.value, None)])

    assert "header" in FailedMessage.objects.get().error


def test_text_that_the_handler_cannot_store_is_a_dead_letter_of_its_own(applier, effects):
    tally = applier.apply([*counted(1), record_of(ThingCounted(thing="nul\0", number=2), offset=2), *counted(3)])

    assert (tally.applied, tally.failed) == (2, 1)
    assert FailedMessage.objects.get().status == "PENDING"


def test_an_event_older_than_the_inbox_remembers_is_dead_lettered(applier, effects, settings):
    event = ThingCounted(thing="a", number=1)
    then = datetime.now(UTC) - timedelta(days=31)
    event.__dict__["event_id"] = UUID(int=(int(then.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62))

    applier.apply([record_of(event)])

    letter = FailedMessage.objects.get()
    assert (letter.status, letter.error_class) == ("FAILED", "TooOld")
    assert effects() == []


def test_an_event_whose_id_is_of_a_time_that_no_calendar_knows_is_applied(applier, effects):
    event = ThingCounted(thing="a", number=1)
    event.__dict__["event_id"] = UUID("ffffffff-ffff-7fff-bfff-ffffffffffff")

    assert applier.apply([record_of(event)]).applied == 1


def test_a_crash_before_the_commit_leaves_nothing(applier, effects):
    records = counted(1, 2)
    with pytest.raises(KeyboardInterrupt):
        _apply_and_crash(applier, records)

    assert effects() == []
    assert not InboxEvent.objects.exists()
    assert not OutboxEvent.objects.exists()
    assert applier.apply(records).applied == 2


def _apply_and_crash(applier: Applier, records: list[Record]) -> None:
    with transaction.atomic():
        applier.apply(records)
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    "sqlstate",
    [
        psycopg.errors.DiskFull,
        psycopg.errors.OutOfMemory,
        psycopg.errors.AdminShutdown,
        psycopg.errors.LockNotAvailable,
    ],
)
def test_an_engine_in_trouble_is_an_outage_that_burns_nothing(applier, effects, pauses, sqlstate):
    trouble = OperationalError("in trouble")
    trouble.__cause__ = sqlstate("in trouble")
    sample.broken["a"] = trouble
    records = counted(1, 2)

    with pytest.raises(Outage):
        applier.apply(records)

    assert pauses == []
    assert not FailedMessage.objects.exists()
    sample.broken.clear()
    assert applier.apply(records).applied == 2


def test_memory_running_out_is_an_outage(applier):
    sample.broken["a"] = MemoryError()

    with pytest.raises(Outage):
        applier.apply(counted(1))


def test_a_lost_connection_is_an_outage(applier, effects):
    connection.ensure_connection()
    with psycopg.connect(**{**connection.get_connection_params(), "cursor_factory": None}, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    with pytest.raises(Outage):
        applier.apply(counted(1))

    connection.close()
    assert applier.apply(counted(1)).applied == 1


def test_a_deadlock_is_repeated_at_once_and_burns_nothing(applier, effects, pauses):
    lost = OperationalError("deadlock detected")
    lost.__cause__ = psycopg.errors.DeadlockDetected("deadlock detected")
    sample.losses[:] = [lost, lost]

    tally = applier.apply(counted(1, 2))

    assert tally.applied == 2
    assert effects() == [("a", 1), ("a", 2)]
    assert pauses == []
    assert not FailedMessage.objects.exists()


def test_a_statement_that_takes_too_long_is_a_failure_of_its_event_alone(applier, effects, monkeypatch):
    write = sample.write

    def write_slowly(subject: str, number: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 50")
            cursor.execute("SELECT pg_sleep(1) WHERE %s = 2", (number,))
        write(subject, number)

    monkeypatch.setattr(sample, "write", write_slowly)

    tally = applier.apply(counted(1, 2, 3))

    assert (tally.applied, tally.failed) == (2, 1)
    assert "QueryCanceled" in FailedMessage.objects.get().error
    assert effects() == [("a", 1), ("a", 3)]


def test_a_letter_is_logged_with_all_that_identifies_its_record(applier, caplog):
    record = counted(5000)[0]

    applier.apply([record])

    [line] = [line for line in caplog.records if line.msg == "a record became a dead letter"]
    assert (line.group, line.topic, line.partition, line.offset) == ("sample", "thing-events", 0, 5000)
    assert (line.event_type, line.key) == ("thing.counted", "a")
    assert line.event_id == dict(record.headers)["event-id"].decode()


def test_nothing_is_logged_of_a_letter_that_is_rolled_back(applier, caplog):
    with pytest.raises(KeyboardInterrupt):
        _apply_and_crash(applier, counted(5000))

    assert not [line for line in caplog.records if line.msg == "a record became a dead letter"]


def test_letters_that_failed_for_the_same_reason_share_a_fingerprint(applier):
    applier.apply([*counted(5000, thing="a"), *counted(6000, thing="b")])
    applier.apply([Record("thing-events", 0, 1, b"a", None, [])])

    assert list(FailedMessage.objects.order_by("id").values_list("fingerprint", flat=True)) == [
        *2
        * [
            'sample thing.counted IntegrityError: new row for relation "sample_effect" violates check constraint '
            '"sample_effect_number_check"'
        ],
        "sample unreadable Unreadable: the value is null",
    ]


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def test_an_error_that_cannot_be_printed_is_a_letter_like_any_other(applier):
    sample.broken["a"] = Mute()

    assert applier.apply(counted(1)).failed == 1

    assert FailedMessage.objects.get().error_class == "Mute"


def test_what_became_of_records_is_counted(applier):
    def counts() -> dict[str, float]:
        outcomes = ("applied", "repeated", "skipped", "failed")
        values = {name: metrics.CONSUMER_RECORDS.labels("sample", name)._value.get() for name in outcomes}
        return {**values, "retries": metrics.CONSUMER_RETRIES.labels("sample")._value.get()}

    before = counts()
    records = counted(1, 2)

    applier.apply([*records, *counted(5000), record_of(ThingIgnored(thing="a"), offset=9)])
    applier.apply(records)

    assert {name: value - before[name] for name, value in counts().items()} == {
        "applied": 2,
        "repeated": 2,
        "skipped": 1,
        "failed": 1,
        "retries": 2,
    }


def test_a_handler_is_called_in_the_context_of_its_events(applier, monkeypatch):
    seen = []
    monkeypatch.setattr(sample, "write", lambda subject, number: seen.append(context.log_fields()))

    applier.apply([*counted(1, 2), record_of(ThingClosed(thing="b"), offset=3)])

    assert [fields.get("events") for fields in seen] == [2, 2, None]
    assert (seen[2]["event_type"], seen[2]["key"], seen[2]["offset"]) == ("thing.closed", "b", 3)


def test_thousands_of_unreadable_records_take_as_many_statements_as_one(applier, django_assert_max_num_queries):
    kinds = list(garbage(EXAMPLE).values())
    bad = [Record("thing-events", 0, offset, *kinds[offset % 7]) for offset in range(2_000)]

    with django_assert_max_num_queries(8):
        assert applier.apply(bad).failed == 2_000

    assert FailedMessage.objects.filter(status="FAILED").count() == 2_000
    assert OutboxEvent.objects.filter(topic="sample-dlq").count() == 2_000


def swallow_an_error_of_the_orm() -> None:
    with suppress(IntegrityError):
        ConsumerGroup.objects.create(name="sample")


def swallow_an_error_of_sql() -> None:
    with suppress(DataError), connection.cursor() as cursor:
        cursor.execute("SELECT 1 / 0")


def ask_for_a_rollback() -> None:
    transaction.set_rollback(True)


def close_the_connection() -> None:
    connection.close()


@pytest.mark.parametrize(
    "spoil", [swallow_an_error_of_the_orm, swallow_an_error_of_sql, ask_for_a_rollback, close_the_connection]
)
def test_an_event_whose_handler_spoils_the_transaction_in_silence_is_a_dead_letter_alone(
    applier, effects, monkeypatch, spoil
):
    def close(event: ThingClosed) -> None:
        sample.write(event.thing, 0)
        if event.thing == "bad":
            spoil()

    handlers = handlers_of("sample")
    monkeypatch.setitem(handlers, "thing.closed", replace(handlers["thing.closed"], call=close))
    records = [record_of(ThingClosed(thing=thing), offset=n) for n, thing in enumerate(["a", "b", "bad", "c"])]

    tally = applier.apply(records)

    assert (tally.applied, tally.failed) == (3, 1)
    assert effects() == [("a", 0), ("b", 0), ("c", 0)]
    assert InboxEvent.objects.count() == 3
    letter = FailedMessage.objects.get()
    assert (letter.offset, letter.error_class, letter.status) == (2, "Undone", "PENDING")


def test_a_connection_that_broke_under_a_handler_that_said_nothing_is_an_outage(applier, effects, monkeypatch):
    def close(event: ThingClosed) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            (pid,) = cursor.fetchone()
        with psycopg.connect(**connection_parameters(connection)) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        with suppress(OperationalError), connection.cursor() as cursor:
            cursor.execute("SELECT 1")

    handlers = handlers_of("sample")
    monkeypatch.setitem(handlers, "thing.closed", replace(handlers["thing.closed"], call=close))
    with pytest.raises(Outage):
        applier.apply([record_of(ThingClosed(thing="a"))])

    assert not FailedMessage.objects.exists()
    assert not InboxEvent.objects.exists()


def test_what_a_member_holds_that_hangs_in_a_handler_is_free_again_for_the_next_one(applier, effects, monkeypatch):
    monkeypatch.setattr(transactions, "IDLE_SECONDS", 1)
    hangs, goes_on = threading.Event(), threading.Event()

    def close(event: ThingClosed) -> None:
        sample.write(event.thing, 0)
        if not hangs.is_set():
            hangs.set()
            assert goes_on.wait(60)

    handlers = handlers_of("sample")
    monkeypatch.setitem(handlers, "thing.closed", replace(handlers["thing.closed"], call=close))
    records = [record_of(ThingClosed(thing="a"))]

    def hang() -> None:
        with suppress(Outage, OperationalError):
            Applier("sample", pause=lambda seconds: None).apply(records)
        connection.close()

    hung = threading.Thread(target=hang)
    hung.start()
    assert hangs.wait(60)
    tally = applier.apply(records)
    goes_on.set()
    hung.join()

    assert tally == Tally(applied=1)
    assert effects() == [("a", 0)]
    assert not FailedMessage.objects.exists()


def test_a_function_takes_lists_or_single_events_and_not_both():
    def take(events):
        """Never called."""

    handles(ThingCounted, group="undecided", bulk=True)(take)
    try:
        with pytest.raises(ValueError, match="with another bulk"):
            handles(ThingClosed, group="undecided")(take)
        assert registry.handlers_of("undecided").keys() == {ThingCounted.type}
    finally:
        del registry._handlers["undecided"]
