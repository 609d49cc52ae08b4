"""Dead letters: how a record that cannot be applied becomes a row of failed_messages and a copy on GROUP-dlq."""

import base64
import json
import logging
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple
from uuid import UUID

from django.db import connections, router, transaction
from django.utils import timezone

from outbox import conf, publishing
from outbox.events import Unreadable
from outbox.kafka import dead_letter_topic, topic_name
from outbox.letters import giving_up
from outbox.letters.fingerprint import fingerprint
from outbox.models import FailedMessage
from outbox.publishing import OutboxRow
from outbox.record import Headers, Reading

logger = logging.getLogger(__name__)

# Characters of an error that are kept: its end, where a traceback says what happened.
ERROR_LIMIT = 10_000
# Characters of a key in a log line.
KEY_LIMIT = 200

INSERT = """
    INSERT INTO failed_messages (consumer_group, topic, partition, "offset", key, value, headers, event_id, event_type,
                                 error_class, error, fingerprint, parks, status, attempts, next_retry_at, created_at)
    SELECT %s, letter.*, 0, CASE WHEN letter.status = 'PENDING' THEN now + make_interval(secs => %s) END, now
    FROM statement_timestamp() AS now,
         unnest(%s::text[], %s::int[], %s::bigint[], %s::bytea[], %s::bytea[], %s::jsonb[], %s::uuid[], %s::text[],
                %s::text[], %s::text[], %s::text[], %s::bool[], %s::text[])
         AS letter (topic, partition, "offset", key, value, headers, event_id, event_type,
                    error_class, error, fingerprint, parks, status)
    ON CONFLICT (consumer_group, topic, partition, "offset") DO NOTHING
    RETURNING topic, partition, "offset"
"""


@dataclass(frozen=True)
class Failure:
    """Why a group could not apply a record, and what becomes of the letter."""

    reading: Reading
    error: Exception
    status: FailedMessage.Status
    # How often it was tried.
    tries: int = 1
    # Whether later events of its key wait for it.
    parks: bool = False


class Letter(NamedTuple):
    """A row of failed_messages to be written, in the order of the columns of INSERT, and what its record is."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: str
    event_id: UUID | None
    event_type: str
    error_class: str
    error: str
    fingerprint: str
    parks: bool
    status: str
    reading: Reading

    @property
    def place(self) -> tuple[str, int, int]:
        return self.topic, self.partition, self.offset


def encode_headers(headers: Headers | None) -> list[list[object]]:
    """Return headers as FailedMessage keeps them: in JSON, readable where they are text, and exact in any case."""
    return [[storable(name), _encode_header(value)] for name, value in headers or []]


def _encode_header(value: bytes | None) -> object:
    if value is None:
        return None
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = "\0"
    # PostgreSQL's jsonb holds no NUL.
    return {"base64": base64.b64encode(value).decode()} if "\0" in text else text


def decode_headers(stored: Sequence[Sequence[object]]) -> Headers:
    """Return headers as Kafka has them; the reverse of `encode_headers`."""
    return [(str(name), _decode_header(value)) for name, value in stored]


def _decode_header(value: object) -> bytes | None:
    if value is None:
        return None
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else str(value).encode()


def storable(text: str) -> str:
    """Return text as a PostgreSQL text column takes it: without NUL and lone surrogates."""
    return text.replace("\0", "\\0").encode(errors="backslashreplace").decode()


def bury(group: str, failures: Sequence[Failure]) -> int:
    """Write a dead letter for each failure and its copy for GROUP-dlq, in the caller's transaction.

    A record that has one already gets no second: neither a letter nor a copy. Returns how many were written.
    """
    if not failures:
        return 0
    written = write_letters(group, [_letter(group, failure) for failure in failures])
    if copies := [_copy(group, failure) for failure in failures if failure.reading.record.place in written]:
        publishing.write(copies)
    return len(written)


def write_letters(group: str, letters: Sequence[Letter]) -> set[tuple[str, int, int]]:
    """Write rows of failed_messages and return the places of those that were not there yet. Each is logged.

    Where no automatic retries are wanted, all wait for a person at once, and their events are given up.
    """
    if not conf.get("RETRY_LIMIT"):
        letters = [letter._replace(status=FailedMessage.Status.FAILED.value) for letter in letters]
    columns = [list(column) for column in zip(*(letter[:-1] for letter in letters), strict=True)]
    with connections[(alias := router.db_for_write(FailedMessage))].cursor() as cursor:
        cursor.execute(INSERT, [group, conf.get("RETRY_SECONDS"), *columns])
        written = set(cursor.fetchall())
    new: dict[tuple[str, int, int], Letter] = {}
    for letter in letters:
        if letter.place in written:
            new.setdefault(letter.place, letter)
    for letter in new.values():
        if letter.status == FailedMessage.Status.FAILED:
            _give_up(group, letter)
    transaction.on_commit(partial(_log, group, list(new.values())), using=alias)
    return written


def _give_up(group: str, letter: Letter) -> None:
    if giving_up.tell(group, letter.reading):
        place = {"topic": letter.topic, "partition": letter.partition, "offset": letter.offset}
        FailedMessage.objects.filter(consumer_group=group, **place).update(given_up_at=timezone.now())


def _log(group: str, letters: Sequence[Letter]) -> None:
    for letter in letters:
        logger.error(
            "a record became a dead letter",
            extra={
                "event_id": letter.event_id and str(letter.event_id),
                "event_type": letter.event_type,
                "key": (letter.key or b"")[:KEY_LIMIT].decode(errors="backslashreplace"),
                "group": group,
                "topic": letter.topic,
                "partition": letter.partition,
                "offset": letter.offset,
                "status": letter.status,
                "fingerprint": letter.fingerprint,
            },
        )


def _letter(group: str, failure: Failure) -> Letter:
    record, reading = failure.reading.record, failure.reading
    event_type, error_class = storable(reading.event_type), type(failure.error).__qualname__
    return Letter(
        *record.place,
        record.key,
        record.value,
        json.dumps(encode_headers(record.headers)),
        reading.event_id,
        event_type,
        error_class,
        describe(failure.error),
        fingerprint(group, event_type, error_class, message_of(failure.error)),
        failure.parks,
        failure.status.value,
        reading,
    )


def describe(error: Exception) -> str:
    """Return an error as a person reads it in the admin: of a handler's, also where it was raised."""
    if isinstance(error, Unreadable):
        return storable(str(error))[:ERROR_LIMIT]
    return storable("".join(traceback.format_exception(error)))[-ERROR_LIMIT:]


def message_of(error: Exception) -> str:
    """Return an error's own text, also of one that has none to give."""
    try:
        return storable(str(error))
    except Exception as trouble:
        return f"<no message: {type(trouble).__name__}>"


def in_short(error: str) -> str:
    """Return the line of a described error that says what happened: of a traceback the first one below the frames."""
    lines = error.strip().split("\n")
    starts = [n for n, line in enumerate(lines) if n and lines[n - 1].startswith(" ") and not line.startswith(" ")]
    return lines[starts[-1] if starts else 0]


def _copy(group: str, failure: Failure) -> OutboxRow:
    """Return the record for GROUP-dlq, with the headers of KIP-1191."""
    record = failure.reading.record
    reason = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "group": conf.get("PREFIX") + group,
        "delivery.count": failure.tries,
        "message": f"{type(failure.error).__qualname__}: {message_of(failure.error)}"[:1000],
    }
    headers = [
        *(record.headers or []),
        *((f"__dlq.errors.{name}", str(value).encode(errors="backslashreplace")) for name, value in reason.items()),
    ]
    return OutboxRow(
        event_id=None,
        event_type=storable(failure.reading.event_type),
        event_version=None,
        topic=topic_name(dead_letter_topic(group)),
        key=record.key,
        value=record.value,
        headers=json.dumps(encode_headers(headers)),
    )
