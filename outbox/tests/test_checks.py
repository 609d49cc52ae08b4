"""What a person can misconfigure is said by name before anything runs."""

import pytest
from django.core.management import CommandError, call_command

from outbox.checks import check_settings


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
