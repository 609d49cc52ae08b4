"""The relay: sends committed outbox rows to Kafka, in order. Run with: manage.py relay_outbox

One relay works at a time; others stand by and take over when its connection to PostgreSQL ends. A row leaves the outbox
only when Kafka has acknowledged that very row, so what is unclear is sent again.
"""

import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import psycopg
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from django.db import connections, router

from outbox.database import is_outage
from outbox.dead_letters import decode_headers, encode_headers
from outbox.kafka import producer_config
from outbox.models import OutboxEvent
from outbox.record import Headers
from outbox.worker import OutageLog, Stop

logger = logging.getLogger(__name__)

# Rows in one batch at most, and bytes of values after which it takes no further row.
BATCH_SIZE, BATCH_BYTES = 1_000, 16_000_000
# How often the outbox is looked at when no NOTIFY says that there is something.
POLL_SECONDS = 1.0
# How long a stop waits for reports of what was handed to Kafka already.
GRACE_SECONDS = 5.0
# Pause before a fresh start after trouble, and the longest that a topic rests after it failed.
RESTART_SECONDS, REST_SECONDS = 1.0, 30.0
# The key of the advisory lock that makes one relay the active one ("outb" in ASCII, then the lock's number).
LOCK = (0x6F757462, 1)

# What Kafka says of a record that it will never take, whatever is waited for.
REFUSALS = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_RECORD,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.INVALID_TIMESTAMP,
}
# What it says while a topic cannot be written to.
TOPIC_OUTAGES = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.TOPIC_EXCEPTION,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
}

# By state, never by a cursor on the id: a lower id may commit later. Rows behind one of their key that Kafka refused
# wait until that is solved.
READ = """
    SELECT id, event_id::text, event_type, event_version, topic, key, value, traceparent, headers::text
    FROM (
        SELECT *, sum(size) OVER (ORDER BY id) - size AS bytes_before
        FROM (
            SELECT *, coalesce(octet_length(value), 0) AS size
            FROM outbox_outboxevent AS waiting
            WHERE topic <> ALL(%(resting)s)
              AND NOT EXISTS (
                SELECT FROM failed_messages AS letter
                WHERE letter.consumer_group = 'relay' AND letter.status IN ('PENDING', 'FAILED')
                  AND letter.topic = waiting.topic AND letter.key = waiting.key
              )
            ORDER BY id
            LIMIT %(limit)s
        ) AS limited
    ) AS measured
    WHERE bytes_before < %(bytes)s
    ORDER BY id
"""

BURY = """
    WITH refused AS (DELETE FROM outbox_outboxevent WHERE id = %(id)s RETURNING *)
    INSERT INTO failed_messages (consumer_group, topic, partition, "offset", key, value, headers, event_id, event_type,
                                 error_class, error, attempts, status, created_at)
    SELECT 'relay', topic, -1, id, key, value, %(headers)s::jsonb, event_id, event_type,
           %(error_class)s, %(error)s, 0, 'FAILED', statement_timestamp()
    FROM refused
"""


class Row(NamedTuple):
    """A row of the outbox, as READ gives it."""

    id: int
    event_id: str | None
    event_type: str
    event_version: int | None
    topic: str
    key: bytes | None
    value: bytes | None
    traceparent: str | None
    headers: str | None

    def kafka_headers(self) -> Headers:
        if self.headers is not None:
            return decode_headers(json.loads(self.headers))
        headers = [
            ("event-id", self.event_id),
            ("event-type", self.event_type),
            ("event-version", str(self.event_version)),
            ("content-type", "application/json"),
            ("traceparent", self.traceparent),
        ]
        return [(name, value.encode()) for name, value in headers if value is not None]


class Sender:
    """One producer's life. After an error that is not about a topic it is `broken`, and another takes its place."""

    def __init__(self, outage: OutageLog, *, gapless: bool = True) -> None:
        self._producer = Producer(producer_config(outage.trouble, gapless=gapless))
        self._outage = outage
        self.broken = False
        # Before the first connection an idempotent producer asks for its id every 500 ms only, so connect first.
        with suppress(KafkaException):
            self._producer.list_topics(timeout=1)

    def send(self, rows: Sequence[Row], stop: Stop) -> dict[int, KafkaError | None]:
        """Send rows and return by id what became of them: None where Kafka has it, else the error.

        Blocks until every row's own report is there, through an outage of any length; only a stop ends the wait, and
        then rows without a report are missing in what is returned.
        """
        reports: dict[int, KafkaError | None] = {}
        # The first error of each topic. What comes behind it is not sent, lest it overtake: it shares the error.
        failed: dict[str, KafkaError] = {}
        for row in rows:
            self._produce(row, stop, reports, failed)
        give_up_at = None
        while len(reports) < len(rows):
            self._poll(0.1)
            if stop.requested:
                give_up_at = give_up_at or time.monotonic() + GRACE_SECONDS
                if time.monotonic() > give_up_at:
                    self.broken = True
                    break
        if any(error is None for error in reports.values()):
            self._outage.over()
        return reports

    def _produce(
        self, row: Row, stop: Stop, reports: dict[int, KafkaError | None], failed: dict[str, KafkaError]
    ) -> None:
        def report(error: KafkaError | None, message: Message | None = None) -> None:
            reports[row.id] = error
            if error is not None:
                failed.setdefault(row.topic, error)

        headers: Any = row.kafka_headers()
        while row.topic not in failed:
            try:
                self._producer.produce(row.topic, key=row.key, value=row.value, headers=headers, on_delivery=report)
            except BufferError:
                # The local queue is full.
                if stop.requested:
                    return
                self._poll(0.1)
            except KafkaException as refusal:
                report(refusal.args[0])
            else:
                return
        reports[row.id] = failed[row.topic]

    def _poll(self, seconds: float) -> None:
        try:
            self._producer.poll(seconds)
        except KafkaException as fatal:
            # The reports of the messages concerned come by later polls.
            self.broken = True
            logger.warning("the producer cannot go on, a fresh one takes over", extra={"error": str(fatal.args[0])})

    def close(self) -> None:
        """Drop what was not sent. The outbox still has it."""
        self._producer.purge()


class Relay:
    """The relay's loop over one connection to PostgreSQL, which also holds the lock of the active relay."""

    def __init__(self, *, batch_size: int = BATCH_SIZE, poll_seconds: float = POLL_SECONDS) -> None:
        self._batch_size, self._poll_seconds = batch_size, poll_seconds
        self._database = OutageLog(logger, "PostgreSQL")
        self._kafka = OutageLog(logger, "Kafka")
        # Topics that failed lately: when to try again (monotonic), and the pause that led there in seconds.
        self._resting: dict[str, tuple[float, float]] = {}

    def run(self, stop: Stop, *, once: bool = False) -> int:
        """Send until stopped, or with `once` until nothing is left that can be sent now. Return how many were sent.

        Blocks. PostgreSQL's and Kafka's trouble is waited out.
        """
        sent = 0
        while not stop.requested:
            try:
                with self._active(stop) as db:
                    self._database.over()
                    for batch in self._batches(db, stop, once):
                        sent += batch
                return sent
            except psycopg.Error as error:
                if not is_outage(error):
                    raise
                self._database.trouble(error)
                stop.wait(RESTART_SECONDS)
        return sent

    @contextmanager
    def _active(self, stop: Stop) -> Iterator[psycopg.Connection[Any]]:
        """Connect, and hold the lock of the active relay. Blocks while another relay is active."""
        parameters = connections[router.db_for_write(OutboxEvent)].get_connection_params()
        for django_only in ("cursor_factory", "context", "prepare_threshold"):
            parameters.pop(django_only, None)
        with psycopg.connect(**{"connect_timeout": 5, **parameters, "autocommit": True}) as db:
            while not stop.requested:
                # A row, though one without columns, only where the lock was free.
                if db.execute("SELECT WHERE pg_try_advisory_lock(%s, %s)", LOCK).fetchone() is not None:
                    break
                stop.wait(self._poll_seconds)
            db.execute("LISTEN outbox")
            yield db

    def _batches(self, db: psycopg.Connection[Any], stop: Stop, once: bool) -> Iterator[int]:
        """Send batch after batch, and yield how many rows of each Kafka has."""
        sender = Sender(self._kafka)
        try:
            while not stop.requested:
                if sender.broken:
                    sender.close()
                    sender = Sender(self._kafka)
                    stop.wait(RESTART_SECONDS)
                rows = self._read(db)
                if rows:
                    yield self._send(db, sender, rows, stop)
                elif once:
                    return
                else:
                    self._wait_for_work(db)
        finally:
            sender.close()

    def _read(self, db: psycopg.Connection[Any]) -> list[Row]:
        cursor = db.cursor(binary=True, row_factory=lambda cursor: Row._make)
        now = time.monotonic()
        resting = [topic for topic, (until, _) in self._resting.items() if until > now]
        parameters = {"resting": resting, "limit": self._batch_size, "bytes": BATCH_BYTES}
        return cursor.execute(READ, parameters).fetchall()

    def _wait_for_work(self, db: psycopg.Connection[Any]) -> None:
        for _ in db.notifies(timeout=self._poll_seconds, stop_after=1):
            pass

    def _send(self, db: psycopg.Connection[Any], sender: Sender, rows: Sequence[Row], stop: Stop) -> int:
        reports = sender.send(rows, stop)
        sent = self._acknowledge(db, reports)
        resting: set[str] = set()
        refused: list[Row] = []
        # Keys of which a row was not sent, and not refused either: what is behind it waits for it.
        waiting: set[tuple[str, bytes | None]] = set()
        for row in rows:
            error = reports.get(row.id)
            code = error.code() if error is not None else None
            if code is None and row.id in reports:
                self._resting.pop(row.topic, None)
            elif code in REFUSALS and (row.topic, row.key) not in waiting:
                refused.append(row)
            else:
                waiting.add((row.topic, row.key))
                if code in TOPIC_OUTAGES:
                    resting.add(row.topic)
                else:
                    sender.broken = True
        for topic in resting:
            self._rest(topic)
        return sent + (self._send_alone(db, refused, stop) if refused and not stop.requested else 0)

    def _acknowledge(self, db: psycopg.Connection[Any], reports: dict[int, KafkaError | None]) -> int:
        """Delete the rows that Kafka has, over the connection that holds the lock: who lost it acknowledges nothing."""
        done = [row_id for row_id, error in reports.items() if error is None]
        if done:
            db.execute("DELETE FROM outbox_outboxevent WHERE id = ANY(%s)", (done,))
        return len(done)

    def _send_alone(self, db: psycopg.Connection[Any], rows: Sequence[Row], stop: Stop) -> int:
        """Send rows one by one, as Kafka refuses a batch for one bad record, and bury those that it still refuses."""
        sent = 0
        buried: set[tuple[str, bytes]] = set()
        # No gap can come of one row at a time, and without the guarantee a refusal leaves the producer whole.
        sender = Sender(self._kafka, gapless=False)
        for row in rows:
            if row.key is not None and (row.topic, row.key) in buried:
                continue
            reports = sender.send([row], stop)
            sent += self._acknowledge(db, reports)
            error = reports.get(row.id)
            if error is not None and error.code() in REFUSALS:
                self._bury(db, row, error)
                if row.key is not None:
                    buried.add((row.topic, row.key))
            elif error is not None or sender.broken or stop.requested:
                # The rows from here on are still in the outbox, and come again.
                break
        sender.close()
        return sent

    def _bury(self, db: psycopg.Connection[Any], row: Row, error: KafkaError) -> None:
        """Move a row that Kafka refuses for good to failed_messages."""
        logger.error(
            "Kafka refuses an event for good, it is now a failed message",
            extra={"event_id": row.event_id, "event_type": row.event_type, "topic": row.topic, "error": str(error)},
        )
        headers = json.dumps(encode_headers(row.kafka_headers()))
        db.execute(BURY, {"id": row.id, "headers": headers, "error_class": error.name(), "error": error.str()})

    def _rest(self, topic: str) -> None:
        """Leave a topic alone for a while, that doubles with every failure until something of it is sent."""
        _, seconds = self._resting.get(topic, (0.0, RESTART_SECONDS))
        seconds = min(2 * seconds, REST_SECONDS)
        self._resting[topic] = (time.monotonic() + seconds, seconds)
        logger.warning("a topic cannot be written to, its events wait", extra={"topic": topic, "seconds": seconds})
