"""A membership in a consumer group: the partitions that are ours, their records in hand, and the committed offsets."""

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from confluent_kafka import Consumer as KafkaConsumer
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from outbox.kafka import consumer_config, topic_name
from outbox.record import Place, Record
from outbox.registry import topics_of
from outbox.worker import OutageLog

logger = logging.getLogger(__name__)

# How long one look for records blocks.
POLL_SECONDS = 0.5
# How long leaving waits for Kafka to take the last offsets.
LEAVE_SECONDS = 7.0
# How often librdkafka tells how its connections are, in ms.
STATISTICS_MS = 1_000
# A broker that has sent nothing for so long does not answer: heartbeats alone make it send something every 1.5 s.
SILENCE_MICROSECONDS = 5_000_000


class _Broker(msgspec.Struct):
    state: str
    # Microseconds since it sent something; -1: nothing yet on this connection.
    rxidle: int


class _Statistics(msgspec.Struct):
    """What is read of librdkafka's statistics (STATISTICS.md)."""

    brokers: dict[str, _Broker]

    @property
    def answered(self) -> bool:
        return any(b.state == "UP" and 0 <= b.rxidle < SILENCE_MICROSECONDS for b in self.brokers.values())


class Member:
    """One member of a group. For one thread, but for `not_ready`.

    What is received is in hand until `applied` is called; of partitions that go to another member, only until then.
    Kafka's trouble is waited out.
    """

    def __init__(self, group: str, *, batch_size: int, until_idle: bool, topics: Sequence[str] | None = None) -> None:
        """Read `topics` (names in Kafka), or else those of the group's handlers.

        Raises:
            LookupError: no handler names the group.
        """
        self._group, self._batch_size = group, batch_size
        self._topics = [topic_name(topic) for topic in topics_of(group)] if topics is None else list(topics)
        # Received and not yet applied.
        self.in_hand: list[Record] = []
        # Whether partitions became ours since somebody last set this to False.
        self.has_new = False
        self._ours: set[Place] = set()
        # False until the group has said which partitions are ours, which may be none, and after it has lost us.
        self._joined = False
        # Partitions of ours that have nothing more to read; known only with `until_idle`.
        self._ended: set[Place] = set()
        # Next offset to read by partition: of what was applied and is not known to be committed, and, of that, what
        # was sent to Kafka and is not answered.
        self._applied: dict[Place, int] = {}
        self._committing: dict[Place, int] = {}
        # Partitions of which nothing comes in hand before they are sought.
        self._barred: set[Place] = set()
        self._resting = False
        self._outage = OutageLog(logger, "Kafka")
        self._last_error: KafkaError | None = None
        config = consumer_config(group, self._on_error)
        self._kafka = KafkaConsumer(
            {
                **config,
                "enable.partition.eof": until_idle,
                "on_commit": self._on_commit,
                "statistics.interval.ms": STATISTICS_MS,
                "stats_cb": self._on_statistics,
            }
        )

    def join(self) -> None:
        """Ask for a share of the group's partitions, which is given while `receive` or `rest` block."""
        self._kafka.subscribe(self._topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)

    def leave(self) -> None:
        """Commit and leave the group; without Kafka's answer, after LEAVE_SECONDS, leave it at that."""

        def commit_and_close() -> None:
            self._commit(self._applied)
            self._kafka.close()

        # Both block for as long as Kafka is away, and cannot be told not to.
        leaving = threading.Thread(target=commit_and_close, daemon=True)
        leaving.start()
        leaving.join(LEAVE_SECONDS)
        if leaving.is_alive():
            logger.warning("Kafka did not answer, offsets may not be committed", extra={"group": self._group})

    def not_ready(self) -> str | None:
        """Return why no records can come, or None. For any thread."""
        if self._outage.lasts:
            return "Kafka does not answer"
        return None if self._joined else f"has not joined the group {self._group}"

    @property
    def is_at_end(self) -> bool:
        """Whether each partition of ours is read to its end. For members with `until_idle`."""
        return self._joined and self._ours <= self._ended

    def receive(self) -> None:
        """Take in hand what is there, at least one record if one comes within POLL_SECONDS."""
        self._take(self._kafka.consume(1, POLL_SECONDS))
        if not self.in_hand and not self._committing:
            # What Kafka did not take, say while the group was rebalanced.
            self._commit(self._applied, wait=False)
        # consume() waits for all it was asked for, so the rest is asked for without waiting.
        if self.in_hand and self._batch_size > 1:
            self._take(self._kafka.consume(self._batch_size - 1, 0))

    def applied(self) -> None:
        """Commit what is in hand, and have nothing in hand. Does not block; an offset that gets lost costs nothing
        but the reading of records that the inbox knows.
        """
        for record in self.in_hand:
            self._applied[record.topic, record.partition] = record.offset + 1
        self.in_hand = []
        # While a partition waits to be sought, without leaving answers open: see `rewind`.
        self._commit(self._applied, wait=bool(self._barred))

    def rewind(self, place: Place, offset: int) -> bool:
        """Read a partition from an offset on, and commit that. Return False where it is not possible yet.

        The partition must be ours. Nothing of it is in hand, or comes in hand, before it was rewound. Blocks until
        Kafka answers.
        """
        self._barred.add(place)
        self.in_hand = [record for record in self.in_hand if (record.topic, record.partition) != place]
        # An earlier commit that is still under way could come after this one.
        if place in self._committing:
            return False
        part = TopicPartition(*place, offset)
        try:
            self._kafka.seek(part)
            [answer] = self._kafka.commit(offsets=[part], asynchronous=False) or []
            refusal = answer.error
        except KafkaException as error:
            refusal = error.args[0]
        if refusal:
            logger.info("a rewind has to wait", extra={**self._at(place), "error": str(refusal)})
            return False
        self._applied.pop(place, None)
        self._ended.discard(place)
        self._barred.discard(place)
        logger.info("rewound", extra={**self._at(place), "offset": offset})
        return True

    def is_ours(self, place: Place) -> bool:
        return place in self._ours

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Stay a member while the block runs, without records: the block calls `rest`."""
        self._resting = True
        self._kafka.pause(self._kafka.assignment())
        try:
            yield
        finally:
            self._resting = False
            self._kafka.resume(self._kafka.assignment())

    def rest(self, seconds: float) -> None:
        """Block for `seconds` at most."""
        message = self._kafka.poll(seconds)
        if message is not None:
            # An error, or a record that was on its way when the pause began.
            self._take([message])

    def _take(self, messages: Iterable[Any]) -> None:
        for message in messages:
            place = (message.topic(), message.partition())
            if message.error() is not None:
                self._meet(message.error(), place)
            elif place in self._ours and place not in self._barred:
                self._ended.discard(place)
                self.in_hand.append(Record.from_message(message))

    def _meet(self, error: KafkaError, place: Place) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            if place in self._ours and place not in self._barred:
                self._ended.add(place)
        elif error.fatal():
            raise KafkaException(error)
        elif error.code() == KafkaError._MAX_POLL_EXCEEDED:
            logger.warning(
                "a batch took longer than max.poll.interval.ms, the group goes on without this member until it is back",
                extra={"group": self._group},
            )
        else:
            logger.warning("Kafka reports an error", extra={**self._at(place), "error": error.str()})

    def _commit(self, offsets: dict[Place, int], *, wait: bool = True) -> None:
        parts = [TopicPartition(*place, offset) for place, offset in offsets.items() if place not in self._barred]
        if not parts:
            return
        try:
            if wait:
                self._kafka.commit(offsets=parts, asynchronous=False)
                offsets.clear()
            else:
                self._kafka.commit(offsets=parts)
                self._committing.update({(part.topic, part.partition): part.offset for part in parts})
        except KafkaException as error:
            logger.warning("offsets were not committed", extra={"group": self._group, "error": str(error)})

    def _on_commit(self, error: KafkaError | None, partitions: Sequence[TopicPartition]) -> None:
        for part in partitions:
            place = (part.topic, part.partition)
            if self._committing.get(place) == part.offset:
                del self._committing[place]
            if not (error or part.error) and self._applied.get(place) == part.offset:
                del self._applied[place]

    def _on_assign(self, consumer: KafkaConsumer, partitions: list[TopicPartition]) -> None:
        self._joined = self.has_new = True
        self._ours |= _places(partitions)
        self._tell("partitions are assigned", partitions)
        if self._resting:
            consumer.incremental_assign(partitions)
            consumer.pause(partitions)

    def _on_revoke(self, consumer: KafkaConsumer, partitions: list[TopicPartition]) -> None:
        """Commit what was applied before the partitions go to another member."""
        self._tell("partitions are revoked", partitions)
        self._commit(self._forget(partitions))

    def _on_lost(self, consumer: KafkaConsumer, partitions: list[TopicPartition]) -> None:
        """Drop what belongs to another member already."""
        self._joined = False
        self._tell("partitions are lost", partitions)
        self._forget(partitions)

    def _forget(self, partitions: list[TopicPartition]) -> dict[Place, int]:
        """Forget what we have of partitions that are no longer ours; return their uncommitted offsets."""
        places = _places(partitions)
        self.in_hand = [record for record in self.in_hand if (record.topic, record.partition) not in places]
        self._ours -= places
        self._ended -= places
        uncommitted = {place: self._applied.pop(place) for place in places & self._applied.keys()}
        for place in places:
            self._committing.pop(place, None)
            if place in self._barred:
                # It is for the next owner to seek; how far we had read before is of no use to anybody.
                self._barred.remove(place)
                uncommitted.pop(place, None)
        return uncommitted

    def _on_error(self, error: KafkaError) -> None:
        self._last_error = error

    def _on_statistics(self, text: str) -> None:
        if msgspec.json.decode(text, type=_Statistics).answered:
            self._outage.over()
        else:
            self._outage.trouble(self._last_error or "no broker has answered yet")

    def _tell(self, what: str, partitions: list[TopicPartition]) -> None:
        if partitions:
            names = [f"{part.topic}/{part.partition}" for part in partitions]
            logger.info(what, extra={"group": self._group, "partitions": names})

    def _at(self, place: Place) -> dict[str, Any]:
        return {"group": self._group, "topic": place[0], "partition": place[1]}


def _places(partitions: Iterable[TopicPartition]) -> set[Place]:
    return {(part.topic, part.partition) for part in partitions}
