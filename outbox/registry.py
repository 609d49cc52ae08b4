"""Who handles what: filled by `handles` when the apps' consumers.py are imported."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from outbox.events import Event, Topic

if TYPE_CHECKING:
    from outbox.consuming.beside import Beside

# As what failed_messages keeps the relay's rows that Kafka refused.
RELAY = "relay"
# The worker that retries the dead letters of all groups. It is no consumer group.
DEAD_LETTERS = "dead-letters"
RESERVED = {RELAY: "under it stands what Kafka refused", DEAD_LETTERS: "it is the worker that retries"}

AnyHandler = Callable[[Any], None]


@dataclass(frozen=True)
class Handler:
    """One group's reaction to one event class. `call` takes a list of events if `bulk`, else one event."""

    group: str
    event_class: type[Event]
    call: AnyHandler
    bulk: bool
    # Takes one event that the group gives up.
    given_up: AnyHandler | None = None

    def __call__(self, events: list[Event]) -> None:
        if self.bulk:
            self.call(events)
        else:
            for event in events:
                self.call(event)


@dataclass(frozen=True)
class Group:
    """How a consumer group works."""

    name: str
    # Later events of a key wait behind a dead letter of that key.
    ordered: bool = False
    # Empties what the group's handlers write, which must be all that they do: they publish nothing. Given by a
    # projection, which can be built again from what Kafka holds.
    clear: Callable[[], None] | None = None
    # What its workers do beside Kafka.
    beside: "Beside | None" = None


_groups: dict[str, Group] = {}
_handlers: dict[str, dict[str, Handler]] = {}


def consumer_group(
    name: str,
    *,
    ordered: bool = False,
    clear: Callable[[], None] | None = None,
    beside: "Beside | None" = None,
) -> None:
    """Declare how a consumer group works; one that is not declared is neither ordered nor a projection.

    `beside(stop=…, until_idle=…)` makes something else that each process of `run_consumer` does for the group, in a
    thread of its own: see outbox/consuming/beside.py.

    Raises:
        ValueError: the group is declared already, or its name is reserved.
    """
    _check_name(name)
    if name in _groups:
        raise ValueError(f"group {name!r} is declared already")
    _groups[name] = Group(name, ordered, clear, beside)


def _check_name(group: str) -> None:
    if group in RESERVED:
        raise ValueError(f"group {group!r} is taken: {RESERVED[group]}")


def handles(
    event_class: type[Event], *, group: str, bulk: bool = False, given_up: AnyHandler | None = None
) -> Callable[[AnyHandler], AnyHandler]:
    """Make the decorated function the reaction of consumer group `group` to `event_class`.

    It runs inside the transaction that records the event in the inbox, so whatever it writes is applied once. It takes
    one event, or with `bulk=True` a list of them in order; what raises is tried again and then dead-lettered. One that
    asks the database nothing for 15 s is taken for hung, and loses its transaction. A function that is decorated for
    several types takes, with `bulk=True`, their events in one list.

    `given_up` takes one event, and tells whoever waits for it that they wait in vain. It is called once, in the
    transaction in which the event's dead letter becomes FAILED or DISCARDED, whichever comes first; what it writes and
    publishes commits with that. Where it raises, nothing of it is left, the letter is FAILED or DISCARDED all the same,
    the log says why, and a FAILED letter that is discarded later calls it again. A person's retry may still apply the
    event afterwards.

    Raises:
        ValueError: the group has a handler for that event type already, or this function with another `bulk`; or its
            name is reserved.
    """

    _check_name(group)

    def register(function: AnyHandler) -> AnyHandler:
        handlers = _handlers.setdefault(group, {})
        if event_class.type in handlers:
            raise ValueError(f"group {group!r} handles {event_class.type} already")
        if any(handler.call is function and handler.bulk != bulk for handler in handlers.values()):
            raise ValueError(f"group {group!r} has {function.__name__} with another bulk")
        handlers[event_class.type] = Handler(group, event_class, function, bulk, given_up)
        return function

    return register


def groups() -> list[str]:
    """Return the names of all consumer groups, sorted."""
    return sorted(_handlers)


def group_of(name: str) -> Group:
    """Return how a group works."""
    return _groups.get(name, Group(name))


def handlers_of(group: str) -> dict[str, Handler]:
    """Return a group's handlers by event type.

    Raises:
        LookupError: no handler names that group.
    """
    if group not in _handlers:
        raise LookupError(f"no consumer group {group!r}; there are {', '.join(groups()) or 'none'}")
    return _handlers[group]


def topics_of(group: str) -> list[Topic]:
    """Return the topics whose events a group handles, by name."""
    return sorted({handler.event_class.topic for handler in handlers_of(group).values()}, key=lambda topic: topic.name)
