"""Dead letters: how a record that cannot be applied becomes a row of failed_messages and a copy on GROUP-dlq."""

import base64
import json
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.db import connections, router
from django.utils import timezone

from outbox import conf, publishing
from outbox.events import Unreadable
from outbox.kafka import dead_letter_topic, topic_name
from outbox.models import FailedMessage
from outbox.publishing import OutboxRow
from outbox.record import Headers, Reading

# Characters of an error that are kept: its end, where a traceback says what happened.
ERROR_LIMIT = 10_000

# A copy is written only with the row that it is a copy of, so that a redelivered record makes neither again.
INSERT = """
    INSERT INTO failed_messages (consumer_group, topic, partition, "offset", key, value, headers, event_id, event_type,
                                 error_class, error, attempts, status, next_retry_at, created_at)
    SELECT * FROM unnest(%s::text[], %s::text[], %s::int[], %s::bigint[], %s::bytea[], %s::bytea[], %s::jsonb[],
                         %s::uuid[], %s::text[], %s::text[], %s::text[], %s::int[], %s::text[], %s::timestamptz[],
                         %s::timestamptz[])
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


def bury(group: str, failures: Sequence[Failure]) -> None:
    """Write a dead letter for each failure and its copy for GROUP-dlq, in the caller's transaction.

    A record that has one already gets no second.
    """
    if not failures:
        return
    now = timezone.now()
    retry_at = now + timedelta(seconds=conf.get("RETRY_SECONDS"))
    rows = [
        (
            group,
            *failure.reading.record.place,
            failure.reading.record.key,
            failure.reading.record.value,
            json.dumps(encode_headers(failure.reading.record.headers)),
            failure.reading.event_id,
            storable(failure.reading.event_type),
            type(failure.error).__qualname__,
            describe(failure.error),
            0,
            failure.status.value,
            retry_at if failure.status == FailedMessage.Status.PENDING else None,
            now,
        )
        for failure in failures
    ]
    with connections[router.db_for_write(FailedMessage)].cursor() as cursor:
        cursor.execute(INSERT, [list(column) for column in zip(*rows, strict=True)])
        written = set(cursor.fetchall())
    if copies := [_copy(group, failure) for failure in failures if failure.reading.record.place in written]:
        publishing.write(copies)


def describe(error: Exception) -> str:
    """Return an error as a person reads it in the admin: of a handler's, also where it was raised."""
    if isinstance(error, Unreadable):
        return storable(str(error))[:ERROR_LIMIT]
    return storable("".join(traceback.format_exception(error)))[-ERROR_LIMIT:]


def _copy(group: str, failure: Failure) -> OutboxRow:
    """Return the record for GROUP-dlq, with the headers of KIP-1191."""
    record = failure.reading.record
    reason = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "group": conf.get("PREFIX") + group,
        "delivery.count": failure.tries,
        "message": f"{type(failure.error).__qualname__}: {failure.error}"[:1000],
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
