"""Retrying, editing, trying and discarding dead letters; with real threads where they meet."""

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from django.apps import apps
from django.db import DatabaseError, OperationalError, connection, transaction
from psycopg import errors

from outbox.consuming.applying import Applier
from outbox.letters.dead_letters import decode_headers
from outbox.letters.retrying import (
    DryRun,
    InvalidEdit,
    Outage,
    Refused,
    discard,
    dry_run,
    edit_and_retry,
    make_due,
    retry,
)
from outbox.models import ConsumerGroup, FailedMessage, InboxEvent, OutboxEvent, ParkedEvent
from outbox.publishing import rows_of, write
from outbox.record import Record
from outbox.tests import sample
from outbox.tests.records import garbage, headers_of, record_of
from outbox.tests.sample import ThingCounted, ThingShrunk


@pytest.fixture
def applier(transactional_db) -> Applier:
    return Applier("sample", pause=lambda seconds: None)


@pytest.fixture
def letter(applier) -> FailedMessage:
    """A letter of a handler that takes no number above 999, with 5000 in it."""
    applier.apply([record_of(ThingCounted(thing="a", number=5000), offset=7)])
    return FailedMessage.objects.get()


@pytest.fixture
def everything():
    """Return a function that lists all rows of this app, to compare before and after."""
    models = list(apps.get_app_config("outbox").get_models())
    return lambda: {model: sorted(model._default_manager.values_list(), key=repr) for model in models}


def number(letter, to):
    return bytes(letter.value).replace(b'"number":5000', b'"number":' + to.encode())


def echoes():
    rows = OutboxEvent.objects.filter(event_type="thing.echoed").order_by("id")
    return [json.loads(bytes(row.value))["data"]["number"] for row in rows]


def state(letter):
    return FailedMessage.objects.filter(pk=letter.pk).values().get()


# ── Retry ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_retry_applies_the_event_and_closes_the_letter_together(letter, effects):
    sample.mend()

    outcome = retry(letter.pk)

    assert (outcome.letter_id, outcome.status, outcome.error, outcome.released) == (letter.pk, "PROCESSED", "", 0)
    assert effects() == [("a", 5000)]
    assert echoes() == [5000]
    assert InboxEvent.objects.get().event_id == letter.event_id
    letter.refresh_from_db()
    assert (letter.status, letter.next_retry_at, letter.attempts) == ("PROCESSED", None, 0)
    assert letter.processed_at is not None


def test_a_crash_before_the_commit_leaves_the_letter_and_no_effect(letter, effects, at_once):
    sample.mend()

    def retry_and_crash() -> None:
        with transaction.atomic():
            retry(letter.pk)
            connection.connection.close()

    [outcome] = at_once(retry_and_crash)

    assert isinstance(outcome, DatabaseError)
    assert effects() == []
    assert state(letter)["status"] == "PENDING"
    assert not InboxEvent.objects.exists()
    assert retry(letter.pk).status == "PROCESSED"


def test_a_persons_retry_that_fails_leaves_status_and_attempts_and_renews_the_error(letter, effects):
    sample.broken["a"] = ValueError("now for another reason")
    sample.mend()
    before = state(letter)

    outcome = retry(letter.pk)

    after = state(letter)
    assert (outcome.status, outcome.released) == ("PENDING", 0)
    assert "now for another reason" in outcome.error
    assert (after["error_class"], after["error"]) == ("ValueError", outcome.error)
    assert after["fingerprint"] == "sample thing.counted ValueError: now for another reason"
    kept = before.keys() - {"error", "error_class", "fingerprint"}
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert effects() == []


def test_automatic_retries_are_counted_and_the_last_one_leaves_it_to_a_person(letter, settings):
    settings.OUTBOX = {**settings.OUTBOX, "RETRY_SECONDS": 30, "RETRY_LIMIT": 3}
    for attempt in (1, 2):
        make_due(FailedMessage.objects.all())
        assert retry(letter.pk, automatic=True).status == "PENDING"
        letter.refresh_from_db()
        assert letter.attempts == attempt
        assert timedelta(seconds=25) < letter.next_retry_at - datetime.now(UTC) <= timedelta(seconds=30)
    make_due(FailedMessage.objects.all())

    assert retry(letter.pk, automatic=True).status == "FAILED"

    letter.refresh_from_db()
    assert (letter.attempts, letter.next_retry_at) == (3, None)


def test_an_automatic_retry_leaves_alone_what_is_not_due_or_of_a_halted_group(letter):
    before = state(letter)
    with pytest.raises(Refused, match="not due"):
        retry(letter.pk, automatic=True)
    assert state(letter) == before
    make_due(FailedMessage.objects.all())
    ConsumerGroup.objects.filter(pk="sample").update(halted_at=datetime.now(UTC))

    with pytest.raises(Refused, match="halted"):
        retry(letter.pk, automatic=True)


def test_a_person_can_retry_letters_of_a_halted_group(letter, effects):
    ConsumerGroup.objects.filter(pk="sample").update(halted_at=datetime.now(UTC))
    sample.mend()

    assert retry(letter.pk).status == "PROCESSED"


def test_what_is_closed_or_was_never_there_is_refused(letter):
    sample.mend()
    retry(letter.pk)
    for act in (
        lambda: retry(letter.pk),
        lambda: discard(letter.pk, reason="x"),
        lambda: edit_and_retry(letter.pk, value=bytes(letter.value)),
        lambda: dry_run(letter.pk),
    ):
        with pytest.raises(Refused, match="processed already"):
            act()
    with pytest.raises(Refused, match="no letter 999999"):
        retry(999_999)


def test_a_letter_whose_event_was_applied_meanwhile_is_closed_without_effect(letter, effects, applier):
    sample.mend()
    event = Record("thing-events", 0, 99, bytes(letter.key), bytes(letter.value), decode_headers(letter.headers))
    assert applier.apply([event]).applied == 1

    assert retry(letter.pk).status == "PROCESSED"

    assert effects() == [("a", 5000)]


@pytest.mark.parametrize("round_number", range(3))
def test_two_retries_at_once_apply_it_once(letter, effects, at_once, round_number):
    sample.mend()

    outcomes = at_once(lambda: retry(letter.pk), lambda: retry(letter.pk))

    assert len([outcome for outcome in outcomes if isinstance(outcome, Refused)]) == 1, outcomes
    assert effects() == [("a", 5000)]
    assert echoes() == [5000]


@pytest.mark.parametrize("round_number", range(3))
def test_of_a_retry_and_a_discard_at_once_one_wins(letter, effects, at_once, round_number):
    sample.mend()

    retried, discarded = at_once(lambda: retry(letter.pk), lambda: discard(letter.pk, reason="x"))

    if isinstance(retried, Refused):
        assert (discarded, effects(), state(letter)["status"]) == (0, [], "DISCARDED")
    else:
        assert isinstance(discarded, Refused)
        assert (effects(), state(letter)["status"]) == ([("a", 5000)], "PROCESSED")
    assert InboxEvent.objects.count() == 1


def test_a_letter_that_another_one_holds_is_refused_after_a_while(letter, monkeypatch):
    monkeypatch.setattr("outbox.letters.closing.LOCK_SECONDS", 0.1)
    with psycopg.connect(**{**connection.get_connection_params(), "cursor_factory": None}) as other:
        other.execute("SELECT FROM failed_messages WHERE id = %s FOR UPDATE", (letter.pk,))

        with pytest.raises(Refused, match="is being worked on"):
            retry(letter.pk)

    sample.mend()
    assert retry(letter.pk).status == "PROCESSED"


def test_the_time_limit_for_locks_does_not_hold_for_the_handler(letter, effects, monkeypatch):
    seen = []
    monkeypatch.setattr(sample, "write", lambda *args: seen.append(lock_timeout()))

    retry(letter.pk)

    assert seen == [lock_timeout()]


def lock_timeout() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        return cursor.fetchone()[0]


@pytest.mark.parametrize("sqlstate", [errors.DiskFull, errors.AdminShutdown, errors.LockNotAvailable])
def test_an_outage_burns_nothing(letter, effects, sqlstate):
    trouble = OperationalError("in trouble")
    trouble.__cause__ = sqlstate("in trouble")
    sample.broken["a"] = trouble
    sample.mend()
    make_due(FailedMessage.objects.all())
    before = state(letter)

    for act in (lambda: retry(letter.pk, automatic=True), lambda: retry(letter.pk), lambda: dry_run(letter.pk)):
        with pytest.raises(Outage):
            act()

    assert state(letter) == before
    assert effects() == []


def test_a_deadlock_is_repeated_at_once(letter, effects):
    lost = OperationalError("deadlock detected")
    lost.__cause__ = errors.DeadlockDetected("deadlock detected")
    sample.mend()
    sample.losses[:] = [lost, lost]

    assert retry(letter.pk).status == "PROCESSED"

    assert effects() == [("a", 5000)]


def test_what_a_deferred_constraint_refuses_is_a_failure_of_the_retry(letter, effects):
    sample.mend()
    with connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE sample_effect ADD CONSTRAINT one UNIQUE (subject) DEFERRABLE INITIALLY DEFERRED;"
            "INSERT INTO sample_effect (subject, number) VALUES ('a', 1)"
        )

    assert "IntegrityError" in dry_run(letter.pk).error
    assert "IntegrityError" in retry(letter.pk).error

    assert state(letter)["status"] == "PENDING"
    assert effects() == [("a", 1)]


def test_a_letter_of_a_type_that_nobody_handles_any_more_stays_and_says_so(letter):
    FailedMessage.objects.update(consumer_group="gone")

    outcome = retry(letter.pk)

    assert outcome.status == "PENDING"
    assert "gone does not handle thing.counted" in outcome.error


def test_a_letter_too_old_to_prove_new_is_applied_only_when_a_person_edits_it(applier, effects):
    event = ThingCounted(thing="a", number=1)
    then = datetime.now(UTC) - timedelta(days=31)
    event.__dict__["event_id"] = UUID(int=(int(then.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62))
    applier.apply([record_of(event)])
    letter = FailedMessage.objects.get()

    assert "older than the 30 days" in retry(letter.pk).error
    assert effects() == []

    assert edit_and_retry(letter.pk, value=bytes(letter.value)).status == "PROCESSED"
    assert effects() == [("a", 1)]


def test_make_due_takes_open_letters_only(letter, applier):
    applier.apply([Record("thing-events", 0, 8, b"a", b"garbage", [])])
    closed = FailedMessage.objects.create(
        consumer_group="sample", topic="t", partition=0, offset=1, status="DISCARDED", created_at=datetime.now(UTC)
    )

    assert make_due(FailedMessage.objects.all()) == 2

    assert set(FailedMessage.objects.filter(status="PENDING").values_list("offset", flat=True)) == {7, 8}
    assert state(closed)["status"] == "DISCARDED"


# ── Edit ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_edited_letter_is_applied_with_its_new_value(letter, effects):
    assert edit_and_retry(letter.pk, value=number(letter, "12")).status == "PROCESSED"

    assert effects() == [("a", 12)]
    after = state(letter)
    assert b'"number":12' in bytes(after["value"])
    assert (bytes(after["key"]), after["event_id"], after["offset"]) == (b"a", letter.event_id, 7)


def test_an_edited_letter_that_fails_again_keeps_its_new_value(letter, effects):
    outcome = edit_and_retry(letter.pk, value=number(letter, "6000"))

    assert outcome.status == "PENDING"
    assert b'"number":6000' in bytes(state(letter)["value"])
    assert "6000" in state(letter)["error"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b'"eventId":"', b'"eventId":"1', "no event"),
        (b'"eventType":"thing.counted"', b'"eventType":"thing.closed"', "eventType must stay thing.counted"),
        (b'"thing":"a"', b'"thing":"b"', "key thing must stay a"),
        (b'"number":5000', b'"number":"x"', "number"),
        (b'"version":1', b'"version":9', "version 1 here, not 9"),
        (b"{", b"", "no event"),
    ],
)
def test_an_edit_that_is_no_event_or_another_one_changes_nothing(letter, effects, old, new, says):
    value = bytes(letter.value).replace(old, new, 1)
    before = state(letter)

    for act in (
        lambda: edit_and_retry(letter.pk, value=value),
        lambda: dry_run(letter.pk, value=value),
    ):
        with pytest.raises(InvalidEdit, match=says):
            act()

    assert state(letter) == before


def test_an_edit_cannot_change_the_event_id(letter):
    value = bytes(letter.value).replace(str(letter.event_id).encode(), b"0198c5e2-6f0a-7c3e-9b1a-000000000001")

    with pytest.raises(InvalidEdit, match=f"eventId must stay {letter.event_id}"):
        edit_and_retry(letter.pk, value=value)


EXAMPLE = ThingCounted(thing="a", number=1)


@pytest.mark.parametrize("wrong", garbage(EXAMPLE))
def test_garbage_can_be_edited_into_its_event_where_it_has_a_key_of_text_and_else_be_discarded(applier, effects, wrong):
    key, value, headers = garbage(EXAMPLE)[wrong]
    applier.apply([Record("thing-events", 0, 7, key, value, headers)])
    letter = FailedMessage.objects.get()
    good = record_of(EXAMPLE).value

    if key == b"a":
        assert edit_and_retry(letter.pk, value=good).status == "PROCESSED"
        assert effects() == [("a", 1)]
        letter.refresh_from_db()
        assert (letter.event_id, letter.event_type) == (EXAMPLE.event_id, "thing.counted")
        assert set(headers_of(EXAMPLE)) <= set(decode_headers(letter.headers))
    else:
        with pytest.raises(InvalidEdit, match="key"):
            edit_and_retry(letter.pk, value=good)
        assert discard(letter.pk, reason="garbage") == 0
        assert state(letter)["status"] == "DISCARDED"


def test_an_edit_keeps_the_other_headers(applier, effects):
    record = record_of(EXAMPLE)
    odd = [("traceparent", b"\xff\x00"), ("traceparent", None)]
    headers = [("event-version", b"9"), *record.headers[1:], *odd]
    applier.apply([Record("thing-events", 0, 7, record.key, record.value, headers)])

    edit_and_retry(FailedMessage.objects.get().pk, value=record.value)

    kept = decode_headers(FailedMessage.objects.get().headers)
    assert sorted(kept, key=repr) == sorted([*record.headers, ("event-version", b"1"), *odd], key=repr)


# ── Discard ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_discarded_event_counts_as_applied(letter, effects, applier):
    sample.mend()

    assert discard(letter.pk, reason="  a test order ") == 0

    after = state(letter)
    assert (after["status"], after["reason"], after["next_retry_at"]) == ("DISCARDED", "a test order", None)
    assert after["processed_at"] is not None
    record = Record("thing-events", 0, 99, bytes(letter.key), bytes(letter.value), decode_headers(letter.headers))
    assert applier.apply([record]).repeated == 1
    assert effects() == []


def test_a_letter_is_not_discarded_without_a_reason(letter):
    with pytest.raises(Refused, match="reason"):
        discard(letter.pk, reason=" \n")

    assert state(letter)["status"] == "PENDING"


# ── Dry run ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_dry_run_tells_the_error_and_changes_nothing(letter, effects, everything):
    before = everything()

    outcome = dry_run(letter.pk)

    assert "IntegrityError" in outcome.error
    assert outcome.published == []
    assert everything() == before
    assert effects() == []


def test_a_dry_run_tells_what_would_be_published_and_changes_nothing(letter, effects, everything):
    sample.mend()
    with transaction.atomic():
        write(rows_of([ThingCounted(thing="another", number=1)]))
    before = everything()

    [(event_type, key, value)] = dry_run(letter.pk).published

    assert (event_type, key, json.loads(value)["data"]["number"]) == ("thing.echoed", "a", 5000)
    assert everything() == before
    assert effects() == []


def test_a_dry_run_of_an_edited_value_changes_nothing(letter, effects, everything):
    before = everything()

    outcome = dry_run(letter.pk, value=number(letter, "12"))

    assert outcome.error == ""
    assert json.loads(outcome.published[0][2])["data"]["number"] == 12
    assert everything() == before


def test_a_dry_run_does_not_tell_of_what_others_publish_meanwhile(letter, effects, monkeypatch):
    sample.mend()

    def publish_elsewhere(*args) -> None:
        with psycopg.connect(**{**connection.get_connection_params(), "cursor_factory": None}) as other:
            other.execute("INSERT INTO outbox_outboxevent (event_type, topic, created_at) VALUES ('other', 't', now())")

    monkeypatch.setattr(sample, "write", publish_elsewhere)

    assert [event_type for event_type, _, _ in dry_run(letter.pk).published] == ["thing.echoed"]


@pytest.mark.django_db
def test_acts_work_inside_a_callers_transaction(effects):
    Applier("sample", pause=lambda seconds: None).apply([record_of(ThingCounted(thing="a", number=5000))])
    letter = FailedMessage.objects.get()
    sample.mend()

    assert [kind for kind, _, _ in dry_run(letter.pk).published] == ["thing.echoed"]
    assert effects() == []
    assert retry(letter.pk).status == "PROCESSED"
    assert effects() == [("a", 5000)]


# ── Letters of the relay ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def refused(transactional_db):
    """A record that Kafka refused, as the relay keeps it, and two of its key and one of another that are behind it."""
    events = [ThingShrunk(thing=thing, note=note) for thing, note in (("a", "1"), ("a", "2"), ("b", "3"), ("a", "4"))]
    with transaction.atomic():
        write(rows_of(events))
    row = OutboxEvent.objects.first()
    OutboxEvent.objects.filter(pk=row.pk).delete()
    return FailedMessage.objects.create(
        consumer_group="relay",
        topic=row.topic,
        partition=-1,
        offset=row.pk,
        key=row.key,
        value=row.value,
        headers=[["event-id", str(row.event_id)], ["event-type", row.event_type], ["event-version", "1"]],
        event_id=row.event_id,
        event_type=row.event_type,
        error_class="MSG_SIZE_TOO_LARGE",
        status="FAILED",
        parks=True,
        created_at=datetime.now(UTC),
    )


def notes():
    return [json.loads(bytes(row.value))["data"]["note"] for row in OutboxEvent.objects.order_by("id")]


def test_a_refused_record_goes_back_to_its_place_in_the_outbox(refused):
    assert retry(refused.pk).status == "PROCESSED"

    assert notes() == ["1", "2", "3", "4"]
    row = OutboxEvent.objects.get(event_id=refused.event_id)
    assert (bytes(row.key), bytes(row.value), row.topic) == (refused.key, refused.value, refused.topic)
    assert row.headers == refused.headers
    assert state(refused)["status"] == "PROCESSED"
    assert not InboxEvent.objects.exists()


def test_a_refused_record_can_be_edited_and_discarded(refused):
    value = bytes(refused.value).replace(b'"note":"1"', b'"note":"short"')
    with pytest.raises(InvalidEdit, match="more than Kafka takes"):
        dry_run(refused.pk, value=bytes(refused.value).replace(b'"note":"1"', b'"note":"' + b"x" * 950_000 + b'"'))
    assert dry_run(refused.pk, value=value) == DryRun("", [("thing.shrunk", "a", value.decode())])

    assert edit_and_retry(refused.pk, value=value).status == "PROCESSED"

    assert "short" in notes()
    FailedMessage.objects.update(status="FAILED")
    before = notes()
    assert discard(refused.pk, reason="x") == 0
    assert notes() == before
    assert not InboxEvent.objects.exists()
    assert not ParkedEvent.objects.exists()
