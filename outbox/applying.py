"""Applying records: the transaction in which the inbox, a group's effects and its new events commit together."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import connections, router, transaction

from outbox.database import is_outage, is_repeatable
from outbox.dead_letters import Failure, bury
from outbox.events import Event
from outbox.models import FailedMessage, InboxEvent
from outbox.record import Reading, Record, read
from outbox.registry import Handler, handlers_of

# Pauses in seconds before the second and the third try of an event whose handler raises.
PAUSES = (0.2, 0.6)
# How often a transaction that lost to a concurrent one is repeated before that counts as a failure.
REPEATS = 10

# Sorted by the event id, so that two members with the same events (a zombie and its heir) cannot deadlock.
# A record that is a dead letter already is left to that letter.
REMEMBER = """
    INSERT INTO outbox_inboxevent (event_id, event_type, topic, partition, "offset", consumer_group, applied_at)
    SELECT incoming.*, %(group)s, statement_timestamp()
    FROM unnest(%(event_ids)s::uuid[], %(event_types)s::text[], %(topics)s::text[], %(partitions)s::int[],
                %(offsets)s::bigint[]) AS incoming (event_id, event_type, topic, partition, "offset")
    WHERE NOT EXISTS (
        SELECT FROM failed_messages AS letter
        WHERE letter.consumer_group = %(group)s AND letter.topic = incoming.topic
          AND letter.partition = incoming.partition AND letter."offset" = incoming."offset"
          AND letter.event_id = incoming.event_id
    )
    ORDER BY incoming.event_id
    ON CONFLICT (event_id, consumer_group) DO NOTHING
    RETURNING event_id
"""


class NotApplied(Exception):
    """What was in hand was not written, and no try was burnt: it is to be applied later."""


class Outage(NotApplied):
    """PostgreSQL or the machine is in trouble."""


class Stopping(NotApplied):
    """The process shall end."""


@dataclass
class Tally:
    """What became of records: each is counted once."""

    applied: int = 0
    repeated: int = 0
    skipped: int = 0
    failed: int = 0


class Applier:
    """Applies records to one consumer group.

    `pause` blocks for a number of seconds between two tries of a record; it may raise Stopping.
    """

    def __init__(self, group: str, *, pause: Callable[[float], None]) -> None:
        self._group, self._pause = group, pause
        self._handlers = handlers_of(group)

    def apply(self, records: Sequence[Record]) -> Tally:
        """Apply records in their order, each once however often it comes.

        One transaction, unless something in it fails: then each half for itself, in order, down to the record that
        cannot be applied, which becomes a dead letter.

        Raises:
            NotApplied: some or all were not applied. Call again with the same records.
        """
        readings = [read(record, self._handlers) for record in records]
        concerned = [reading for reading in readings if reading.event or reading.unreadable]
        tally = Tally(skipped=len(readings) - len(concerned))
        if concerned:
            self._apply_or_halve(concerned, tally)
        return tally

    def _apply_or_halve(self, readings: Sequence[Reading], tally: Tally) -> None:
        if len(readings) == 1:
            self._apply_or_bury(readings[0], tally)
            return
        try:
            self._transact(readings, tally)
        except NotApplied:
            raise
        except Exception:
            # The halves will meet it again; it counts, and is told of, when its record stands alone.
            middle = len(readings) // 2
            self._apply_or_halve(readings[:middle], tally)
            self._apply_or_halve(readings[middle:], tally)

    def _apply_or_bury(self, reading: Reading, tally: Tally) -> None:
        for pause_seconds in (*PAUSES, None):
            try:
                self._transact([reading], tally)
            except NotApplied:
                raise
            except Exception as error:
                if pause_seconds is None:
                    self._bury(Failure(reading, error, FailedMessage.Status.PENDING, tries=len(PAUSES) + 1))
                    tally.failed += 1
                else:
                    self._pause(pause_seconds)
            else:
                return

    def _bury(self, failure: Failure) -> None:
        try:
            with transaction.atomic(using=_alias()):
                bury(self._group, [failure])
        except Exception as error:
            # That the letter cannot be written is no fault of the record's: it must not be lost.
            raise Outage(f"no dead letter could be written: {error}") from error

    def _transact(self, readings: Sequence[Reading], tally: Tally) -> None:
        """Apply readings in one transaction, repeated at once where it lost to a concurrent one."""
        for repeat in range(REPEATS + 1):
            try:
                with transaction.atomic(using=_alias()):
                    applied, failed = self._apply_once(readings)
            except Exception as error:
                if is_outage(error):
                    raise Outage(str(error)) from error
                if repeat == REPEATS or not is_repeatable(error):
                    raise
            else:
                tally.applied += applied
                tally.failed += failed
                tally.repeated += len(readings) - applied - failed
                return

    def _apply_once(self, readings: Sequence[Reading]) -> tuple[int, int]:
        """Return how many of the readings were applied, and how many became dead letters, in the open transaction."""
        failures = [Failure(r, r.unreadable, FailedMessage.Status.FAILED) for r in readings if r.unreadable]
        bury(self._group, failures)
        fresh = self._remember([reading for reading in readings if reading.event])
        for handler, events in waves(fresh):
            handler(events)
        return len(fresh), len(failures)

    def _remember(self, readings: Sequence[Reading]) -> list[Reading]:
        """Write readings to the inbox and return those that were not there yet."""
        by_event_id: dict[UUID, Reading] = {}
        for reading in readings:
            assert reading.event is not None
            by_event_id.setdefault(reading.event.event_id, reading)
        if not by_event_id:
            return []
        first = by_event_id.values()
        with connections[_alias()].cursor() as cursor:
            cursor.execute(
                REMEMBER,
                {
                    "group": self._group,
                    "event_ids": list(by_event_id),
                    "event_types": [reading.event_type for reading in first],
                    "topics": [reading.record.topic for reading in first],
                    "partitions": [reading.record.partition for reading in first],
                    "offsets": [reading.record.offset for reading in first],
                },
            )
            fresh = {event_id for (event_id,) in cursor.fetchall()}
        return [reading for event_id, reading in by_event_id.items() if event_id in fresh]


def waves(readings: Iterable[Reading]) -> list[tuple[Handler, list[Event]]]:
    """Return handlers with the events they are to be called with, one after the other.

    As few calls as keep each key's events in order: an event goes into the same call as the events before it, unless
    an earlier event of its key is for another handler; then it goes into a later one.
    """
    calls: dict[tuple[int, str], tuple[Handler, list[Event]]] = {}
    last: dict[bytes | None, tuple[int, Handler]] = {}
    for reading in readings:
        assert reading.handler is not None
        assert reading.event is not None
        wave, handler = last.get(reading.record.key, (0, reading.handler))
        if handler is not reading.handler:
            wave += 1
        last[reading.record.key] = (wave, reading.handler)
        calls.setdefault((wave, reading.event.type), (reading.handler, []))[1].append(reading.event)
    return [calls[place] for place in sorted(calls, key=lambda place: place[0])]


def _alias() -> str:
    return router.db_for_write(InboxEvent)
