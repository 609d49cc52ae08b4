"""create_topics: what is missing is made as the code declares it; what differs is told, and left alone."""

from io import StringIO

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions
from django.core.management import CommandError, call_command

from outbox.kafka import admin_client, topic_name
from outbox.tests.processes import wait_until
from outbox.tests.sample import SMALL, THING
from outbox.topics import create_topics


def config_of(name: str) -> dict[str, str]:
    resource = ConfigResource(ConfigResource.Type.TOPIC, name)
    client = admin_client()
    return {key: entry.value for key, entry in client.describe_configs([resource])[resource].result().items()}


def say() -> str:
    out = StringIO()
    call_command("create_topics", stdout=out)
    return out.getvalue()


def test_topics_have_the_declared_partitions_retention_and_size(kafka, prefix):
    topics = admin_client().list_topics(timeout=10).topics

    assert len(topics[topic_name(THING)].partitions) == THING.partitions
    assert config_of(f"{prefix}sample-dlq")["max.message.bytes"] == "4000000"
    assert config_of(topic_name(THING))["retention.ms"] == str(7 * 24 * 60 * 60 * 1000)
    assert config_of(topic_name(THING))["cleanup.policy"] == "delete"


def test_each_group_has_a_topic_for_its_dead_letters(kafka, prefix):
    assert f"{prefix}sample-dlq" in admin_client().list_topics(timeout=10).topics


def test_a_second_call_finds_nothing_to_do(kafka):
    assert create_topics() == ([], [])
    assert say() == "all topics are as declared\n"


def test_a_difference_is_told_and_left_alone(kafka):
    client = admin_client()
    client.create_partitions([NewPartitions(topic_name(THING), 5)])[topic_name(THING)].result()
    change = ConfigResource(
        ConfigResource.Type.TOPIC,
        topic_name(SMALL),
        incremental_configs=[ConfigEntry("retention.ms", "1000", incremental_operation=AlterConfigOpType.SET)],
    )
    client.incremental_alter_configs([change])[change].result()
    # Kafka tells of what it has changed a moment later.
    wait_until(lambda: len(create_topics()[1]) == 2)

    said = say()

    assert f"differs {topic_name(THING)}: partitions is 5, declared 3" in said
    assert f"differs {topic_name(SMALL)}: retention.ms is 1000, declared" in said
    assert config_of(topic_name(SMALL))["retention.ms"] == "1000"


def test_says_in_one_line_that_kafka_does_not_answer(settings, monkeypatch):
    settings.OUTBOX = {**settings.OUTBOX, "KAFKA": {"bootstrap.servers": "127.0.0.1:1"}}
    monkeypatch.setattr("outbox.topics.TIMEOUT_SECONDS", 0.5)

    with pytest.raises(CommandError, match=r"^Kafka: "):
        say()
