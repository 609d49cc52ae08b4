"""Mending the value of a dead letter by hand: what may be changed, and what must stay."""

from collections.abc import Mapping

from outbox.events import Envelope, Event, Unreadable, event_classes, read_envelope, read_event
from outbox.letters.closing import Refused, handlers_now
from outbox.letters.dead_letters import decode_headers, encode_headers
from outbox.models import FailedMessage
from outbox.publishing import too_large
from outbox.registry import RELAY


class InvalidEdit(Refused):
    """An edited value that would not be the letter's event any more, or no event at all."""


def edit(letter: FailedMessage, value: bytes) -> None:
    """Give a letter a new value, and the headers of an event. Nothing is saved.

    Raises:
        InvalidEdit: it is no valid event of its type, or its id, type or key would change.
    """
    envelope = _read_edited(letter, value)
    letter.value = value
    letter.event_id, letter.event_type = envelope.event_id, envelope.event_type
    frame = {"event-id": str(envelope.event_id), "event-type": envelope.event_type}
    if any(name == "event-version" for name, _ in letter.headers):
        frame["event-version"] = str(envelope.version)
    others = [(name, header) for name, header in decode_headers(letter.headers) if name not in frame]
    letter.headers = encode_headers([*((name, text.encode()) for name, text in frame.items()), *others])


def _read_edited(letter: FailedMessage, value: bytes) -> Envelope:
    key = _key(letter)
    try:
        envelope = read_envelope(value)
        if letter.event_id is not None and envelope.event_id != letter.event_id:
            raise InvalidEdit(f"The eventId must stay {letter.event_id}.")
        if letter.event_type and envelope.event_type != letter.event_type:
            raise InvalidEdit(f"The eventType must stay {letter.event_type}.")
        cls = _classes(letter.consumer_group).get(envelope.event_type)
        if cls is None:
            raise InvalidEdit(f"{letter.consumer_group} has no event of type {envelope.event_type!r}.")
        event = read_event(envelope, cls)
    except Unreadable as error:
        raise InvalidEdit(f"This is no event: {error}.") from error
    if event.key != key:
        raise InvalidEdit(f"The key {cls.key_field} must stay {key}.")
    if letter.consumer_group == RELAY and too_large(cls.topic, key.encode(), value):
        raise InvalidEdit(f"{len(value):,} bytes are more than Kafka takes.")
    return envelope


def _key(letter: FailedMessage) -> str:
    if letter.key is None:
        raise InvalidEdit("A record without a key is of no event, and cannot become one: it can only be discarded.")
    try:
        return bytes(letter.key).decode()
    except UnicodeDecodeError as error:
        raise InvalidEdit("The key is no text, so the record can only be discarded.") from error


def _classes(group: str) -> Mapping[str, type[Event]]:
    """Return the event classes by type that can be a group's letters."""
    if group == RELAY:
        return {cls.type: cls for cls in event_classes}
    return {event_type: handler.event_class for event_type, handler in handlers_now(group).items()}
