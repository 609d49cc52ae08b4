"""retry_failed_messages: the open letters that match, oldest first, each told in a line."""

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from outbox.consuming.applying import Applier
from outbox.models import ConsumerGroup, FailedMessage
from outbox.record import Record
from outbox.tests import sample
from outbox.tests.processes import run
from outbox.tests.records import record_of
from outbox.tests.sample import ThingClosed, ThingCounted


@pytest.fixture
def letters(transactional_db) -> None:
    """Letters of two groups and two types, all of a handler that raises, and an unreadable one."""
    sample.broken.update(a=ValueError("no good"), b=ValueError("no good"), c=ValueError("no good"))
    plain, ordered = (Applier(group, pause=lambda seconds: None) for group in ("sample", "sample-ordered"))
    plain.apply([record_of(ThingCounted(thing="a", number=1), offset=1)])
    plain.apply([record_of(ThingClosed(thing="b"), offset=2)])
    ordered.apply([record_of(ThingCounted(thing="c", number=n), offset=n) for n in (3, 4)])
    plain.apply([Record("thing-events", 0, 5, b"x", None, [])])
    sample.broken.clear()


def say(*arguments: str) -> str:
    out = StringIO()
    call_command("retry_failed_messages", *arguments, stdout=out)
    return out.getvalue()


def statuses() -> list[str]:
    return list(FailedMessage.objects.order_by("id").values_list("status", flat=True))


def ids() -> list[int]:
    return list(FailedMessage.objects.order_by("id").values_list("id", flat=True))


def test_applies_all_that_can_be_in_order_and_fails_where_one_cannot(letters, effects):
    out = StringIO()

    with pytest.raises(CommandError, match="4 failed messages: 3 applied, 1 not") as failure:
        call_command("retry_failed_messages", stdout=out)

    assert failure.value.returncode == 1
    assert effects() == [("a", 1), ("b", 0), ("c", 3), ("c", 4)]
    first, second, third, unreadable = ids()
    assert out.getvalue().splitlines() == [
        f"{first} sample, thing.counted at thing-events/0/1: applied",
        f"{second} sample, thing.closed at thing-events/0/2: applied",
        f"{third} sample-ordered, thing.counted at thing-events/0/3: applied, and 1 parked behind it",
        f"{unreadable} sample, unreadable at thing-events/0/5: the value is null",
    ]
    assert statuses() == ["PROCESSED"] * 3 + ["FAILED"]


@pytest.mark.parametrize(
    ("arguments", "applied"),
    [
        (["--group=sample-ordered"], [("c", 3), ("c", 4)]),
        (["--type=thing.closed"], [("b", 0)]),
        (["--type=thing.counted", "--group=sample"], [("a", 1)]),
        (["--type=thing.closed", "--group=sample-ordered"], []),
        (["--since=2999-01-01"], []),
        (["--since=2020-01-01T00:00:00+02:00", "--type=thing.closed"], [("b", 0)]),
        (["--group=relay"], []),
    ],
)
def test_takes_only_what_matches(letters, effects, arguments, applied):
    said = say(*arguments)

    assert effects() == applied
    assert said.splitlines()[-1].endswith("applied, 0 not")


def test_since_counts_from_when_the_message_failed_first(letters, effects):
    FailedMessage.objects.filter(offset=1).update(created_at=datetime.now(UTC) - timedelta(days=2))
    FailedMessage.objects.filter(offset=5).delete()

    say("--since", (datetime.now(UTC) - timedelta(days=1)).isoformat())

    assert effects() == [("b", 0), ("c", 3), ("c", 4)]


def test_a_dry_run_tells_what_would_come_of_it_and_changes_nothing(letters, effects):
    FailedMessage.objects.filter(offset=5).delete()
    before = list(FailedMessage.objects.values())

    said = say("--dry-run")

    assert said.splitlines()[0].endswith("would be applied, and publish thing.echoed")
    assert said.splitlines()[-1] == "3 failed messages: 3 would be applied, 0 not"
    assert effects() == []
    assert list(FailedMessage.objects.values()) == before


def test_a_failing_handler_is_told_by_the_line_that_says_why(transactional_db):
    Applier("sample", pause=lambda seconds: None).apply([record_of(ThingCounted(thing="a", number=5000))])
    out = StringIO()

    with pytest.raises(CommandError):
        call_command("retry_failed_messages", stdout=out)

    assert "IntegrityError: new row for relation" in out.getvalue()
    assert statuses() == ["PENDING"]


def test_letters_of_a_halted_group_are_retried_since_a_person_asks(letters, effects):
    ConsumerGroup.objects.update(halted_at=datetime.now(UTC))

    say("--type=thing.closed")

    assert effects() == [("b", 0)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--group=nobody"], "There is no consumer group 'nobody', but .*sample.*, relay."),
        (["--type=thing.lost"], "There is no event type 'thing.lost' in this project."),
        (["--since=yesterday"], "'yesterday' is not an ISO 8601 time"),
    ],
)
def test_bad_arguments_are_told_in_a_sentence(db, arguments, says):
    with pytest.raises(CommandError, match=says):
        say(*arguments)


def test_says_in_one_line_that_postgresql_does_not_answer(letters):
    connection.ensure_connection()
    connection.connection.close()

    with pytest.raises(CommandError, match=r"^PostgreSQL is unavailable"):
        say()

    connection.close()


def test_works_from_the_command_line(letters, prefix, effects):
    run("retry_failed_messages", "--group", "sample-ordered", "--since", "2020-01-01T00:00:00Z")

    assert effects() == [("c", 3), ("c", 4)]
