"""What a person or the worker does to a dead letter: retry it, edit it, try it without effect, or discard it.

Each function is a transaction of its own, and blocks for a few seconds at most where another one is at work on the
letter or its key.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from outbox import conf
from outbox.consuming import inbox
from outbox.letters.closing import (
    Locked,
    Refused,
    Status,
    attempt_letter,
    close,
    give_up,
    lock,
    open_letter,
    reading_of,
    send_again,
)
from outbox.letters.dead_letters import describe, message_of, storable
from outbox.letters.editing import InvalidEdit, edit
from outbox.letters.fingerprint import fingerprint
from outbox.models import FailedMessage, OutboxEvent
from outbox.record import TooOld
from outbox.registry import RELAY
from outbox.transactions import Outage, database, transact
from outbox.watching import metrics

__all__ = [
    "DryRun",
    "InvalidEdit",
    "Outage",
    "Outcome",
    "Refused",
    "discard",
    "dry_run",
    "edit_and_retry",
    "make_due",
    "retry",
]

logger = logging.getLogger(__name__)

# Rows of transactions that are not over: of those one sees only one's own. An id of a transaction (xid8) has in its
# upper half how often the lower half, which is in xmin, has begun anew.
PUBLISHED = """
    SELECT event_type, key, value FROM outbox_outboxevent
    WHERE id > %s AND pg_xact_status(
        (((pg_current_xact_id()::text::bigint >> 32) << 32) | xmin::text::bigint)::text::xid8
    ) = 'in progress'
    ORDER BY id
"""


# As Django and psycopg give the columns of type bytea.
Bytes = bytes | memoryview | None


@dataclass(frozen=True)
class Outcome:
    """What a retry has come to. `error` is empty if the letter was applied; `released`: parked events applied after."""

    letter_id: int
    status: str
    error: str = ""
    released: int = 0


@dataclass(frozen=True)
class DryRun:
    """What a retry would come to: its error, or the (type, key, JSON) of the events that it would publish."""

    error: str = ""
    published: list[tuple[str, str, str]] = field(default_factory=list)


def retry(letter_id: int, *, automatic: bool = False) -> Outcome:
    """Apply an open dead letter with its group's handler, then what is parked behind it.

    One that fails again stays open, with the new error. An `automatic` retry counts as an attempt, and takes only a
    letter that is due and whose group is not halted.

    Raises:
        Refused: the letter is not open, or waits behind another one, or is being worked on.
        Outage: PostgreSQL or the machine is in trouble; nothing was changed.
    """
    return _retry(letter_id, automatic=automatic)


def edit_and_retry(letter_id: int, *, value: bytes) -> Outcome:
    """Give a dead letter a new value and retry it; if it fails again, it keeps that value.

    An event that is too old to prove new is taken for new: who edits it has looked at it.

    Raises:
        InvalidEdit: the value is no event, or another one.
        Refused, Outage: as `retry`.
    """
    return _retry(letter_id, change=lambda letter: edit(letter, value))


def _retry(
    letter_id: int, *, automatic: bool = False, change: Callable[[FailedMessage], None] | None = None
) -> Outcome:
    def act() -> Outcome:
        locked = lock(letter_id)
        letter = locked.letter
        _check_turn(locked, automatic)
        if change is not None:
            change(letter)
        error = _attempt(letter, of_any_age=change is not None)
        if error is None:
            outcome = Outcome(letter_id, Status.PROCESSED, released=close(locked, Status.PROCESSED))
        else:
            _note_failure(letter, error, automatic)
            outcome = Outcome(letter_id, letter.status, letter.error)
        transaction.on_commit(partial(_tell, letter, outcome), using=database().alias)
        return outcome

    return transact(act)


def _tell(letter: FailedMessage, outcome: Outcome) -> None:
    metrics.LETTER_RETRIES.labels(letter.consumer_group, "failed" if outcome.error else "applied").inc()
    logger.log(
        logging.WARNING if outcome.error else logging.INFO,
        "a dead letter was retried",
        extra={
            "letter": letter.pk,
            "group": letter.consumer_group,
            "event_id": letter.event_id and str(letter.event_id),
            "event_type": letter.event_type,
            "status": outcome.status,
            "released": outcome.released,
        },
    )


def _check_turn(locked: Locked, automatic: bool) -> None:
    letter, scope = locked.letter, locked.scope
    if scope and scope[0] != letter.pk:
        raise Refused(f"Letter {letter.pk} waits behind letter {scope[0]}, which is older and has the same key.")
    if automatic:
        due = FailedMessage.objects.filter(pk=letter.pk, status=Status.PENDING, next_retry_at__lte=Now())
        if locked.halted or not due.exists():
            raise Refused(f"Letter {letter.pk} is not due, or {letter.consumer_group} is halted.")


def _attempt(letter: FailedMessage, *, of_any_age: bool) -> Exception | None:
    if letter.consumer_group == RELAY:
        send_again(letter)
        return None
    # Of a letter that was too old to prove new, nobody can tell more now; any other is known not to be applied.
    reading = reading_of(letter, of_any_age=of_any_age or letter.error_class != TooOld.__qualname__)
    if reading.envelope:
        letter.event_id, letter.event_type = reading.event_id, storable(reading.event_type)
    return attempt_letter(letter, reading)


def _note_failure(letter: FailedMessage, error: Exception, automatic: bool) -> None:
    letter.error_class, letter.error = type(error).__qualname__, describe(error)
    letter.fingerprint = fingerprint(letter.consumer_group, letter.event_type, letter.error_class, message_of(error))
    if automatic:
        letter.attempts += 1
        if letter.attempts >= conf.get("RETRY_LIMIT"):
            letter.status, letter.next_retry_at = Status.FAILED, None
            give_up(letter)
        else:
            letter.next_retry_at = timezone.now() + timedelta(seconds=conf.get("RETRY_SECONDS"))
    letter.save()


def discard(letter_id: int, *, reason: str) -> int:
    """Give up an open dead letter: its event counts as applied. Return how many parked events were applied after it.

    Raises:
        Refused: the letter is not open, or is being worked on, or no reason is given.
        Outage: PostgreSQL or the machine is in trouble; nothing was changed.
    """
    if not reason.strip():
        raise Refused("A letter can be discarded only with a reason.")

    def act() -> int:
        locked = lock(letter_id)
        letter = locked.letter
        if letter.event_id is not None and letter.consumer_group != RELAY:
            inbox.remember_letter(letter)
        give_up(letter)
        letter.reason = storable(reason.strip())
        return close(locked, Status.DISCARDED)

    return transact(act)


def dry_run(letter_id: int, *, value: bytes | None = None) -> DryRun:
    """Return what a retry of an open dead letter, with a new value if one is given, would come to. Changes nothing.

    The handler runs, in a transaction that is rolled back. What is parked behind the letter is left out.

    Raises:
        InvalidEdit: the value is no event, or another one.
        Refused: the letter is not open.
        Outage: PostgreSQL or the machine is in trouble.
    """

    def act() -> DryRun:
        letter = open_letter(FailedMessage.objects.all(), letter_id)
        if value is not None:
            edit(letter, value)
        if letter.consumer_group == RELAY:
            return DryRun(published=[_shown(letter.event_type, letter.key, letter.value)])
        last_id = OutboxEvent.objects.order_by("-id").values_list("id", flat=True).first() or 0
        error = _attempt(letter, of_any_age=value is not None)
        with database().cursor() as cursor:
            cursor.execute(PUBLISHED, (last_id,))
            published = [_shown(*row) for row in cursor.fetchall()]
        transaction.set_rollback(True, using=database().alias)
        return DryRun("" if error is None else describe(error), published)

    return transact(act)


def _shown(event_type: str, key: Bytes, value: Bytes) -> tuple[str, str, str]:
    key_text, value_text = (bytes(field or b"").decode(errors="backslashreplace") for field in (key, value))
    return event_type, key_text, value_text


def make_due(letters: QuerySet[FailedMessage]) -> int:
    """Let the worker retry the open ones of these letters now. Return how many they are."""
    with transaction.atomic(using=database().alias):
        # Locked in the order in which all lock that lock several.
        due = FailedMessage.objects.open().filter(pk__in=letters.values("pk"))
        ids = list(due.order_by("pk").select_for_update().values_list("pk", flat=True))
        return FailedMessage.objects.filter(pk__in=ids).update(status=Status.PENDING, next_retry_at=timezone.now())
