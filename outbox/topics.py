"""The topics that the code declares, held against those that Kafka has. Run with: manage.py create_topics"""

from collections.abc import Iterable
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from outbox import conf
from outbox.events import Topic, event_classes
from outbox.kafka import admin_client, dead_letter_topic, topic_name
from outbox.registry import groups

TIMEOUT_SECONDS = 15.0


@dataclass(frozen=True)
class Difference:
    """Where a topic in Kafka is not as the code declares it. It is for a person to change one or the other."""

    topic: str
    setting: str
    declared: str
    actual: str


def declared_topics() -> list[Topic]:
    """Return every topic that an event class or a consumer group of this project needs, by name."""
    topics = {cls.topic for cls in event_classes} | {dead_letter_topic(group) for group in groups()}
    return sorted(topics, key=lambda topic: topic.name)


def create_topics() -> tuple[list[str], list[Difference]]:
    """Create the declared topics that are missing. Return their names, and how existing ones differ.

    Raises:
        KafkaException: Kafka did not answer within 15 s, or refused.
    """
    client = admin_client()
    existing = client.list_topics(timeout=TIMEOUT_SECONDS).topics
    missing = [topic for topic in declared_topics() if topic_name(topic) not in existing]
    created = _create(client, missing)
    present = [topic for topic in declared_topics() if topic not in missing]
    partitions = {topic: len(existing[topic_name(topic)].partitions) for topic in present}
    return created, [*_partition_differences(partitions), *_config_differences(client, present)]


def config_of(topic: Topic) -> dict[str, str]:
    """Return the topic-level settings that the code declares."""
    config = {"retention.ms": str(topic.retention_ms), "cleanup.policy": topic.cleanup_policy}
    if topic.max_message_bytes is not None:
        config["max.message.bytes"] = str(topic.max_message_bytes)
    return config


def _create(client: AdminClient, topics: Iterable[Topic]) -> list[str]:
    new = [
        NewTopic(topic_name(topic), topic.partitions, conf.get("REPLICATION_FACTOR"), config=config_of(topic))
        for topic in topics
    ]
    created = []
    for name, future in client.create_topics(new, operation_timeout=TIMEOUT_SECONDS).items() if new else ():
        try:
            future.result()
            created.append(name)
        except KafkaException as error:
            # Another create_topics was quicker.
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    return created


def _partition_differences(partitions: dict[Topic, int]) -> list[Difference]:
    return [
        Difference(topic_name(topic), "partitions", str(topic.partitions), str(actual))
        for topic, actual in partitions.items()
        if actual != topic.partitions
    ]


def _config_differences(client: AdminClient, topics: Iterable[Topic]) -> list[Difference]:
    resources = {ConfigResource(ConfigResource.Type.TOPIC, topic_name(topic)): topic for topic in topics}
    if not resources:
        return []
    differences = []
    for resource, future in client.describe_configs(list(resources), request_timeout=TIMEOUT_SECONDS).items():
        actual = future.result()
        topic = resources[resource]
        differences += [
            Difference(topic_name(topic), name, declared, actual[name].value)
            for name, declared in config_of(topic).items()
            if actual[name].value != declared
        ]
    return differences
