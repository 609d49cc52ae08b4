"""When an event was published, which only its record in Kafka tells."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, KafkaError, KafkaException, TopicPartition

from outbox.events import Unreadable, read_envelope
from outbox.watching.gauges import Question
from outbox.watching.lag import reader_config

# How long a page waits for Kafka.
WAIT_SECONDS = 2.0


@dataclass(frozen=True)
class Published:
    """What Kafka tells of an event's record."""

    # None: it does not hold the record any more.
    at: datetime | None
    # By the clock of the broker, when it took the record (LogAppendTime); else by that of the relay, when it handed the
    # record to its producer (CreateTime).
    by_broker: bool = False


def published(event_id: UUID, topic: str, partition: int, offset: int) -> Published | None:
    """Return what Kafka tells of an event's record; None where it does not answer within WAIT_SECONDS."""
    return Question(lambda: _read(event_id, TopicPartition(topic, partition, offset))).ask(WAIT_SECONDS)


def _read(event_id: UUID, place: TopicPartition) -> Published:
    """Raise KafkaException or TimeoutError where Kafka does not answer."""
    consumer = Consumer(reader_config())
    try:
        topic = consumer.list_topics(place.topic, timeout=WAIT_SECONDS).topics[place.topic]
        if topic.error is not None and topic.error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise KafkaException(topic.error)
        if place.partition not in topic.partitions:
            return Published(None)
        consumer.assign([place])
        message = consumer.poll(WAIT_SECONDS)
        if message is None:
            raise TimeoutError
        error = message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            raise KafkaException(error)
        # Where the record is gone, Kafka shows the next one, or the end; a topic made anew holds another at its place.
        if error is not None or message.offset() != place.offset or _event_id(message.value()) != event_id:
            return Published(None)
        kind, milliseconds = message.timestamp()
        return Published(datetime.fromtimestamp(milliseconds / 1000, UTC), kind == TIMESTAMP_LOG_APPEND_TIME)
    finally:
        consumer.close()


def _event_id(value: bytes | None) -> UUID | None:
    try:
        return read_envelope(value).event_id
    except Unreadable:
        return None
