"""The consumer: takes a group's records from Kafka and applies them. Run with: manage.py run_consumer GROUP

The offset of a record is committed after the transaction that applied it, so a crash in between brings the record
again, and the inbox knows it.
"""

import logging
import threading
from collections.abc import Sequence
from typing import Any

from confluent_kafka import Consumer as KafkaConsumer
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from django.db import DatabaseError, InterfaceError, close_old_connections, connections, router

from outbox.applying import Applier, Outage, Stopping
from outbox.kafka import consumer_config, topic_name
from outbox.models import InboxEvent
from outbox.record import Record
from outbox.registry import topics_of
from outbox.worker import OutageLog, Stop

logger = logging.getLogger(__name__)

BATCH_SIZE = 500
# How long one look for records blocks.
POLL_SECONDS = 0.5
# Between two looks whether an engine is back.
PROBE_SECONDS = 1.0
# How long a stop waits for Kafka to take the last offsets.
LEAVE_SECONDS = 7.0

Place = tuple[str, int]


class Consumer:
    """One member of a consumer group."""

    def __init__(self, group: str, *, stop: Stop, batch_size: int = BATCH_SIZE, until_idle: bool = False) -> None:
        """Raise LookupError where no handler names the group."""
        self._group, self._stop, self._batch_size, self._until_idle = group, stop, batch_size, until_idle
        self._topics = [topic_name(topic) for topic in topics_of(group)]
        self._applier = Applier(group, pause=self._pause)
        self._database = OutageLog(logger, "PostgreSQL")
        self._broker = OutageLog(logger, "Kafka")
        # Next offset to read by partition, of what was applied and is not known to be committed.
        self._applied: dict[Place, int] = {}
        # Partitions of ours that have nothing more to read; None until the group has said which are ours.
        self._ended: set[Place] | None = None
        self._paused = False
        config = consumer_config(group, self._broker.trouble)
        self._kafka = KafkaConsumer({**config, "enable.partition.eof": until_idle, "on_commit": self._on_commit})

    def run(self) -> None:
        """Apply records until stopped, or with `until_idle` until every partition of ours is read to its end.

        Blocks. Trouble of PostgreSQL and Kafka is waited out. Leaves the group before it returns.
        """
        self._kafka.subscribe(self._topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)
        try:
            while not self._stop.requested:
                records = self._receive()
                if records:
                    self._apply(records)
                elif self._until_idle and self._is_idle():
                    break
        finally:
            self._leave()
            close_old_connections()

    def _leave(self) -> None:
        """Commit and leave the group; without Kafka's answer, after LEAVE_SECONDS, leave it at that."""

        def leave() -> None:
            self._commit(self._applied)
            self._kafka.close()

        # Both block for as long as Kafka is away, and cannot be told not to.
        leaving = threading.Thread(target=leave, daemon=True)
        leaving.start()
        leaving.join(LEAVE_SECONDS)
        if leaving.is_alive():
            logger.warning("Kafka did not answer, offsets may not be committed", extra={"group": self._group})

    def _receive(self) -> list[Record]:
        """Return what is there, at least one record if one comes within POLL_SECONDS."""
        messages = self._kafka.consume(1, POLL_SECONDS)
        # consume() waits for all it was asked for, so the rest is asked for without waiting.
        if messages and self._batch_size > 1:
            messages += self._kafka.consume(self._batch_size - 1, 0)
        return [Record.from_message(message) for message in messages if self._is_record(message)]

    def _is_record(self, message: Any) -> bool:
        error = message.error()
        place = (message.topic(), message.partition())
        if error is None:
            self._broker.over()
            if self._ended is not None:
                self._ended.discard(place)
            return True
        if error.code() == KafkaError._PARTITION_EOF:
            if self._ended is not None:
                self._ended.add(place)
        elif error.fatal():
            raise KafkaException(error)
        else:
            self._broker.trouble(error)
        return False

    def _is_idle(self) -> bool:
        if self._ended is None:
            return False
        return {(part.topic, part.partition) for part in self._kafka.assignment()} <= self._ended

    def _apply(self, records: Sequence[Record]) -> None:
        while records and not self._stop.requested:
            try:
                close_old_connections()
                tally = self._applier.apply(records)
            except Stopping:
                return
            except Outage as outage:
                self._wait_out(outage)
                # Meanwhile partitions may have gone to another member, and their records with them.
                ours = {(part.topic, part.partition) for part in self._kafka.assignment()}
                records = [record for record in records if (record.topic, record.partition) in ours]
            else:
                if tally.failed:
                    logger.error("records became dead letters", extra={"group": self._group, "records": tally.failed})
                for record in records:
                    self._applied[record.topic, record.partition] = record.offset + 1
                self._commit(self._applied, wait=False)
                return

    def _pause(self, seconds: float) -> None:
        """Block between two tries of a record, of which a batch may hold many: a stop does not wait for them all."""
        self._stop.wait(seconds)
        if self._stop.requested:
            raise Stopping

    def _wait_out(self, outage: Outage) -> None:
        """Block until PostgreSQL answers, and stay a member of the group meanwhile."""
        self._paused = True
        self._kafka.pause(self._kafka.assignment())
        while not self._stop.requested:
            self._database.trouble(outage)
            message: Any = self._kafka.poll(PROBE_SECONDS)
            if message is not None and message.error() is None:
                # Delivered before the pause took hold: to be read again after it.
                self._kafka.seek(TopicPartition(message.topic(), message.partition(), message.offset()))
            if self._database_answers():
                self._database.over()
                break
        self._paused = False
        self._kafka.resume(self._kafka.assignment())

    def _database_answers(self) -> bool:
        connection = connections[router.db_for_write(InboxEvent)]
        try:
            connection.close()
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except (DatabaseError, InterfaceError):
            return False
        return True

    def _commit(self, offsets: dict[Place, int], *, wait: bool = True) -> None:
        """Commit offsets. One that gets lost costs nothing but the reading of records that the inbox knows."""
        if not offsets:
            return
        try:
            parts = [TopicPartition(topic, partition, offset) for (topic, partition), offset in offsets.items()]
            if wait:
                self._kafka.commit(offsets=parts, asynchronous=False)
            else:
                self._kafka.commit(offsets=parts)
        except KafkaException as error:
            logger.warning("offsets were not committed", extra={"group": self._group, "error": str(error)})
        if wait:
            offsets.clear()

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        if error is None:
            for part in partitions:
                if self._applied.get((part.topic, part.partition)) == part.offset:
                    del self._applied[part.topic, part.partition]

    def _on_assign(self, consumer: KafkaConsumer, partitions: list[TopicPartition]) -> None:
        self._ended = self._ended or set()
        if self._paused:
            consumer.incremental_assign(partitions)
            consumer.pause(partitions)

    def _on_revoke(self, consumer: KafkaConsumer, partitions: list[TopicPartition]) -> None:
        """Commit what was applied before the partitions go to another member."""
        self._commit(self._forget(partitions))

    def _on_lost(self, consumer: KafkaConsumer, partitions: list[TopicPartition]) -> None:
        """Drop what belongs to another member already."""
        self._forget(partitions)

    def _forget(self, partitions: list[TopicPartition]) -> dict[Place, int]:
        """Return the uncommitted offsets of partitions that are no longer ours."""
        places = {(part.topic, part.partition) for part in partitions}
        if self._ended is not None:
            self._ended -= places
        return {place: self._applied.pop(place) for place in places if place in self._applied}
