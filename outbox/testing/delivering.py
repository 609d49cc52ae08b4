"""The fixture `outbox`: reads what a test published, and delivers events as Kafka and the consumers would.

Events are applied by the Applier of the consumers, with its inbox, in transactions of its own. In a test that is itself
a transaction these are savepoints: constraints that are checked at the commit are not checked there.
"""

import json
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import wraps
from random import Random
from typing import Any, NamedTuple
from uuid import UUID

from outbox import registry
from outbox.consuming.applying import Applier, Tally
from outbox.events import AnyEvent, Event, event_classes, read_envelope, read_event
from outbox.models import FailedMessage, InboxEvent, OutboxEvent
from outbox.publishing import OutboxRow, rows_of
from outbox.record import Record
from outbox.registry import AnyHandler, handlers_of
from outbox.relay.sender import Row
from outbox.testing.broker import Broker
from outbox.testing.crashing import crashing
from outbox.transactions import database


class Delivery(NamedTuple):
    """An event that was brought to a group."""

    group: str
    event: Event


class WatchedApplier(Applier):
    """The consumers' Applier, which does not wait between two tries, and raises instead of burying in silence."""

    def __init__(self, group: str) -> None:
        super().__init__(group, pause=lambda seconds: None)
        self._raised: list[Exception] = []
        # Called before and after each call of a handler.
        self.reached: Callable[[str], None] = lambda step: None
        handlers = handlers_of(group)
        # One for each function, which may handle several types.
        watched = {handler.call: self._watch(handler.call) for handler in handlers.values()}
        self._handlers = {
            event_type: replace(handler, call=watched[handler.call]) for event_type, handler in handlers.items()
        }

    def _watch(self, call: AnyHandler) -> AnyHandler:
        @wraps(call)
        def watched(events: Any) -> None:
            self.reached("before the handler")
            try:
                call(events)
            except Exception as error:
                self._raised.append(error)
                raise
            self.reached("after the handler")

        return watched

    def apply(self, records: Sequence[Record]) -> Tally:
        """Apply records.

        Raises:
            Exception: what a handler raised at last, when its event has become a dead letter.
            AssertionError: another record has become one.
        """
        self._raised.clear()
        tally = super().apply(records)
        if tally.failed:
            letters = FailedMessage.objects.filter(consumer_group=self._group).order_by("-id")[: tally.failed]
            told = f"group {self._group} could not apply {', '.join(map(str, letters))}"
            if not self._raised:
                raise AssertionError(f"{told}: {letters[0].error}")
            self._raised[-1].add_note(f"{told}; see failed_messages")
            raise self._raised[-1]
        return tally


class Outbox:
    """What a test published, and the deliveries of it."""

    def __init__(self) -> None:
        # What run_to_rest took out of the outbox.
        self._taken: list[Record] = []
        # By event, so that an event that comes again is the same record.
        self._records: dict[UUID, Record] = {}
        # Each key of a topic is a partition of its own here.
        self._partitions: dict[tuple[str, bytes | None], int] = {}
        self._offsets: Counter[int] = Counter()

    @property
    def events(self) -> list[Event]:
        """What the test has published, in order. Two events are equal when their classes and their fields are."""
        return [event_of(record) for record in [*self._taken, *self._waiting().values()]]

    @property
    def types(self) -> list[str]:
        """The types of what the test has published, in order."""
        return [event.type for event in self.events]

    def published(self, event_class: type[AnyEvent], **fields: Any) -> AnyEvent:
        """Return the one published event of a class that has these values in its fields.

        Raises:
            AssertionError: there is none, or more than one.
            TypeError: the class has no such field.
        """
        __tracebackhide__ = True
        if unknown := fields.keys() - set(event_class.__struct_fields__):
            raise TypeError(f"{event_class.__name__} has no field {', '.join(sorted(unknown))}")
        events = self.events
        found = [
            event
            for event in events
            if isinstance(event, event_class) and all(getattr(event, name) == value for name, value in fields.items())
        ]
        if len(found) == 1:
            return found[0]
        wanted = ", ".join(f"{name}={value!r}" for name, value in fields.items())
        published = "".join(f"\n  {event!r}" for event in events) or " nothing"
        raise AssertionError(
            f"{len(found)} and not 1 of {event_class.__name__}({wanted}) in what is published:{published}"
        )

    def deliver(
        self, group: str, *events: Event, times: int = 1, forget: bool = False, crash_at: Sequence[str] = ()
    ) -> Tally:
        """Deliver events to a group as one batch, in this order, and return what became of its records.

        With `times` the same batch comes again. With `forget` the inbox first forgets the events, as it does when its
        retention is over, so that handlers see them again. Before these deliveries there is one for each of the steps
        `crash_at`, which are of STEPS: it ends there, and what it did not commit is undone.

        Raises:
            Exception: what a handler raised, when its event has become a dead letter.
            LookupError: there is no such group, or it does not handle an event.
            RuntimeError: `crash_at` in a test that is one transaction.
            AssertionError: a record could not be read, or nothing came to the step of the crash.
        """
        handled = handlers_of(group).keys()
        if unhandled := {event.type for event in events} - handled:
            raise LookupError(f"group {group} handles {', '.join(sorted(handled))}; not {', '.join(sorted(unhandled))}")
        records = [self._record(row) for row in rows_of(events)]
        for step in crash_at:
            applier = WatchedApplier(group)
            with crashing(step, database()) as applier.reached:
                applier.apply(records)
        total = Tally()
        for _ in range(times):
            if forget:
                _forget(group, records)
            total.add(WatchedApplier(group).apply(records))
        return total

    def crash(self, call: Callable[[], object]) -> None:
        """Make a call whose connection breaks when its transaction is to commit.

        Raises:
            RuntimeError: the test is one transaction.
            AssertionError: the call made no transaction.
        """
        with crashing("before the commit", database()):
            call()

    def run_to_rest(
        self,
        *,
        groups: Collection[str] | None = None,
        seed: int | None = None,
        repeat: float = 0.0,
        forget: bool = False,
        limit: int = 1000,
    ) -> list[Delivery]:
        """Bring what is published to all `groups` that handle it, and what they publish then, until nothing is left.

        Returns what was delivered, in order: one by one as it was published; with a `seed` in batches, and in an order
        that chance makes. Then only the events of one key in one topic keep theirs, as in Kafka, and with the
        probability `repeat` a batch is one that its group had before. `forget` as in `deliver`.

        Raises:
            Exception: what a handler raised, when its event has become a dead letter.
            AssertionError: there is no rest after `limit` deliveries, or a record could not be read.
            ValueError: chance is to repeat without a seed.
        """
        if repeat and seed is None:
            raise ValueError("what is repeated is up to chance, which needs a seed")
        if groups is None:
            groups = registry.groups()
        broker = Broker(groups, None if seed is None else Random(seed), repeat=repeat)
        delivered: list[Delivery] = []
        while True:
            for record in self._take():
                broker.put(event_of(record).type, record)
            batch = broker.next()
            if batch is None:
                return delivered
            if batch.again and forget:
                _forget(batch.group, batch.records)
            WatchedApplier(batch.group).apply(batch.records)
            delivered += [Delivery(batch.group, event_of(record)) for record in batch.records]
            if len(delivered) > limit:
                last = "".join(f"\n  {group}: {event!r}" for group, event in delivered[-10:])
                raise AssertionError(f"there is no rest after {limit} deliveries, the last of which are:{last}")

    def _waiting(self) -> dict[int, Record]:
        """Return the events in the outbox by the ids of their rows. What has no event id is a copy of a dead letter."""
        return {row.pk: self._record(_outbox_row(row)) for row in OutboxEvent.objects.exclude(event_id=None)}

    def _take(self) -> list[Record]:
        """Take the events out of the outbox, as a relay does."""
        waiting = self._waiting()
        OutboxEvent.objects.filter(pk__in=waiting).delete()
        self._taken += waiting.values()
        return list(waiting.values())

    def _record(self, row: OutboxRow) -> Record:
        """Return the record that a relay makes of an event's row."""
        assert row.event_id is not None
        if row.event_id not in self._records:
            partition = self._partitions.setdefault((row.topic, row.key), len(self._partitions))
            headers = Row(0, str(row.event_id), row.event_type, str(row.event_version), *row[3:]).kafka_headers()
            self._records[row.event_id] = Record(
                row.topic, partition, self._offsets[partition], row.key, row.value, headers
            )
            self._offsets[partition] += 1
        return self._records[row.event_id]


def _outbox_row(row: OutboxEvent) -> OutboxRow:
    """Return a row that was read as publish() writes it."""
    return OutboxRow(
        row.event_id,
        row.event_type,
        row.event_version,
        row.topic,
        bytes(row.key or b""),
        bytes(row.value or b""),
        row.traceparent,
        row.headers and json.dumps(row.headers),
    )


def event_of(record: Record) -> Event:
    """Return the event that a record holds."""
    envelope = read_envelope(record.value)
    classes = {event_class.type: event_class for event_class in event_classes}
    return read_event(envelope, classes[envelope.event_type])


def _forget(group: str, records: Sequence[Record]) -> None:
    """Let a group's inbox know nothing of the records' events."""
    event_ids = [event_of(record).event_id for record in records]
    InboxEvent.objects.filter(consumer_group=group, event_id__in=event_ids).delete()
