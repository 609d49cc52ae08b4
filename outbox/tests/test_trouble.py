"""Commands that a person calls while an engine is away."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from outbox.tests.members import as_put, events
from outbox.tests.sample import THING


@contextmanager
def postgresql_away() -> Iterator[None]:
    """Let Django's connection lead to where nobody listens."""
    port = connection.settings_dict["PORT"]
    connection.close()
    connection.settings_dict["PORT"] = "1"
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["PORT"] = port


@pytest.mark.parametrize(
    "arguments",
    [
        ["apply_retention"],
        ["consumer_lag"],
        ["replay_events", "shown", "--rebuild"],
        ["retry_failed_messages"],
        ["run_consumer", "shown", "--resume"],
    ],
)
def test_a_command_says_in_one_line_that_postgresql_does_not_answer(kafka, arguments):
    # Kafka takes no record before each partition has its leader.
    kafka.put(THING, *map(as_put, events(range(20))))
    with (
        postgresql_away(),
        pytest.raises(CommandError, match=r"^PostgreSQL is unavailable, try again later: [^\n]*refused[^\n]*$"),
    ):
        call_command(*arguments)


@pytest.mark.parametrize("arguments", [["consumer_lag"], ["replay_events", "shown", "--rebuild"]])
def test_a_command_says_in_one_line_that_kafka_does_not_answer(settings, db, arguments, monkeypatch):
    monkeypatch.setattr("outbox.consuming.replaying.TIMEOUT_SECONDS", 0.5)
    settings.OUTBOX = {**settings.OUTBOX, "KAFKA": {"bootstrap.servers": "127.0.0.1:1"}}

    with pytest.raises(CommandError, match=r"^Kafka: [^\n]+$"):
        call_command(*arguments)
