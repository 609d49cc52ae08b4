"""In which order requests stood in a queue, as the queue itself tells, and not the processor."""

from uuid import UUID

from confluent_kafka import Consumer, TopicPartition

from coupons.benchmark.trouble import Trouble
from coupons.events import COUPON, CouponIssueRequested
from coupons.models import Request
from outbox.events import read_envelope, read_event
from outbox.kafka import consumer_config, topic_name

SILENCE_SECONDS = 15.0
READ_AT_ONCE = 10_000


def of(queue: str, code: str) -> list[UUID]:
    """Return the requests for a coupon in their queue's order."""
    return _in_kafka(code) if queue == "kafka" else _in_redis(code)


def _in_redis(code: str) -> list[UUID]:
    """By the ids that Redis gave to the stream's entries: its milliseconds, and a number."""
    decided = Request.objects.filter(code=code, queue=Request.Queue.REDIS).exclude(stream_id="")
    places = {pk: tuple(map(int, entry.split("-"))) for pk, entry in decided.values_list("pk", "stream_id")}
    return sorted(places, key=places.__getitem__)


def _in_kafka(code: str) -> list[UUID]:
    """By the offsets of their events, read from the topic; of one that is there twice, by the first."""
    consumer = Consumer(consumer_config("benchmark", lambda error: None))
    try:
        partitions = consumer.list_topics(topic_name(COUPON), timeout=SILENCE_SECONDS).topics[topic_name(COUPON)]
        found: list[UUID] = []
        # All events of a coupon are in one.
        for partition in partitions.partitions:
            found += _requests(consumer, TopicPartition(topic_name(COUPON), partition, 0), code)
        return list(dict.fromkeys(found))
    finally:
        consumer.close()


def _requests(consumer: Consumer, partition: TopicPartition, code: str) -> list[UUID]:
    _, left = consumer.get_watermark_offsets(partition, timeout=SILENCE_SECONDS)
    consumer.assign([partition])
    found = []
    while left:
        messages = consumer.consume(min(left, READ_AT_ONCE), SILENCE_SECONDS)
        if not messages:
            raise Trouble(f"Kafka: {left} records of {partition.topic} do not come")
        left -= len(messages)
        for envelope in (read_envelope(message.value()) for message in messages):
            if envelope.event_type == CouponIssueRequested.type:
                event = read_event(envelope, CouponIssueRequested)
                if event.code == code:
                    found.append(event.request_id)
    return found
