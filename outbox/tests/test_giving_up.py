"""Telling whoever waits for an event that it is given up: once, with the letter, and in nobody's way."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from django.db import DatabaseError, OperationalError, connection, transaction
from psycopg import errors

from outbox import handles, publish
from outbox.consuming.applying import Applier
from outbox.letters import foreign_letters
from outbox.letters.retrying import Outage, Refused, discard, edit_and_retry, make_due, retry
from outbox.models import FailedMessage, OutboxEvent
from outbox.record import Record
from outbox.testing.crashing import crashing
from outbox.tests import sample
from outbox.tests.records import record_of
from outbox.tests.sample import ThingClosed, ThingCounted, ThingEchoed, write

# What else happens in the telling.
besides: list[Callable[[], None]] = []


def give_up(event: ThingCounted) -> None:
    publish(ThingEchoed(thing=event.thing, number=-1))
    write(f"given up {event.thing}", 0)
    for act in besides:
        act()


@handles(ThingCounted, group="told", bulk=True, given_up=give_up)
def count(events: list[ThingCounted]) -> None:
    sample.count(events)


@handles(ThingClosed, group="told")
def close(event: ThingClosed) -> None:
    sample.close(event)


TOO_LARGE = ThingCounted(thing="a", number=5000)
# What it leaves to be told of.
TOLD = ("given up a", 0)


@pytest.fixture(autouse=True)
def nothing_besides() -> None:
    besides.clear()


@pytest.fixture
def applier(transactional_db, settings) -> Applier:
    settings.OUTBOX = {**settings.OUTBOX, "RETRY_LIMIT": 2}
    return Applier("told", pause=lambda seconds: None)


@pytest.fixture
def letter(applier) -> FailedMessage:
    applier.apply([record_of(TOO_LARGE)])
    return FailedMessage.objects.get()


def retry_automatically(letter, times: int = 1) -> None:
    for _ in range(times):
        make_due(FailedMessage.objects.filter(pk=letter.pk))
        retry(letter.pk, automatic=True)
    letter.refresh_from_db()


def echoes() -> int:
    return OutboxEvent.objects.filter(event_type="thing.echoed").count()


def test_is_told_when_the_automatic_retries_are_used_up_and_not_before(letter, effects):
    retry_automatically(letter)
    assert (letter.status, letter.given_up_at, effects()) == ("PENDING", None, [])

    retry_automatically(letter)

    assert (letter.status, effects(), echoes()) == ("FAILED", [TOLD], 1)
    assert letter.given_up_at is not None


def test_is_told_when_a_person_discards_it(letter, effects):
    discard(letter.pk, reason="x")

    letter.refresh_from_db()
    assert (letter.status, effects(), echoes()) == ("DISCARDED", [TOLD], 1)
    assert letter.given_up_at is not None


def test_is_told_at_once_where_there_are_no_automatic_retries(applier, effects, settings):
    settings.OUTBOX = {**settings.OUTBOX, "RETRY_LIMIT": 0}

    for _ in range(2):
        applier.apply([record_of(TOO_LARGE)])

    letter = FailedMessage.objects.get()
    assert (letter.status, effects(), echoes()) == ("FAILED", [TOLD], 1)
    assert letter.given_up_at is not None


def test_is_told_at_once_of_a_foreign_letter_that_nobody_retries(applier, effects, settings):
    settings.OUTBOX = {**settings.OUTBOX, "RETRY_LIMIT": 0}
    record = record_of(TOO_LARGE)
    foreign = Record("their.DLT", 0, 1, record.key, record.value, record.headers)

    with transaction.atomic():
        foreign_letters.take_in([foreign, foreign], {"their.DLT": "told"})

    assert (FailedMessage.objects.get().status, effects()) == ("FAILED", [TOLD])


def test_is_told_once_however_often_it_is_given_up(letter, effects):
    retry_automatically(letter, times=2)
    retry(letter.pk)
    retry_automatically(letter)
    assert letter.status == "FAILED"
    edit_and_retry(letter.pk, value=bytes(letter.value).replace(b"5000", b"6000"))

    discard(letter.pk, reason="x")

    assert (effects(), echoes()) == ([TOLD], 1)


@pytest.mark.parametrize("round_number", range(3))
def test_two_who_discard_at_once_tell_it_once(letter, effects, at_once, round_number):
    outcomes = at_once(*[lambda: discard(letter.pk, reason="x")] * 2)

    assert len([outcome for outcome in outcomes if isinstance(outcome, Refused)]) == 1, outcomes
    assert effects() == [TOLD]


def test_an_event_that_was_given_up_can_still_be_applied_by_a_person(letter, effects):
    retry_automatically(letter, times=2)
    sample.mend()

    assert retry(letter.pk).status == "PROCESSED"

    assert effects() == [TOLD, ("a", 5000)]


def test_an_event_that_is_applied_in_time_is_never_given_up(letter, effects):
    sample.mend()
    retry_automatically(letter)

    assert (letter.status, letter.given_up_at, effects()) == ("PROCESSED", None, [("a", 5000)])


@pytest.mark.parametrize("step", ["before the commit", "after the commit"])
def test_a_crash_when_it_fails_for_good_loses_and_doubles_nothing(letter, effects, step):
    retry_automatically(letter)
    make_due(FailedMessage.objects.all())

    with crashing(step, connection):
        retry(letter.pk, automatic=True)
    letter.refresh_from_db()
    is_done = step == "after the commit"
    assert (letter.status, effects(), echoes()) == (("FAILED", [TOLD], 1) if is_done else ("PENDING", [], 0))

    if not is_done:
        retry_automatically(letter)
    assert (letter.status, effects(), echoes()) == ("FAILED", [TOLD], 1)


def test_a_crash_amid_the_telling_leaves_the_letter_as_it_was(letter, effects):
    besides.append(connection.connection.close)
    with pytest.raises(Outage):
        discard(letter.pk, reason="x")
    letter.refresh_from_db()
    assert (letter.status, letter.given_up_at, effects(), echoes()) == ("PENDING", None, [], 0)
    besides.clear()

    discard(letter.pk, reason="x")

    assert (effects(), echoes()) == ([TOLD], 1)


def test_one_that_cannot_be_told_fails_all_the_same_and_is_told_when_it_is_discarded(letter, effects, caplog):
    sample.broken["given up a"] = ValueError("nobody listens")

    retry_automatically(letter, times=2)

    assert (letter.status, letter.given_up_at, effects(), echoes()) == ("FAILED", None, [], 0)
    # Of the handler's failure, not of this one.
    assert letter.error_class == "IntegrityError"
    [line] = [record for record in caplog.records if record.msg == "nobody could be told that an event is given up"]
    assert (line.levelname, line.group, line.event_id) == ("ERROR", "told", str(TOO_LARGE.event_id))
    assert "nobody listens" in caplog.text

    sample.broken.clear()
    discard(letter.pk, reason="x")

    assert (effects(), echoes()) == ([TOLD], 1)


def test_one_that_cannot_be_told_is_discarded_all_the_same(letter, effects):
    sample.broken["given up a"] = ValueError("nobody listens")

    discard(letter.pk, reason="x")

    letter.refresh_from_db()
    assert (letter.status, letter.given_up_at, effects(), echoes()) == ("DISCARDED", None, [], 0)


def test_an_error_of_the_databases_in_the_telling_keeps_nothing_from_its_commit(letter, effects):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE sample_effect ADD CHECK (subject <> 'given up a')")

    discard(letter.pk, reason="x")

    letter.refresh_from_db()
    assert (letter.status, letter.given_up_at, effects(), echoes()) == ("DISCARDED", None, [], 0)


def test_one_that_swallows_an_error_of_the_databases_leaves_nothing(letter, effects):
    def swallow() -> None:
        with suppress(DatabaseError):
            write("too large", 5000)

    besides.append(swallow)

    discard(letter.pk, reason="x")

    letter.refresh_from_db()
    assert (letter.status, letter.given_up_at, effects(), echoes()) == ("DISCARDED", None, [], 0)


def test_an_outage_amid_the_telling_burns_nothing(letter, effects):
    retry_automatically(letter)
    trouble = OperationalError("in trouble")
    trouble.__cause__ = errors.DiskFull("in trouble")
    sample.broken["given up a"] = trouble
    make_due(FailedMessage.objects.all())
    before = FailedMessage.objects.values().get()

    with pytest.raises(Outage):
        retry(letter.pk, automatic=True)
    with pytest.raises(Outage):
        discard(letter.pk, reason="x")

    assert FailedMessage.objects.values().get() == before
    assert effects() == []


def test_a_deadlock_amid_the_telling_is_repeated_at_once(letter, effects):
    lost = OperationalError("deadlock detected")
    lost.__cause__ = errors.DeadlockDetected("deadlock detected")
    sample.losses[:] = [lost, lost]

    discard(letter.pk, reason="x")

    assert (effects(), echoes()) == ([TOLD], 1)


def test_what_is_told_belongs_to_the_trace_of_the_event(applier):
    record, trace = record_of(TOO_LARGE), "a" * 32
    headers = [*record.headers, ("traceparent", f"00-{trace}-{'b' * 16}-01".encode())]
    applier.apply([Record(*record.place, record.key, record.value, headers)])

    discard(FailedMessage.objects.get().pk, reason="x")

    assert trace in OutboxEvent.objects.get(event_type="thing.echoed").traceparent


def test_an_unreadable_record_has_nobody_who_waits(applier, effects):
    applier.apply([Record("thing-events", 0, 1, b"a", b"garbage", [])])

    discard(FailedMessage.objects.get().pk, reason="x")

    letter = FailedMessage.objects.get()
    assert (letter.status, letter.given_up_at, effects()) == ("DISCARDED", None, [])


def test_one_that_was_edited_into_an_event_is_told_when_it_is_discarded(applier, effects):
    record = record_of(TOO_LARGE)
    applier.apply([Record(*record.place, record.key, b"garbage", record.headers)])
    letter = FailedMessage.objects.get()
    assert edit_and_retry(letter.pk, value=record.value).status == "FAILED"
    assert effects() == []

    discard(letter.pk, reason="x")

    assert effects() == [TOLD]


def test_a_handler_without_anybody_who_waits_tells_nobody(applier, effects):
    sample.broken["a"] = ValueError("no good")
    applier.apply([record_of(ThingClosed(thing="a"))])

    discard(FailedMessage.objects.get().pk, reason="x")

    letter = FailedMessage.objects.get()
    assert (letter.status, letter.given_up_at, effects()) == ("DISCARDED", None, [])
