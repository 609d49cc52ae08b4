"""Event classes that tests declare on the spot: none of the project's."""

from typing import Any

from outbox import Event, Topic
from outbox.events import EventMeta, event_classes

LOCAL = Topic("local-events")


def declare(
    *,
    name: str = "ThingMade",
    type: str = "thing.made",
    topic: Topic = LOCAL,
    key: str = "thing",
    version: int = 1,
    doc: str | None = None,
    defaults: dict[str, Any] | None = None,
    **fields: Any,
) -> type[Event]:
    """Return an event class with these fields, and `thing: str` where they do not name it."""
    namespace = {"__module__": "shop.events", "__doc__": doc, "__annotations__": {"thing": str, **fields}}
    cls = EventMeta(name, (Event,), namespace | (defaults or {}), topic=topic, type=type, key=key, version=version)
    event_classes.remove(cls)
    return cls
