"""Who handles what: filled by `handles` when the apps' consumers.py are imported."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from outbox.events import Event, Topic

# As what failed_messages keeps the relay's rows that Kafka refused.
RELAY = "relay"

AnyHandler = Callable[[Any], None]


@dataclass(frozen=True)
class Handler:
    """One group's reaction to one event class. `call` takes a list of events if `bulk`, else one event."""

    group: str
    event_class: type[Event]
    call: AnyHandler
    bulk: bool

    def __call__(self, events: list[Event]) -> None:
        if self.bulk:
            self.call(events)
        else:
            for event in events:
                self.call(event)


_handlers: dict[str, dict[str, Handler]] = {}


def handles(event_class: type[Event], *, group: str, bulk: bool = False) -> Callable[[AnyHandler], AnyHandler]:
    """Make the decorated function the reaction of consumer group `group` to `event_class`.

    It runs inside the transaction that records the event in the inbox, so whatever it writes is applied once. It takes
    one event, or with `bulk=True` a list of them in order; what raises is tried again and then dead-lettered.

    Raises:
        ValueError: the group has a handler for that event type already, or is named as the relay.
    """

    if group == RELAY:
        raise ValueError(f"group {RELAY!r} is taken: under it stands what Kafka refused")

    def register(function: AnyHandler) -> AnyHandler:
        handlers = _handlers.setdefault(group, {})
        if event_class.type in handlers:
            raise ValueError(f"group {group!r} handles {event_class.type} already")
        handlers[event_class.type] = Handler(group, event_class, function, bulk)
        return function

    return register


def groups() -> list[str]:
    """Return the names of all consumer groups, sorted."""
    return sorted(_handlers)


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
