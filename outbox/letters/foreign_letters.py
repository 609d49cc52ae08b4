"""Dead letters of other systems: what their headers tell, and how they become letters of a group of this project.

Known are the headers of Kafka's share groups (KIP-1191), of Spring for Apache Kafka (DeadLetterPublishingRecoverer) and
of Kafka Connect (KIP-298). Where a header is there several times, the last one counts.
"""

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from outbox.letters.dead_letters import ERROR_LIMIT, Letter, encode_headers, storable, write_letters
from outbox.letters.fingerprint import fingerprint
from outbox.models import FailedMessage
from outbox.record import Reading, Record, read
from outbox.registry import handlers_of

# Characters of a class name that are kept.
CLASS_LIMIT = 200
# What a letter is said to have met where its headers do not tell.
UNKNOWN = "Unknown"
MAX_PARTITION, MAX_OFFSET = 2**31 - 1, 2**63 - 1

Headers = Mapping[str, bytes | None]


def _decimal(value: bytes) -> int:
    if not value.isdigit() or len(value) > 19:
        raise ValueError("no decimal number")
    return int(value)


def _big_endian(value: bytes) -> int:
    """Return a Java int or long as ByteBuffer writes it."""
    [number] = struct.unpack({4: ">i", 8: ">q"}[len(value)], value)
    return int(number)


@dataclass(frozen=True)
class Scheme:
    """The names of the headers by which one kind of system tells of a dead letter."""

    topic: str
    partition: str
    offset: str
    number: Callable[[bytes], int]
    message: str
    stacktrace: str = ""
    # The first of them that is there counts.
    error_classes: tuple[str, ...] = ()

    def place(self, headers: Headers) -> tuple[str, int, int] | None:
        """Return where the record was first, or None where the headers do not tell."""
        try:
            topic = (headers.get(self.topic) or b"").decode()
            partition = self.number(headers.get(self.partition) or b"")
            offset = self.number(headers.get(self.offset) or b"")
        except (ValueError, KeyError):
            return None
        if not topic or "\0" in topic or not 0 <= partition <= MAX_PARTITION or not 0 <= offset <= MAX_OFFSET:
            return None
        return topic, partition, offset

    def error(self, headers: Headers) -> tuple[str, str, str]:
        """Return class, message and stack trace of the error, each empty where the headers do not tell."""
        classes = [_text(headers, name) for name in self.error_classes]
        return next(filter(None, classes), ""), _text(headers, self.message), _text(headers, self.stacktrace)


def _text(headers: Headers, name: str) -> str:
    return storable((headers.get(name) or b"").decode(errors="backslashreplace"))


SCHEMES = (
    Scheme(
        topic="__dlq.errors.topic",
        partition="__dlq.errors.partition",
        offset="__dlq.errors.offset",
        number=_decimal,
        message="__dlq.errors.message",
    ),
    Scheme(
        topic="kafka_dlt-original-topic",
        partition="kafka_dlt-original-partition",
        offset="kafka_dlt-original-offset",
        number=_big_endian,
        message="kafka_dlt-exception-message",
        stacktrace="kafka_dlt-exception-stacktrace",
        # The second is what Spring wraps around what the listener raised.
        error_classes=("kafka_dlt-exception-cause-fqcn", "kafka_dlt-exception-fqcn"),
    ),
    Scheme(
        topic="__connect.errors.topic",
        partition="__connect.errors.partition",
        offset="__connect.errors.offset",
        number=_decimal,
        message="__connect.errors.exception.message",
        stacktrace="__connect.errors.exception.stacktrace",
        error_classes=("__connect.errors.exception.class.name",),
    ),
)


def take_in(records: Sequence[Record], groups: Mapping[str, str]) -> int:
    """Write records of dead-letter topics as letters of the group that `groups` names for the topic.

    In the caller's transaction. One that a handler can read is retried by the worker, any other waits for a person.
    They park nothing, since they come from outside the group's order, and no copy goes to GROUP-dlq. Returns how many
    are new: there is one letter for each place where a record was first.
    """
    letters: dict[str, list[Letter]] = {}
    for record in records:
        group = groups[record.topic]
        letters.setdefault(group, []).append(letter_of(group, record))
    return sum(len(write_letters(group, of_group)) for group, of_group in letters.items())


def letter_of(group: str, record: Record) -> Letter:
    """Return a record of a dead-letter topic as a letter of a group."""
    headers = dict(record.headers or [])
    topic, partition, offset = next(filter(None, (scheme.place(headers) for scheme in SCHEMES)), record.place)
    errors = (scheme.error(headers) for scheme in SCHEMES)
    error_class, message, stacktrace = next((error for error in errors if any(error)), ("", "", ""))
    reading = read(record, handlers_of(group))
    unreadable = _unreadable(group, reading)
    story = [stacktrace or message, f"From {record.topic}.", f"Here: {unreadable}." if unreadable else ""]
    event_type, error_class = storable(reading.event_type), error_class[-CLASS_LIMIT:] or UNKNOWN
    return Letter(
        topic=topic,
        partition=partition,
        offset=offset,
        key=record.key,
        value=record.value,
        headers=json.dumps(encode_headers(record.headers)),
        event_id=reading.event_id,
        event_type=event_type,
        error_class=error_class,
        error=storable("\n".join(filter(None, story)))[-ERROR_LIMIT:],
        fingerprint=fingerprint(group, event_type, error_class, message or storable(unreadable)),
        parks=False,
        status=FailedMessage.Status.FAILED if unreadable else FailedMessage.Status.PENDING,
        reading=reading,
    )


def _unreadable(group: str, reading: Reading) -> str:
    """Return why the group's handlers cannot be tried, or an empty text."""
    if reading.unreadable:
        return str(reading.unreadable)
    return "" if reading.event else f"{group} does not handle {reading.event_type}"
