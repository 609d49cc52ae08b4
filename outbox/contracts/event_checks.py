"""System checks of the event classes: what would make events unreadable, said before any is published."""

from collections import Counter
from typing import Any

from django.core.checks import CheckMessage, Error, Warning, register

from outbox.contracts.event_map import flows
from outbox.events import Event, upcast_versions


@register()
def check_events(**kwargs: Any) -> list[CheckMessage]:
    """Check the project's event classes and their upcasters."""
    classes = [flow.event_class for flow in flows()]
    return [*_check_types(classes), *(message for cls in classes for message in _check_upcasters(cls))]


def _check_types(classes: list[type[Event]]) -> list[CheckMessage]:
    declared = Counter(cls.type for cls in classes)
    return [
        Error(
            f"There are {count} event classes of type {name}.",
            hint="Give each a type of its own; a newer version takes the place of the older one.",
            id="outbox.E101",
        )
        for name, count in declared.items()
        if count > 1
    ]


def _check_upcasters(cls: type[Event]) -> list[CheckMessage]:
    upcast = upcast_versions(cls)
    missing = sorted(set(range(min(upcast, default=cls.version - 1), cls.version)) - upcast - {0})
    messages: list[CheckMessage] = []
    for version in missing:
        text = f"{cls.type} has version {cls.version}, and nothing upcasts its version {version}."
        hint = f"Add @upcasts({cls.__name__}, version={version})"
        if upcast:
            messages.append(Error(text, hint=f"{hint}: there are upcasters for older versions.", id="outbox.E102"))
        else:
            hint += ", unless Kafka, the outbox and the failed messages hold none of them any more."
            messages.append(Warning(text, hint=hint, id="outbox.W101"))
    return messages
