"""Applying records: the transaction in which the inbox, a group's effects and its new events commit together."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from outbox.consuming import group_state, inbox, parking
from outbox.consuming.gathering import gathering
from outbox.consuming.group_state import GroupState
from outbox.context import handling
from outbox.letters.dead_letters import Failure, bury
from outbox.models import FailedMessage
from outbox.record import Reading, Record, read
from outbox.registry import AnyHandler, Handler, group_of, handlers_of
from outbox.transactions import NotApplied, Outage, Overtaken, check_that_it_commits, database, transact
from outbox.watching import metrics

# Pauses in seconds before the second and the third try of an event whose handler raises.
PAUSES = (0.2, 0.6)


class Stopping(NotApplied):
    """The process shall end."""


class Halted(NotApplied):
    """The group is halted, until a person resumes it."""


class Rewound(NotApplied):
    """The group was rewound, and this member has not read its partitions from there yet."""


@dataclass
class Tally:
    """What became of records: each is counted once."""

    applied: int = 0
    repeated: int = 0
    skipped: int = 0
    parked: int = 0
    failed: int = 0

    def add(self, other: "Tally") -> None:
        for outcome, number in vars(other).items():
            setattr(self, outcome, getattr(self, outcome) + number)


class Applier:
    """Applies records to one consumer group.

    `pause` blocks for a number of seconds between two tries of a record; it may raise Stopping. `generation` is the
    group's rewind that this member has taken in; None: it takes in the present one with its first transaction.
    """

    def __init__(self, group: str, *, pause: Callable[[float], None], generation: int | None = None) -> None:
        self._group, self._pause, self.generation = group, pause, generation
        self._handlers = handlers_of(group)
        self._ordered = group_of(group).ordered

    def apply(self, records: Sequence[Record]) -> Tally:
        """Apply records in their order, each once however often it comes.

        One transaction, unless something in it fails: then each half for itself, in order, down to the record that
        cannot be applied, which becomes a dead letter.

        Raises:
            NotApplied: some or all were not applied. Call again with the same records.
        """
        metrics.CONSUMER_BATCH_RECORDS.labels(self._group).observe(len(records))
        readings = [read(record, self._handlers) for record in records]
        concerned = [reading for reading in readings if reading.event or reading.unreadable]
        tally = Tally(skipped=len(readings) - len(concerned))
        try:
            if concerned:
                with metrics.CONSUMER_BATCH_SECONDS.labels(self._group).time():
                    self._apply_or_halve(concerned, tally)
        finally:
            for outcome, number in vars(tally).items():
                if number:
                    metrics.CONSUMER_RECORDS.labels(self._group, outcome).inc(number)
        return tally

    def _apply_or_halve(self, readings: Sequence[Reading], tally: Tally) -> None:
        if len(readings) == 1:
            self._apply_or_bury(readings[0], tally)
            return
        try:
            tally.add(transact(lambda: self._apply_once(readings)))
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
                tally.add(transact(lambda: self._apply_once([reading])))
            except NotApplied:
                raise
            except Exception as error:
                if pause_seconds is None:
                    tally.add(self._bury(reading, error))
                else:
                    self._pause(pause_seconds)
                    metrics.CONSUMER_RETRIES.labels(self._group).inc()
            else:
                return

    def _bury(self, reading: Reading, error: Exception) -> Tally:
        try:
            return transact(lambda: self._bury_once(reading, error))
        except NotApplied:
            raise
        except Exception as trouble:
            # That the letter cannot be written is no fault of the record's: it must not be lost.
            raise Outage(f"no dead letter could be written: {trouble}") from trouble

    def _bury_once(self, reading: Reading, error: Exception) -> Tally:
        """Write a dead letter in the open transaction, unless its event has found another place meanwhile."""
        self._check(group_state.hold_failures(self._group))
        assert reading.event_id is not None
        if inbox.knows(self._group, reading.event_id):
            return Tally(repeated=1)
        if self._keys_behind_letters([reading]):
            parked = parking.park(self._group, [reading])
            return Tally(parked=parked, repeated=1 - parked)
        pending = FailedMessage.Status.PENDING
        written = bury(self._group, [Failure(reading, error, pending, tries=len(PAUSES) + 1, parks=self._ordered)])
        if written:
            group_state.count_failure(self._group)
        return Tally(failed=written, repeated=1 - written)

    def _apply_once(self, readings: Sequence[Reading]) -> Tally:
        """Apply readings in the open transaction, with as many statements for many as for one, handlers' aside."""
        state = group_state.hold(self._group)
        self._check(state)
        failed = bury(
            self._group, [Failure(r, r.unreadable, FailedMessage.Status.FAILED) for r in readings if r.unreadable]
        )
        events = [reading for reading in readings if reading.event]
        waiting = self._keys_behind_letters(events)
        parked = parking.park(self._group, [event for event in events if event.record.key in waiting])
        ready = [event for event in events if event.record.key not in waiting]
        fresh = inbox.remember(self._group, ready)
        if len(fresh) < len(ready) and self._keys_behind_letters(fresh):
            raise Overtaken("another member has buried an event before these meanwhile")
        handle(self._group, fresh)
        if fresh and state.failures_in_a_row:
            group_state.clear_failures(self._group)
        repeated = len(readings) - len(fresh) - parked - failed
        return Tally(applied=len(fresh), parked=parked, failed=failed, repeated=repeated)

    def _check(self, state: GroupState) -> None:
        if self.generation is None:
            self.generation = state.generation
        if state.generation != self.generation:
            raise Rewound(f"{self._group} was rewound")
        if state.halted_at:
            raise Halted(f"{self._group} is halted since {state.halted_at}")

    def _keys_behind_letters(self, readings: Sequence[Reading]) -> set[bytes | None]:
        return parking.keys_behind_letters(self._group, readings) if self._ordered else set()


def handle(group: str, readings: Iterable[Reading]) -> None:
    """Call a group's handlers with the events of readings, in an order that keeps that of each key."""
    with gathering(database()):
        for handler, wave in waves(readings):
            calls = [wave] if handler.bulk else [[reading] for reading in wave]
            for called_with in calls:
                with handling(group, called_with):
                    handler([reading.event for reading in called_with if reading.event])
                check_that_it_commits()


def waves(readings: Iterable[Reading]) -> list[tuple[Handler, list[Reading]]]:
    """Return handlers with the readings they are to be called with, one after the other.

    As few calls as keep each key's events in order: an event goes into the same call as the events before it, unless
    an earlier event of its key is for another handler; then it goes into a later one. A function that handles several
    types gets the events of all of them together.
    """
    calls: dict[tuple[int, AnyHandler], tuple[Handler, list[Reading]]] = {}
    last: dict[bytes | None, tuple[int, AnyHandler]] = {}
    for reading in readings:
        assert reading.handler is not None
        called = reading.handler.call
        wave, before = last.get(reading.record.key, (0, called))
        if before is not called:
            wave += 1
        last[reading.record.key] = (wave, called)
        calls.setdefault((wave, called), (reading.handler, []))[1].append(reading)
    return [calls[place] for place in sorted(calls, key=lambda place: place[0])]
