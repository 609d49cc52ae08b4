"""A record as it came from Kafka, and what a group reads in it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from outbox import conf
from outbox.events import Envelope, Event, Unreadable, read_envelope, read_event
from outbox.registry import Handler

DAY_SECONDS = 24 * 60 * 60

Headers = list[tuple[str, bytes | None]]

# A partition: its topic's full name and its number.
Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Record:
    """A Kafka record. `headers` is None where librdkafka could not read their names as UTF-8."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers | None

    @property
    def place(self) -> tuple[str, int, int]:
        return self.topic, self.partition, self.offset

    @classmethod
    def from_message(cls, message: Any) -> "Record":
        """Return a confluent_kafka.Message, which is one without an error, as a record."""
        try:
            headers = message.headers() or []
        except UnicodeDecodeError:
            headers = None
        return cls(message.topic(), message.partition(), message.offset(), message.key(), message.value(), headers)


@dataclass(frozen=True, slots=True)
class Reading:
    """A record and what it is to a group: an event with its handler, unreadable, or, with neither, not its concern."""

    record: Record
    envelope: Envelope | None = None
    event: Event | None = None
    handler: Handler | None = None
    unreadable: Unreadable | None = None

    @property
    def event_id(self) -> UUID | None:
        """None where no envelope could be read."""
        return self.envelope.event_id if self.envelope else None

    @property
    def event_type(self) -> str:
        """Empty where no envelope could be read."""
        return self.envelope.event_type if self.envelope else ""


class TooOld(Unreadable):
    """An event older than what the inbox remembers, so that nobody can tell whether it was applied."""


def read(record: Record, handlers: Mapping[str, Handler], *, of_any_age: bool = False) -> Reading:
    """Return what a record is to the group that has these handlers. Raises nothing, whatever the bytes.

    One that has waited here is read `of_any_age`: that it was not applied is known without the inbox.
    """
    envelope = None
    try:
        envelope = read_envelope(record.value)
        _check_frame(record, envelope)
        handler = handlers.get(envelope.event_type)
        if handler is None:
            return Reading(record, envelope)
        event = read_event(envelope, handler.event_class)
        remembered_ms = conf.get("INBOX_RETENTION_DAYS") * DAY_SECONDS * 1000
        if not of_any_age and made_at_ms(envelope) < time.time() * 1000 - remembered_ms:
            raise TooOld(f"older than the {conf.get('INBOX_RETENTION_DAYS')} days that the inbox remembers")
    except Unreadable as error:
        return Reading(record, envelope, unreadable=error)
    return Reading(record, envelope, event, handler)


def _check_frame(record: Record, envelope: Envelope) -> None:
    """Raise Unreadable unless key and headers are those of an event."""
    if record.key is None:
        raise Unreadable("the key is null; an event's is the id of its aggregate")
    try:
        record.key.decode()
    except UnicodeDecodeError as error:
        raise Unreadable(f"the key is no text: {error}") from error
    if record.headers is None:
        raise Unreadable("a header's name is no text")
    headers = dict(record.headers)
    for name, expected in (("event-id", str(envelope.event_id)), ("event-type", envelope.event_type)):
        if headers.get(name) != expected.encode(errors="backslashreplace"):
            raise Unreadable(f"the header {name} is missing or is not that of the envelope")


def made_at_ms(envelope: Envelope) -> float:
    """Return when an event was made, in milliseconds since 1970: by its UUIDv7 (RFC 9562), else by its timestamp."""
    if envelope.event_id.version == 7:
        return envelope.event_id.int >> 80
    return envelope.timestamp.timestamp() * 1000
