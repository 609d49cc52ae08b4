"""The relay's way to Kafka: rows in, a report for every single one of them out."""

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer

from outbox.kafka import producer_config
from outbox.letters.dead_letters import decode_headers
from outbox.record import Headers
from outbox.worker import OutageLog

logger = logging.getLogger(__name__)

# How long a producer works, far less than the day after which a broker forgets one that is silent.
LIFE_SECONDS = 6 * 60 * 60.0
# How long a question for a topic's existence blocks.
METADATA_SECONDS = 1.0
# How long the reports of what was purged are waited for.
PURGE_SECONDS = 2.0

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


class Row(NamedTuple):
    """A row of the outbox, as the relay reads it. For speed it stays a plain tuple until something is wrong with it."""

    id: int
    event_id: str | None
    event_type: str
    event_version: str | None
    topic: str
    key: bytes | None
    value: bytes | None
    traceparent: str | None
    # JSON as FailedMessage keeps it; None: those of an event.
    headers: str | None

    def kafka_headers(self) -> Headers:
        if self.headers is not None:
            return decode_headers(json.loads(self.headers))
        texts = [
            ("event-id", self.event_id),
            ("event-type", self.event_type),
            ("event-version", self.event_version),
            ("content-type", "application/json"),
            ("traceparent", self.traceparent),
        ]
        return [(name, text.encode()) for name, text in texts if text is not None]


class NotYet(Exception):
    """A row cannot be handed over now: Kafka does not say whether its topic is there, or its key has to wait."""


class ColdTopic:
    """A topic in whose partitions a producer is not known yet, but for some.

    A broker that knows nothing of a producer takes its records at any place of their sequence: were the first request
    refused, the second, sent meanwhile, would be taken, and its rows would overtake those of the first. So until a
    partition has taken something, it gets one row of each key at a time. (Tried on Kafka 4.3: else one in ten did.)
    """

    def __init__(self, partitions: Iterable[int]) -> None:
        self._unknown = set(partitions)
        # Keys whose row is in flight, and those whose partition has taken one.
        self._in_flight: set[bytes] = set()
        self._known: set[bytes] = set()

    def admit(self, key: bytes | None) -> None:
        """Take note of a row that is handed over; raise NotYet if it has to wait."""
        if key in self._in_flight:
            raise NotYet
        if key is not None and key not in self._known:
            self._in_flight.add(key)

    def report(self, key: bytes | None, partition: int | None) -> bool:
        """Take note of the partition that took a row, None if none did. Return whether all know the producer now."""
        if key is not None:
            self._in_flight.discard(key)
        if partition is not None:
            self._unknown.discard(partition)
            if key is not None:
                self._known.add(key)
        return not self._unknown


# What a record is known by when its report is an error: topic, key and value.
Record = tuple[str, bytes | None, bytes | None]


class Batch:
    """Rows that were handed over together, and what is reported of them.

    One object takes the reports of all of them: one for each costs a quarter of the relay's rate. So what is kept is
    what failed; when the last report is there, the others were sent.
    """

    def __init__(self, rows: Sequence[Any], when_done: "Callable[[Batch], None]") -> None:
        self.places = [(row[0], row[4]) for row in rows]
        self.errors: dict[Record, KafkaError] = {}
        self._missing = len(rows)
        self._when_done = when_done

    def report(self, error: KafkaError | None, message: Any) -> None:
        """Take the report that librdkafka gives of a message."""
        if error is not None:
            self.errors[message.topic(), message.key(), message.value()] = error
        self._missing -= 1
        if not self._missing:
            self._when_done(self)

    def fail(self, row: Any, error: KafkaError) -> None:
        """Take note of a row that did not get as far as librdkafka."""
        self.errors[row[4], row[5], row[6]] = error
        self.report(None, None)


class Sender:
    """One producer's life. After an error that is not about a topic it is `broken`, and another takes its place.

    Rows are handed over by `send`. When `poll` has served the reports of all that were handed over together, their ids
    are in `sent`, with their topics; if one of them failed, the batch is in `failures`. Whoever takes what is in these
    two empties them, the latter by `take_failures`. Of the rows themselves nothing is kept: librdkafka has a copy.
    """

    def __init__(self, outage: OutageLog, *, gapless: bool = True) -> None:
        self._producer = Producer(producer_config(outage.trouble, gapless=gapless))
        self._outage = outage
        self._born_at = time.monotonic()
        # Rows not handed over yet: the local queue is full, or what NotYet says.
        self._waiting: deque[tuple[Batch, Sequence[Any]]] = deque()
        # Topics all of whose partitions know this producer, and the others.
        self._warm: set[str] = set()
        self._cold: dict[str, ColdTopic] = {}
        self._handed = self._reported = 0
        self.sent: list[tuple[int, str]] = []
        self.failures: list[Batch] = []
        # Topics of which a row was not even taken: those behind it must not overtake it.
        self._failed: dict[str, KafkaError] = {}
        self.broken = False
        # Before the first connection an idempotent producer asks for its id every 500 ms only, so connect first.
        self.probe()

    def probe(self) -> None:
        """Ask Kafka for a sign of life. Blocks for METADATA_SECONDS at most."""
        try:
            self._producer.list_topics(timeout=METADATA_SECONDS)
        except KafkaException as error:
            self._outage.trouble(error.args[0])
        else:
            self._outage.over()

    @property
    def is_old(self) -> bool:
        """Whether a broker may soon forget this producer, and a partition be cold again (producer.id.expiration.ms)."""
        return time.monotonic() - self._born_at > LIFE_SECONDS

    @property
    def in_flight(self) -> int:
        """How many rows have no report yet."""
        return self._handed - self._reported

    def send(self, rows: Sequence[Any]) -> None:
        """Hand rows over to be sent, in their order. Blocks for METADATA_SECONDS at most."""
        self._handed += len(rows)
        self._waiting.append((Batch(rows, self._done), rows))
        self._hand_over()

    def poll(self, seconds: float, *, more_follows: bool = False) -> None:
        """Serve reports, and block up to `seconds` while there are none.

        What was handed over goes out at once, unless `more_follows`: then requests may wait to become larger.
        """
        try:
            if more_follows:
                self._producer.poll(seconds)
            else:
                self._producer.flush(seconds)
        except (KafkaException, SystemError) as fatal:
            # The reports of the messages concerned come by later polls. (SystemError is what confluent-kafka 2.16
            # makes of a fatal error in flush.)
            if not self.broken:
                logger.warning("the producer cannot go on, a fresh one follows", extra={"error": str(fatal)})
            self.broken = True
        if self.sent:
            self._outage.over()
        if self._waiting:
            self._hand_over()

    def _hand_over(self) -> None:
        while self._waiting:
            batch, rows = self._waiting[0]
            handed = self._hand_over_rows(batch, rows)
            if handed < len(rows):
                # The next poll goes on from there.
                self._waiting[0] = batch, rows[handed:]
                return
            self._waiting.popleft()

    def _hand_over_rows(self, batch: Batch, rows: Sequence[Any]) -> int:
        """Hand over rows as far as that is possible now, and return how many those are."""
        produce, report, warm = self._producer.produce, batch.report, self._warm
        failed = self._failed
        for index, row in enumerate(rows):
            _, event_id, event_type, event_version, topic, key, value, traceparent, headers = row
            try:
                if failed and topic in failed:
                    batch.fail(row, failed[topic])
                    continue
                on_delivery: Any = report
                if topic not in warm:
                    self._cold_topic(topic).admit(key)
                    on_delivery = partial(self._report_cold, batch)
                if headers is None:
                    # Row.kafka_headers() without its calls: nearly every row is an event.
                    kafka_headers: Any = [
                        ("event-id", event_id),
                        ("event-type", event_type),
                        ("event-version", event_version),
                        ("content-type", "application/json"),
                        ("traceparent", traceparent),
                    ]
                else:
                    kafka_headers = Row._make(row).kafka_headers()
                produce(topic, value, key, on_delivery=on_delivery, headers=kafka_headers)
            except (BufferError, NotYet):
                return index
            except KafkaException as refusal:
                failed[topic] = refusal.args[0]
                batch.fail(row, failed[topic])
        return len(rows)

    def take_failures(self) -> list[Batch]:
        """Return the batches of which a row failed, and forget them. Call it when nothing is in flight."""
        failures, self.failures = self.failures, []
        self._failed.clear()
        return failures

    def _cold_topic(self, topic: str) -> ColdTopic:
        """Return what is known of a topic; raise KafkaException if it is not there, and NotYet if Kafka does not say.

        Asked before the first row of each: were the topic missing, librdkafka would give up one row after the other,
        and were it made meanwhile, the later ones would overtake the earlier.
        """
        if topic in self._cold:
            return self._cold[topic]
        try:
            found = self._producer.list_topics(topic, timeout=METADATA_SECONDS).topics[topic]
        except KafkaException as error:
            self._outage.trouble(error.args[0])
            raise NotYet from error
        if found.error is not None:
            raise KafkaException(found.error)
        return self._cold.setdefault(topic, ColdTopic(found.partitions))

    def _report_cold(self, batch: Batch, error: KafkaError | None, message: Any) -> None:
        topic = message.topic()
        cold = self._cold.get(topic)
        if cold and cold.report(message.key(), message.partition() if error is None else None):
            del self._cold[topic]
            self._warm.add(topic)
        batch.report(error, message)

    def _done(self, batch: Batch) -> None:
        self._reported += len(batch.places)
        if batch.errors:
            self.failures.append(batch)
        else:
            self.sent += batch.places

    def give_up(self) -> None:
        """Let what has no report yet fail, so that all have one. Blocks for PURGE_SECONDS at most."""
        for batch, rows in self._waiting:
            for row in rows:
                batch.fail(row, KafkaError(KafkaError._PURGE_QUEUE))
        self._waiting.clear()
        self._producer.purge()
        end = time.monotonic() + PURGE_SECONDS
        while self.in_flight and time.monotonic() < end:
            self.poll(0.05)

    def close(self) -> None:
        """Drop what has no report. The outbox still has it."""
        self._producer.purge()
