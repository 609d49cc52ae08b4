"""Parking: later events of a key wait behind its dead letter, and are applied in order when that is closed."""

import random
from functools import partial
from threading import Barrier, Event, Thread, current_thread, main_thread

import pytest
from django.db import connection

from outbox.consuming import inbox
from outbox.consuming.applying import Applier, Tally
from outbox.letters.retrying import Refused, discard, edit_and_retry, retry
from outbox.models import ConsumerGroup, FailedMessage, InboxEvent, OutboxEvent, ParkedEvent
from outbox.record import Record
from outbox.tests import sample
from outbox.tests.processes import wait_until
from outbox.tests.records import garbage, record_of
from outbox.tests.sample import ThingClosed, ThingCounted

GROUP = "sample-ordered"


@pytest.fixture
def applier(transactional_db) -> Applier:
    return Applier(GROUP, pause=lambda seconds: None)


def counted(*numbers: int, thing: str = "K", first: int = 0) -> list[Record]:
    return [
        record_of(ThingCounted(thing=thing, number=number), offset=first + place)
        for place, number in enumerate(numbers)
    ]


def open_letters() -> list[FailedMessage]:
    return list(FailedMessage.objects.open().order_by("id"))


def inbox_knows(record):
    event_id = dict(record.headers)["event-id"].decode()
    return InboxEvent.objects.filter(consumer_group=GROUP, event_id=event_id).exists()


def of(key: str, rows: list[tuple]) -> list[int]:
    return [number for subject, number in rows if subject == key]


def test_later_events_of_the_key_wait_and_other_keys_go_on(applier, effects):
    sample.forbid(1)
    records = counted(1, 2, 3) + counted(1, 2, thing="other", first=10)[1:]

    tally = applier.apply(records)

    assert tally == Tally(applied=1, parked=2, failed=1)
    assert effects() == [("other", 2)]
    [letter] = open_letters()
    assert (letter.status, letter.offset, letter.parks) == ("PENDING", 0, True)
    assert list(ParkedEvent.objects.values_list("offset", flat=True)) == [1, 2]
    parked = ParkedEvent.objects.get(offset=1)
    assert (bytes(parked.key), bytes(parked.value)) == (b"K", records[1].value)
    assert applier.apply(counted(4, first=20)).parked == 1


def test_a_solved_letter_is_followed_by_what_waited_in_order_once(applier, effects):
    sample.forbid(1)
    records = counted(1, 2, 3)
    records.append(record_of(ThingClosed(thing="K"), offset=3))
    applier.apply(records)
    sample.forbid()

    outcome = retry(open_letters()[0].pk)

    assert (outcome.status, outcome.error, outcome.released) == ("PROCESSED", "", 3)
    assert effects() == [("K", 1), ("K", 2), ("K", 3), ("K", 0)]
    assert not ParkedEvent.objects.exists()
    assert applier.apply(records).repeated == 4
    assert applier.apply(counted(5, first=9)).applied == 1
    assert len(effects()) == 5


def test_a_discarded_letter_is_known_to_the_inbox_and_followed_by_what_waited(applier, effects):
    sample.forbid(1)
    records = counted(1, 2, 3)
    applier.apply(records)
    sample.forbid()

    assert discard(open_letters()[0].pk, reason="sent by mistake") == 2

    assert effects() == [("K", 2), ("K", 3)]
    assert inbox_knows(records[0])
    letter = FailedMessage.objects.get()
    assert (letter.status, letter.reason) == ("DISCARDED", "sent by mistake")
    assert applier.apply(records).repeated == 3
    assert len(effects()) == 2


def test_one_that_fails_when_it_is_released_is_a_letter_itself_and_the_rest_goes_on_waiting(applier, effects):
    sample.forbid(1, 3)
    records = counted(1, 2, 3, 4, 5)
    applier.apply(records)
    sample.forbid(3)

    assert retry(open_letters()[0].pk).released == 1

    assert effects() == [("K", 1), ("K", 2)]
    [letter] = open_letters()
    assert (letter.offset, letter.status, letter.parks, letter.attempts) == (2, "PENDING", True, 0)
    assert OutboxEvent.objects.filter(topic=f"{GROUP}-dlq").count() == 2
    assert list(ParkedEvent.objects.values_list("offset", flat=True)) == [3, 4]
    assert applier.apply(records).repeated == 5
    assert applier.apply(counted(6, first=5)).parked == 1
    sample.forbid()
    assert retry(letter.pk).released == 3
    assert of("K", effects()) == [1, 2, 3, 4, 5, 6]


def test_redelivery_of_letters_and_parked_events_changes_nothing(applier, effects):
    sample.forbid(1)
    records = counted(1, 2, 3)
    applier.apply(records)
    sample.forbid()

    assert applier.apply(records) == Tally(repeated=3)

    assert effects() == []
    assert FailedMessage.objects.count() == 1
    assert ParkedEvent.objects.count() == 2


def test_an_event_that_comes_again_elsewhere_while_its_letter_is_open_is_applied_once(applier, effects):
    sample.forbid(1)
    event, later = ThingCounted(thing="K", number=1), ThingCounted(thing="K", number=2)
    applier.apply([record_of(event, offset=1), record_of(later, offset=2)])
    sample.forbid()

    applier.apply([record_of(event, offset=3), record_of(later, offset=4)])
    retry(open_letters()[0].pk)

    assert effects() == [("K", 1), ("K", 2)]
    assert not ParkedEvent.objects.exists()


def test_what_was_applied_before_the_letter_is_not_parked_when_it_comes_again(applier, effects):
    first = counted(7)
    applier.apply(first)
    sample.forbid(1)
    applier.apply(counted(1, first=1))

    assert applier.apply(first) == Tally(repeated=1)

    assert not ParkedEvent.objects.exists()


def test_unreadable_records_and_null_keys_park_nothing(applier, effects):
    for offset, (key, value, headers) in enumerate(garbage(ThingCounted(thing="K", number=1)).values()):
        applier.apply([Record("thing-events", 1, offset, key, value, headers)])

    assert applier.apply(counted(1, 2)).applied == 2

    assert not FailedMessage.objects.filter(parks=True).exists()
    assert not ParkedEvent.objects.exists()


def test_a_group_that_is_not_ordered_parks_nothing(transactional_db, effects):
    sample.forbid(1)

    tally = Applier("sample", pause=lambda seconds: None).apply(counted(1, 2, 3))

    assert tally == Tally(applied=2, failed=1)
    assert not FailedMessage.objects.get().parks
    assert not ParkedEvent.objects.exists()


def test_the_keys_of_one_group_do_not_hold_up_another_group(applier, effects):
    sample.forbid(1)
    records = counted(1, 2)
    applier.apply(records)

    tally = Applier("sample", pause=lambda seconds: None).apply(records)

    assert tally == Tally(applied=1, failed=1)


def test_an_empty_key_and_a_very_long_one_park_like_any_other(applier, effects):
    for key in ("", "k" * 100_000):
        sample.forbid(1)
        first = FailedMessage.objects.count() * 10
        assert applier.apply(counted(1, 2, thing=key, first=first)) == Tally(failed=1, parked=1)
        sample.forbid()
        assert retry(open_letters()[0].pk).released == 1


def test_more_events_than_are_released_together_keep_their_order(applier, effects):
    sample.forbid(1)
    applier.apply(counted(*range(1, 1_300)))
    sample.forbid(1_250)

    assert retry(open_letters()[0].pk).released == 1_248
    sample.forbid()
    assert retry(open_letters()[0].pk).released == 1_299 - 1_250

    assert of("K", effects()) == list(range(1, 1_300))


def test_a_bulk_handler_is_called_once_for_what_waited(applier, effects):
    sample.forbid(1)
    applier.apply(counted(*range(1, 101)))
    sample.forbid()
    sample.calls.clear()

    retry(open_letters()[0].pk)

    assert sample.calls == [("count", 1), ("count", 99)]


def test_a_parked_event_that_cannot_be_read_any_more_is_a_letter_for_a_person(applier, effects):
    sample.forbid(1)
    applier.apply(counted(1, 2, 3))
    sample.forbid()
    broken = ParkedEvent.objects.get(offset=1)
    broken.value = bytes(broken.value).replace(b'"version":1', b'"version":99')
    broken.save()

    retry(open_letters()[0].pk)

    [letter] = open_letters()
    assert (letter.status, letter.offset, letter.parks) == ("FAILED", 1, True)
    assert effects() == [("K", 1)]
    edit_and_retry(letter.pk, value=bytes(letter.value).replace(b'"version":99', b'"version":1'))
    assert of("K", effects()) == [1, 2, 3]


def test_of_two_letters_of_a_key_the_older_one_is_first(applier, effects):
    older, newer = two_letters(applier)

    with pytest.raises(Refused, match=f"waits behind letter {older}"):
        retry(newer)

    assert (retry(older).released, retry(newer).released) == (0, 1)
    assert of("K", effects()) == [1, 2, 3]


def two_letters(applier: Applier) -> tuple[int, int]:
    """Make two open letters of one key with one event behind both, as a group has them that was not always ordered."""
    sample.forbid(1)
    applier.apply(counted(1, 2, 3))
    [letter] = open_letters()
    parked = ParkedEvent.objects.get(offset=1)
    letter.pk, letter.offset, letter.value, letter.headers, letter.event_id = (
        None,
        1,
        bytes(parked.value),
        parked.headers,
        parked.event_id,
    )
    letter.save(force_insert=True)
    parked.delete()
    sample.forbid()
    older, newer = open_letters()
    return older.pk, newer.pk


def test_two_that_close_the_two_letters_of_a_key_at_once_release_what_waits_once(applier, effects, at_once):
    for round_number in range(5):
        older, newer = two_letters(applier)

        outcomes = at_once(*(partial(discard, letter, reason="x") for letter in (older, newer)))

        assert sorted(outcomes) == [0, 1], outcomes
        assert not ParkedEvent.objects.exists()
        assert of("K", effects()) == [3] * (round_number + 1)
        FailedMessage.objects.all().delete()
        InboxEvent.objects.all().delete()


def test_retries_that_race_with_a_consumer_strand_and_disorder_nothing(applier, effects):
    for round_number in range(8):
        key = f"K{round_number}"
        sample.forbid(1)
        applier.apply(counted(1, thing=key, first=1_000 * round_number))
        [letter] = open_letters()
        records = counted(*range(2, 42), thing=key, first=1_000 * round_number + 1)
        sample.forbid(*random.Random(round_number).sample(range(2, 42), 3))

        race(
            lambda records=records: [applier.apply(records[n : n + 2]) for n in range(0, 40, 2)],
            retry_until_none_is_open,
            retry_until_none_is_open,
        )
        sample.forbid()
        retry_until_none_is_open()

        assert of(key, effects()) == list(range(1, 42))
        assert not ParkedEvent.objects.exists()
        assert FailedMessage.objects.get(pk=letter.pk).status == "PROCESSED"


def test_who_waited_for_a_release_meets_the_letter_that_came_of_it(applier, effects, monkeypatch):
    sample.forbid(1)
    applier.apply(counted(1, 2))
    sample.forbid(2)
    is_locked, write = Event(), sample.write

    def write_when_somebody_waits(subject: str, number: int) -> None:
        if number == 1:
            is_locked.set()
            wait_until(somebody_waits_for_us)
        write(subject, number)

    monkeypatch.setattr(sample, "write", write_when_somebody_waits)

    race(lambda: retry(open_letters()[0].pk), lambda: is_locked.wait(30) and applier.apply(counted(3, first=2)))

    assert effects() == [("K", 1)]
    assert [letter.offset for letter in open_letters()] == [1]
    assert ParkedEvent.objects.get().offset == 2


def somebody_waits_for_us() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))")
        return cursor.fetchone() is not None


def retry_until_none_is_open() -> None:
    for _ in range(60):
        for letter in open_letters():
            try:
                retry(letter.pk)
            except Refused:
                continue


def race(*calls) -> None:
    start, errors = Barrier(len(calls)), []

    def one(call) -> None:
        try:
            start.wait()
            call()
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [Thread(target=one, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_bulk_of_events_takes_four_statements_beside_the_handlers(applier, effects, django_assert_num_queries):
    applier.apply(counted(1, thing="warm"))
    records = [record_of(ThingCounted(thing=f"k{n}", number=n), offset=10 + n) for n in range(500)]
    begin_and_commit, of_the_handler = 2, 500 + 1

    with django_assert_num_queries(4 + begin_and_commit + of_the_handler):
        applier.apply(records)

    assert ConsumerGroup.objects.get(pk=GROUP).failures_in_a_row == 0


def test_an_event_that_another_member_buries_meanwhile_is_not_overtaken(applier, effects, monkeypatch):
    applier.apply(counted(9, thing="other", first=90))
    records = counted(1, 2)
    remember = inbox.remember
    buried: list[Tally] = []

    def zombie() -> None:
        sample.broken["K"] = ValueError("broken")
        buried.append(Applier(GROUP, pause=lambda seconds: None).apply(records[:1]))
        sample.broken.clear()
        connection.close()

    def remember_after_the_zombie(*args, **kwargs):
        # After the look for letters, and before the inbox.
        if current_thread() is main_thread() and not buried:
            thread = Thread(target=zombie)
            thread.start()
            thread.join()
        return remember(*args, **kwargs)

    monkeypatch.setattr(inbox, "remember", remember_after_the_zombie)
    tally = applier.apply(records)

    assert buried == [Tally(failed=1)]
    assert tally == Tally(parked=1, repeated=1)
    assert of("K", effects()) == []
    [letter] = open_letters()
    assert retry(letter.pk).released == 1
    assert of("K", effects()) == [1, 2]
