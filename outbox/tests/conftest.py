"""Fixtures: a topic and a consumer group of their own, on the real engines."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from confluent_kafka import Consumer as KafkaConsumer
from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource
from django.db import connection

from outbox import conf
from outbox.kafka import admin_client, consumer_config, topic_name
from outbox.tests import sample, shown
from outbox.tests.processes import wait_until
from outbox.tests.sample import SMALL, SMALL_BYTES
from outbox.topics import create_topics, declared_topics


@pytest.fixture(autouse=True)
def effects(db):
    """What the sample handlers wrote, in order: (subject, number) rows."""
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS sample_effect")
        cursor.execute("CREATE TABLE sample_effect (id bigserial, subject text, number int, CHECK (number < 1000))")
    sample.calls.clear()
    sample.broken.clear()

    def rows() -> list[tuple]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT subject, number FROM sample_effect ORDER BY id")
            return cursor.fetchall()

    return rows


@pytest.fixture
def projection(db):
    """What the projection shows, in order: (subject, number) rows."""
    shown.make_table()
    shown.delays.clear()
    return shown.shown


@pytest.fixture
def prefix(settings) -> str:
    """An installation of its own in Kafka: nothing that other tests, or a stack beside them, would meet."""
    prefix = f"test-{uuid4().hex[:8]}."
    settings.OUTBOX = {**settings.OUTBOX, "PREFIX": prefix}
    return prefix


@pytest.fixture
def kafka(prefix, transactional_db) -> Iterator["Kafka"]:
    create_topics()
    client = admin_client()
    ours = [topic_name(topic) for topic in declared_topics()]
    # The broker answers before everybody can see them.
    wait_until(lambda: set(ours) <= client.list_topics(timeout=10).topics.keys())
    yield Kafka()
    for future in client.delete_topics(ours).values():
        future.result()


def watermarks(consumer: KafkaConsumer, partition: TopicPartition) -> tuple[int, int]:
    """Return a partition's first and next offset, also of one so new that it has no leader yet."""
    for _ in range(50):
        try:
            return consumer.get_watermark_offsets(partition, timeout=10)
        except KafkaException:
            consumer.poll(0.1)
    raise AssertionError(f"{partition} has no leader")


class Kafka:
    """What a test puts into Kafka by hand, and what it finds there."""

    def __init__(self) -> None:
        # Idempotent, so that a retry does not change the order.
        self._producer = Producer({**conf.get("KAFKA"), "enable.idempotence": True})

    def put(self, topic, *records):
        """Write (key, value) or (key, value, headers) records, each to where its key belongs."""
        reports = []
        for key, value, *headers in records:
            self._producer.produce(
                topic_name(topic),
                key=key,
                value=value,
                headers=headers[0] if headers else [],
                on_delivery=lambda error, message: reports.append(error),
            )
        assert self._producer.flush(20) == 0
        assert reports == [None] * len(records)

    def shrink(self):
        """Let SMALL take SMALL_BYTES only, which nobody has declared."""
        self.configure(SMALL, "max.message.bytes", str(SMALL_BYTES))

    def configure(self, topic, name, value):
        """Give a topic another setting."""
        client = admin_client()
        setting = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        change = ConfigResource(ConfigResource.Type.TOPIC, topic_name(topic), incremental_configs=[setting])
        client.incremental_alter_configs([change])[change].result()
        # Kafka tells of what it has changed a moment later.
        wait_until(lambda: client.describe_configs([change])[change].result()[name].value == value)

    def records(self, topic):
        """Return all records of a topic: partition by partition, each in order."""
        name = topic_name(topic)
        consumer = KafkaConsumer(
            {**conf.get("KAFKA"), "group.id": f"reader-{uuid4()}", "enable.auto.commit": False, "log_level": 2}
        )
        partitions = consumer.list_topics(name, timeout=10).topics[name].partitions
        found = []
        for partition in partitions:
            low, high = watermarks(consumer, TopicPartition(name, partition))
            consumer.assign([TopicPartition(name, partition, low)])
            while low < high:
                message = consumer.poll(10)
                assert message is not None
                assert message.error() is None
                found.append(message)
                low = message.offset() + 1
        consumer.close()
        return found

    def committed(self, group: str, topic) -> int:
        """Return how many records of a topic the group has committed, over all partitions."""
        consumer = KafkaConsumer(
            {k: v for k, v in consumer_config(group, print).items() if k != "partition.assignment.strategy"}
        )
        parts = [TopicPartition(topic_name(topic), number) for number in range(topic.partitions)]
        offsets = [part.offset for part in consumer.committed(parts, timeout=10)]
        consumer.close()
        return sum(offset for offset in offsets if offset > 0)
