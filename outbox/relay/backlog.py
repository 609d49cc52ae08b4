"""The rows that wait in the outbox, as one relay sees them over its connection to PostgreSQL."""

import json
import logging
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from confluent_kafka import KafkaError

from outbox.letters.dead_letters import encode_headers
from outbox.relay.sender import Row
from outbox.watching import metrics

logger = logging.getLogger(__name__)

# Rows in one batch at most. Bytes of a large value: a batch with one takes no further row after BATCH_BYTES of values.
BATCH_SIZE, LARGE_BYTES, BATCH_BYTES = 2_000, 8_000, 4_000_000
# How long the outbox is read onwards from where the last batch ended before it is read from its front again, where a
# row with a lower id may have been committed.
SWEEP_SECONDS = 1.0
# The first rest of a topic that failed, and the longest.
FIRST_REST_SECONDS, REST_SECONDS = 2.0, 30.0

COLUMNS = "id, event_id::text, event_type, event_version::text, topic, key, value, traceparent, headers::text"
# The rows are found by state: `after` only goes on from the last batch, and again and again starts from the front.
WAITING = """
    SELECT *
    FROM outbox_outboxevent
    WHERE id > %(after)s AND bucket = ANY(%(buckets)s) AND topic <> ALL(%(resting)s)
      AND id NOT IN (SELECT unnest(%(on_their_way)s::bigint[]))
    ORDER BY id
    LIMIT %(limit)s
"""
READ = f"""
    WITH acknowledged AS (DELETE FROM outbox_outboxevent WHERE id = ANY(%(sent)s::bigint[]))
    SELECT id, event_id::text, event_type, event_version::text, topic, key,
           CASE WHEN octet_length(value) <= %(large)s THEN value END, traceparent, headers::text
    FROM ({WAITING}) AS waiting
    ORDER BY id
"""
# Again with every value, and a limit to their bytes. Summing them up costs a third of a read, so it is for batches that
# have a large one.
READ_LARGE = f"""
    SELECT {COLUMNS}
    FROM (
        SELECT *, sum(octet_length(value)) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) AS bytes
        FROM ({WAITING}) AS waiting
    ) AS measured
    WHERE bytes IS NULL OR bytes - coalesce(octet_length(value), 0) < %(bytes)s
    ORDER BY id
"""
READ_FAILED = f"SELECT {COLUMNS} FROM outbox_outboxevent WHERE id = ANY(%s::bigint[]) ORDER BY id"
ACKNOWLEDGE = "DELETE FROM outbox_outboxevent WHERE id = ANY(%s::bigint[])"
# Keys of which a row was refused: those behind it wait.
REFUSED = """
    SELECT DISTINCT topic, key FROM failed_messages
    WHERE consumer_group = 'relay' AND parks AND status IN ('PENDING', 'FAILED')
"""
BURY = """
    WITH refused AS (DELETE FROM outbox_outboxevent WHERE id = %(id)s RETURNING *)
    INSERT INTO failed_messages (consumer_group, topic, partition, "offset", key, value, headers, event_id, event_type,
                                 error_class, error, fingerprint, parks, attempts, status, created_at)
    SELECT 'relay', topic, -1, id, key, value, %(headers)s::jsonb, event_id, event_type,
           %(error_class)s, %(error)s, %(fingerprint)s, key IS NOT NULL, 0, 'FAILED', statement_timestamp()
    FROM refused
"""


def array(ids: Iterable[int]) -> str:
    """Return ids as PostgreSQL writes an array: of thousands, psycopg takes ten times as long."""
    return f"{{{','.join(map(str, ids))}}}"


# The id of a row that Kafka has, and its topic.
Sent = tuple[int, str]


class Backlog:
    """Reads the rows of some buckets in their order, and deletes them when Kafka has them. Rows are plain tuples: Row.

    All methods raise what psycopg raises.
    """

    def __init__(self, db: psycopg.Connection[Any], *, batch_size: int) -> None:
        self._db, self._batch_size = db, batch_size
        # Where the next read goes on, and when the front was read.
        self._after, self._swept_at = 0, 0.0
        # The ids of what was read and is not acknowledged, and the highest of them.
        self._on_their_way: set[int] = set()
        self._furthest = 0
        # (topic, key) of which a row was refused.
        self._refused: set[tuple[str, bytes]] = set()
        # Topics that failed lately: when to try again (monotonic), and the pause that led there in seconds.
        self._resting: dict[str, tuple[float, float]] = {}
        # Topics whose rows the last read left out.
        self._left_out: set[str] = set()

    def read(self, buckets: Iterable[int], sent: Sequence[Sent]) -> tuple[list[Any], bool]:
        """Acknowledge what was sent, and in the same statement read the next. Return them, and if more follow.

        What was returned before does not come again, until it is acknowledged or `start_over` forgets it.
        """
        now = time.monotonic()
        resting = {topic for topic, (until, _) in self._resting.items() if until > now}
        # What was left out of the last read may lie before where we are.
        if now - self._swept_at > SWEEP_SECONDS or self._left_out - resting:
            self._after = 0
        self._left_out = resting
        if self._after == 0:
            self._swept_at = now
        rows = self._query(READ, buckets, [row_id for row_id, _ in sent])
        self._forget(sent)
        is_full = len(rows) == self._batch_size
        if any(row[6] is None for row in rows):
            rows = self._query(READ_LARGE, buckets)
            is_full = is_full or sum(len(row[6] or b"") for row in rows) >= BATCH_BYTES
        self._after = rows[-1][0] if is_full else 0
        if self._refused:
            rows = [row for row in rows if (row[4], row[5]) not in self._refused]
        if rows:
            self._on_their_way.update(row[0] for row in rows)
            self._furthest = max(self._furthest, rows[-1][0])
        return rows, is_full

    def _query(self, query: str, buckets: Iterable[int], sent: Iterable[int] = ()) -> list[Any]:
        parameters = {
            "sent": array(sent),
            "after": self._after,
            # An array of thousands takes its time, and behind the furthest of them it excludes nothing.
            "on_their_way": array(self._on_their_way if self._after < self._furthest else ()),
            "buckets": list(buckets),
            "resting": list(self._left_out),
            "limit": self._batch_size,
            "large": LARGE_BYTES,
            "bytes": BATCH_BYTES,
        }
        return self._db.cursor(binary=True).execute(query, parameters).fetchall()

    def acknowledge(self, sent: Sequence[Sent]) -> None:
        """Delete rows that Kafka has."""
        if sent:
            self._db.execute(ACKNOWLEDGE, (array(row_id for row_id, _ in sent),))
            self._forget(sent)

    def _forget(self, sent: Sequence[Sent]) -> None:
        for topic, number in Counter(topic for _, topic in sent).items():
            metrics.RELAY_PUBLISHED.labels(topic).inc(number)
            self._resting.pop(topic, None)
        self._on_their_way.difference_update(row_id for row_id, _ in sent)
        if not self._on_their_way:
            self._furthest = 0

    def rows(self, ids: Iterable[int]) -> list[Row]:
        """Return rows that could not be sent, in their order."""
        cursor = self._db.cursor(binary=True)
        return [Row._make(row) for row in cursor.execute(READ_FAILED, (array(ids),)).fetchall()]

    def look_from_the_front(self) -> None:
        self._after = 0

    def start_over(self) -> None:
        """Read again what was not acknowledged, for none of it is on its way any more."""
        self._on_their_way.clear()
        self._after = self._furthest = 0

    def rest(self, topic: str) -> None:
        """Leave a topic alone for a while, that doubles with every failure until something of it is sent."""
        _, before = self._resting.get(topic, (0.0, FIRST_REST_SECONDS / 2))
        seconds = min(2 * before, REST_SECONDS)
        self._resting[topic] = (time.monotonic() + seconds, seconds)
        logger.warning("a topic cannot be written to, its events wait", extra={"topic": topic, "seconds": seconds})

    # ── What Kafka refused ────────────────────────────────────────────────────────────────────────────────────────

    def survey_refused(self) -> bool:
        """Look at what became of the rows that were refused. Return whether some key goes on."""
        refused = set(self._db.execute(REFUSED).fetchall())
        solved = self._refused - refused
        self._refused = refused
        return bool(solved)

    def waits(self, row: Row) -> bool:
        """Return whether a row is behind one of its key that was refused."""
        return (row.topic, row.key) in self._refused

    def bury(self, row: Row, error: KafkaError) -> None:
        """Move a row that Kafka refuses for good to failed_messages."""
        logger.error(
            "Kafka refuses an event for good, it is now a failed message",
            extra={"event_id": row.event_id, "event_type": row.event_type, "topic": row.topic, "error": str(error)},
        )
        self._db.execute(
            BURY,
            {
                "id": row.id,
                "headers": json.dumps(encode_headers(row.kafka_headers())),
                "error_class": error.name(),
                "error": error.str(),
                "fingerprint": f"relay {row.topic} {error.name()}",
            },
        )
        metrics.RELAY_REFUSED.labels(row.topic).inc()
        if row.key is not None:
            self._refused.add((row.topic, row.key))
