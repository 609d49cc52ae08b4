"""Halting: a hundred handlers' failures in a row stop a group, until a person resumes it."""

import pytest

from outbox.consuming import group_state
from outbox.consuming.applying import Applier, Halted, Rewound
from outbox.consuming.group_state import HALT_AFTER, resume
from outbox.models import ConsumerGroup, FailedMessage, InboxEvent
from outbox.record import Record
from outbox.tests import sample
from outbox.tests.records import garbage, record_of
from outbox.tests.sample import ThingCounted


def member() -> Applier:
    return Applier("sample", pause=lambda seconds: None)


def counted(*numbers: int, partition: int = 0) -> list[Record]:
    return [record_of(ThingCounted(thing=f"t{n}", number=n), offset=n, partition=partition) for n in numbers]


def failures() -> int:
    return ConsumerGroup.objects.get(pk="sample").failures_in_a_row


def test_a_hundred_failures_in_a_row_halt_the_group_and_the_next_is_neither_tried_nor_lost(transactional_db, effects):
    applier = member()
    for number in range(HALT_AFTER - 1):
        applier.apply(counted(5_000 + number))
    assert ConsumerGroup.objects.get(pk="sample").halted_at is None

    applier.apply(counted(5_099))
    with pytest.raises(Halted):
        applier.apply(counted(5_100))

    assert FailedMessage.objects.count() == HALT_AFTER
    assert effects() == []


def test_two_members_that_fail_at_once_write_exactly_a_hundred_letters(transactional_db, at_once):
    def fail(partition: int) -> str:
        applier = member()
        try:
            applier.apply(counted(*range(5_000, 5_000 + HALT_AFTER), partition=partition))
        except Halted:
            return "halted"
        return "through"

    assert at_once(lambda: fail(0), lambda: fail(1)) == ["halted", "halted"]

    assert FailedMessage.objects.count() == HALT_AFTER
    assert failures() == HALT_AFTER


def test_an_applied_event_begins_the_count_anew(transactional_db):
    applier = member()
    applier.apply(counted(5_001, 5_002))
    assert failures() == 2

    applier.apply(counted(1))

    assert failures() == 0


def test_known_events_and_unreadable_records_do_not_touch_the_count(transactional_db):
    applier = member()
    known = counted(1)
    applier.apply(known)
    applier.apply(counted(5_001))

    assert applier.apply(known).repeated == 1
    for offset, (key, value, headers) in enumerate(garbage(ThingCounted(thing="a", number=1)).values()):
        applier.apply([Record("thing-events", 7, offset, key, value, headers)])

    assert failures() == 1
    assert ConsumerGroup.objects.get(pk="sample").halted_at is None


def test_a_letter_delivered_again_is_not_counted_again(transactional_db):
    applier = member()
    records = counted(5_001)
    applier.apply(records)

    applier.apply(records)

    assert failures() == 1


def test_a_resumed_group_goes_on_where_it_was_halted(transactional_db, effects, monkeypatch):
    monkeypatch.setattr(group_state, "HALT_AFTER", 2)
    applier = member()
    records = counted(5_001, 5_002, 5_003, 4)
    with pytest.raises(Halted):
        applier.apply(records)
    sample.mend()

    assert resume("sample")
    assert not resume("sample")
    tally = applier.apply(records)

    assert (tally.applied, tally.repeated) == (2, 2)
    assert effects() == [("t5003", 5_003), ("t4", 4)]
    assert failures() == 0


def test_a_halted_group_stays_halted_for_a_member_that_starts(transactional_db, monkeypatch):
    monkeypatch.setattr(group_state, "HALT_AFTER", 1)
    member().apply(counted(5_001))

    with pytest.raises(Halted):
        member().apply(counted(1))

    assert not InboxEvent.objects.exists()


def test_other_groups_go_on(transactional_db, monkeypatch):
    monkeypatch.setattr(group_state, "HALT_AFTER", 1)
    member().apply(counted(5_001))

    assert Applier("sample-ordered", pause=lambda seconds: None).apply(counted(1)).applied == 1


def test_the_halt_is_logged_once(transactional_db, monkeypatch, caplog):
    monkeypatch.setattr(group_state, "HALT_AFTER", 1)

    member().apply(counted(5_001))

    [line] = [record for record in caplog.records if record.msg == "the group is halted"]
    assert (line.levelname, line.group) == ("CRITICAL", "sample")


def test_a_member_that_has_not_seen_a_rewind_applies_nothing(transactional_db, effects):
    applier = member()
    applier.apply(counted(1))
    ConsumerGroup.objects.filter(pk="sample").update(generation=1)

    with pytest.raises(Rewound):
        applier.apply(counted(2))
    with pytest.raises(Rewound):
        Applier("sample", pause=lambda seconds: None, generation=0).apply(counted(5_000))

    assert effects() == [("t1", 1)]
    applier.generation = 1
    assert applier.apply(counted(2)).applied == 1
