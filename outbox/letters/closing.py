"""Closing a dead letter: its locks, an attempt to apply it, and the release of the events that are parked behind it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from django.db import DatabaseError
from django.db.models import QuerySet
from django.utils import timezone
from psycopg import errors

from outbox import transactions
from outbox.consuming import group_state, inbox, parking
from outbox.consuming.applying import handle
from outbox.events import Unreadable
from outbox.letters import giving_up
from outbox.letters.dead_letters import Failure, bury, decode_headers
from outbox.models import FailedMessage, OutboxEvent, ParkedEvent
from outbox.record import Reading, Record, read
from outbox.registry import RELAY, Handler, handlers_of
from outbox.transactions import database

# How long a letter is waited for that another one works on: a consumer with its key in a batch, or another retry.
LOCK_SECONDS = 3.0
# Parked events that are applied together, if they can be.
RELEASE_SIZE = 500

Status = FailedMessage.Status


class Refused(Exception):
    """What is asked for a dead letter is not possible. Its text is a sentence for the person who asked."""


class Unhandled(Unreadable):
    """The group has no handler for an event, or there is no such group any more."""


class Locked(NamedTuple):
    """An open letter that nobody else closes until the transaction ends, and which nobody parks behind."""

    letter: FailedMessage
    # The ids of the open letters of its (group, key) that park, oldest first.
    scope: list[int]
    halted: bool


def open_letter(letters: QuerySet[FailedMessage], letter_id: int) -> FailedMessage:
    """Return a letter out of `letters`.

    Raises:
        Refused: there is none, or it is closed.
    """
    letter = letters.filter(pk=letter_id).first()
    if letter is None:
        raise Refused(f"There is no letter {letter_id}.")
    if not letter.is_open:
        raise Refused(f"Letter {letter_id} is {letter.status.lower()} already.")
    return letter


def lock(letter_id: int) -> Locked:
    """Lock an open letter and all that share its order, in the open transaction. Blocks for LOCK_SECONDS at most.

    Raises:
        Refused: there is no such letter, or it is closed, or somebody else is at work on it.
    """
    letter = open_letter(FailedMessage.objects.all(), letter_id)
    with _in_time(f"Letter {letter_id}, or another event of its key,"):
        # First of all, as whoever applies events does.
        halted = letter.consumer_group != RELAY and group_state.hold(letter.consumer_group).halted_at is not None
        scope = parking.lock_scope(letter)
        return Locked(open_letter(FailedMessage.objects.select_for_update(), letter_id), scope, halted)


@contextmanager
def _in_time(what: str) -> Iterator[None]:
    """Wait for each lock in the block for LOCK_SECONDS at most."""
    with database().cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('lock_timeout'), set_config('lock_timeout', %s, true)", (f"{LOCK_SECONDS}s",)
        )
        before, _ = cursor.fetchone()
        try:
            yield
        except DatabaseError as error:
            if isinstance(error.__cause__, errors.LockNotAvailable):
                raise Refused(f"{what} is being worked on right now.") from error
            raise
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", (before,))


def reading_of(kept: FailedMessage | ParkedEvent, *, of_any_age: bool = True) -> Reading:
    """Return what a letter or a parked event is to its group now."""
    key, value = (None if field is None else bytes(field) for field in (kept.key, kept.value))
    record = Record(kept.topic, kept.partition, kept.offset, key, value, decode_headers(kept.headers))
    return read(record, handlers_now(kept.consumer_group), of_any_age=of_any_age)


def handlers_now(group: str) -> Mapping[str, Handler]:
    """Return a group's handlers by event type; none if there is no such group any more."""
    try:
        return handlers_of(group)
    except LookupError:
        return {}


def attempt_letter(letter: FailedMessage, reading: Reading) -> Exception | None:
    """As `attempt`, for a letter as it was read."""
    if reading.event is None and reading.unreadable is None:
        return Unhandled(f"{letter.consumer_group} does not handle {reading.event_type} (any more)")
    return attempt(letter.consumer_group, [reading])


def attempt(group: str, readings: Sequence[Reading]) -> Exception | None:
    """Apply readings, and those that the group knows not again, or return the error and leave nothing of them.

    Raises what says nothing of them: an outage, a transaction that lost to a concurrent one.
    """
    for reading in readings:
        if reading.unreadable:
            return reading.unreadable
    events = [reading for reading in readings if reading.event]
    return transactions.attempt(lambda: handle(group, inbox.remember(group, events, of_letters=True)))


def give_up(letter: FailedMessage) -> None:
    """Tell that the event of a letter is given up, unless that was told before. The caller saves the letter."""
    if letter.given_up_at is None and giving_up.tell(letter.consumer_group, reading_of(letter)):
        letter.given_up_at = timezone.now()


def close(locked: Locked, status: FailedMessage.Status) -> int:
    """Close a letter. If it was the last of its key, apply what is parked behind it, and return how many that were."""
    letter = locked.letter
    letter.status, letter.processed_at, letter.next_retry_at = status, timezone.now(), None
    letter.save()
    is_last = locked.scope == [letter.pk]
    return _release(letter) if is_last and letter.consumer_group != RELAY else 0


def _release(letter: FailedMessage) -> int:
    """Apply the events that are parked behind a letter, in order; one that cannot be is a new letter and ends it."""
    released = 0
    while parked := parking.parked_behind(letter, limit=RELEASE_SIZE):
        readings = [reading_of(event) for event in parked]
        applied, gone = len(parked), len(parked)
        if attempt(letter.consumer_group, readings) is not None:
            applied, gone = _release_singly(letter.consumer_group, readings)
        ParkedEvent.objects.filter(pk__in=[event.pk for event in parked[:gone]]).delete()
        released += applied
        if applied < gone:
            break
    return released


def _release_singly(group: str, readings: Sequence[Reading]) -> tuple[int, int]:
    """Apply parked events one by one, up to a failure. Return how many were applied, and how many wait no more."""
    for number, reading in enumerate(readings):
        error = attempt(group, [reading])
        if error is not None:
            status = Status.FAILED if reading.unreadable else Status.PENDING
            bury(group, [Failure(reading, error, status, parks=True)])
            return number, number + 1
    return len(readings), len(readings)


def send_again(letter: FailedMessage) -> None:
    """Put a record that Kafka refused back into the outbox, at its old place: ahead of all that waits there for it.

    The relay that has its key reads from the front again when it sees that the letter is closed.
    """
    OutboxEvent.objects.create(
        id=letter.offset,
        event_id=letter.event_id,
        event_type=letter.event_type,
        topic=letter.topic,
        key=letter.key,
        value=letter.value,
        headers=letter.headers,
        created_at=timezone.now(),
    )
