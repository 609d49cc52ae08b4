"""What a person can misconfigure is said by name before anything runs."""

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from outbox.checks import check_database, check_settings, check_topics
from outbox.events import DAY_MS, Event, EventMeta, Topic, event_classes
from outbox.kafka import dead_letter_topic, topic_name
from outbox.tests.processes import running
from outbox.tests.sample import THING


def found(settings, **outbox):
    settings.OUTBOX = {**settings.OUTBOX, **outbox}
    return [(message.id, message.msg) for message in check_settings()]


def test_the_projects_own_settings_are_in_order(settings):
    assert found(settings) == []


def test_kafka_must_be_named(settings):
    assert [number for number, _ in found(settings, KAFKA={})] == ["outbox.E001"]


@pytest.mark.parametrize("name", ["acks", "enable.idempotence", "message.timeout.ms", "partitioner"])
def test_what_order_rests_on_cannot_be_set_for_the_relay(settings, name):
    ((number, text),) = found(settings, PRODUCER={name: "0"})
    assert number == "outbox.E002"
    assert name in text


@pytest.mark.parametrize("name", ["group.id", "enable.auto.commit", "auto.offset.reset"])
def test_what_applying_once_rests_on_cannot_be_set_for_consumers(settings, name):
    ((number, text),) = found(settings, CONSUMER={name: "0"})
    assert number == "outbox.E003"
    assert name in text


def test_an_unknown_group_is_refused_with_the_names_of_those_there_are():
    with pytest.raises(CommandError, match=r"no consumer group 'stokc'; there are .*stock"):
        call_command("run_consumer", "stokc")


@pytest.mark.parametrize("size", ["0", "-1", "x", "1.5", "²"])
def test_a_batch_size_must_be_a_whole_number_above_zero(size):
    with pytest.raises(CommandError, match="not a whole number above zero"):
        call_command("run_consumer", "stock", "--batch-size", size)


def test_a_setting_that_nobody_knows_is_refused_with_the_one_that_was_meant(settings):
    settings.OUTBOX = {**settings.OUTBOX, "INBOX_RETENTION_DAY": 30}
    (message,) = check_settings()
    assert message.id == "outbox.E004"
    assert message.hint == "Did you mean INBOX_RETENTION_DAYS?"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RETRY_SECONDS", 0),
        ("RETRY_SECONDS", "30"),
        ("RETRY_LIMIT", -1),
        ("ALARM_SECONDS", 0),
        ("ALARM_SECONDS", True),
        ("INBOX_RETENTION_DAYS", 0),
        ("INBOX_RETENTION_DAYS", 10**9),
        ("FAILED_RETENTION_DAYS", -3),
        ("REPLICATION_FACTOR", 0),
        ("MAX_EVENT_BYTES", None),
        ("NOTIFY_INTERVAL_MS", -1),
    ],
)
def test_a_number_must_be_one_that_makes_sense(settings, name, value):
    ((number, text),) = found(settings, **{name: value})
    assert number == "outbox.E005"
    assert name in text
    assert check_topics() == []


@pytest.mark.parametrize("setting", ["KAFKA", "PRODUCER", "CONSUMER"])
def test_properties_must_be_such_as_the_kafka_client_takes(settings, setting):
    wrong = {**settings.OUTBOX.get(setting, {}), "no.such.property": "x"}
    messages = found(settings, **{setting: wrong})
    assert {number for number, _ in messages} == {"outbox.E006"}
    assert all("no.such.property" in text for _, text in messages)


@pytest.mark.parametrize("prefix", ["a b", "ä", "a/b", "x" * 240])
def test_names_of_topics_must_be_such_as_kafka_takes(settings, prefix):
    assert [number for number, _ in found(settings, PREFIX=prefix)] == ["outbox.E007"]


def test_what_publish_takes_must_fit_the_producer(settings):
    assert [number for number, _ in found(settings, MAX_EVENT_BYTES=5_000_000)] == ["outbox.E008"]
    assert found(settings, MAX_EVENT_BYTES=5_000_000, PRODUCER={"message.max.bytes": "6000000"}) == []


def test_a_foreign_dead_letter_topic_must_not_be_one_of_ours(settings):
    ((number, _),) = found(settings, FOREIGN_DEAD_LETTER_TOPICS={topic_name(THING): "sample"})
    assert number == "outbox.E009"
    ((number, _),) = found(settings, FOREIGN_DEAD_LETTER_TOPICS={topic_name(dead_letter_topic("sample")): "sample"})
    assert number == "outbox.E009"


def test_a_foreign_dead_letter_topic_must_be_for_a_group_that_there_is(settings):
    assert found(settings, FOREIGN_DEAD_LETTER_TOPICS={"theirs": "sample"}) == []
    ((number, text),) = found(settings, FOREIGN_DEAD_LETTER_TOPICS={"theirs": "smaple"})
    assert number == "outbox.E010"
    assert "smaple" in text


@pytest.fixture
def declared():
    """Return a function that lets the project declare topics beside its own, and lists what is wrong with them."""
    before = len(event_classes)

    def check(*topics):
        for number, topic in enumerate(topics):
            EventMeta("Declared", (Event,), {"__annotations__": {"id": str}}, topic=topic, type=f"d.{number}", key="id")
        return [message.id for message in check_topics() if topics[0].name in message.msg]

    yield check
    del event_classes[before:]


@pytest.mark.parametrize(
    "topic",
    [
        Topic("declared", retention_ms=31 * DAY_MS),
        Topic("declared", retention_ms=-1),
        Topic("declared", cleanup_policy="compact"),
    ],
)
def test_no_topic_keeps_events_for_longer_than_the_inbox_remembers_them(declared, topic):
    assert declared(topic) == ["outbox.E012"]


def test_a_topic_may_keep_events_for_as_long_as_the_inbox(declared, settings):
    settings.OUTBOX = {**settings.OUTBOX, "INBOX_RETENTION_DAYS": 31}
    assert declared(Topic("declared", retention_ms=31 * DAY_MS, cleanup_policy="compact,delete")) == []


def test_a_topic_is_declared_once(declared):
    assert declared(Topic("declared", partitions=3), Topic("declared", partitions=6)) == ["outbox.E011"]


def test_the_outbox_must_be_in_postgresql(settings, monkeypatch):
    assert check_database() == []
    monkeypatch.setattr(connection, "vendor", "sqlite")
    assert [message.id for message in check_database()] == ["outbox.E013"]


def test_every_command_runs_the_checks_first(db):
    with running("check", FOREIGN_DEAD_LETTER_TOPICS="theirs=nobody") as command:
        assert command.wait(60) == 1
    with running("check") as command:
        assert command.wait(60) == 0
