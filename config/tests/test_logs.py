"""The lines that are logged, as config/settings.py has them written."""

import json
import logging
import sys

import pytest
from django.conf import settings

from outbox.context import tracing


@pytest.fixture
def line():
    """Return a function that logs a line in a format, and returns what is written."""

    def write(name, message, **record):
        formatter = dict(settings.LOGGING["formatters"][name])
        made = logging.makeLogRecord({"name": "shop", "levelname": "WARNING", "msg": message, **record})
        return formatter.pop("()")(**formatter).format(made)

    return write


def test_a_line_of_json_has_message_level_logger_time_and_fields(line):
    written = json.loads(line("json", "%s is away", args=("Kafka",), group="stock", offset=7, key="a b"))

    assert written.pop("timestamp").endswith("Z")
    assert written == {
        "message": "Kafka is away", "level": "warning", "logger": "shop", "group": "stock", "offset": 7, "key": "a b",
    }  # fmt: skip


def test_a_line_of_json_is_one_line_whatever_is_in_it(line):
    try:
        raise ValueError("a\nb")
    except ValueError:
        written = line("json", "line\nbreak", exc_info=sys.exc_info(), note="x\ny", odd=object())

    assert "\n" not in written
    assert "ValueError: a\nb" in json.loads(written)["exception"]


def test_a_line_for_people_has_the_fields_behind_the_message(line):
    written = line("line", "Kafka is away", group="stock")

    assert "Kafka is away" in written
    assert "group=stock" in written


@pytest.mark.parametrize("name", ["line", "json"])
def test_a_traceback_shows_no_variables(line, name):
    def fail():
        password = "hunter2"
        raise ValueError(len(password))

    try:
        fail()
    except ValueError:
        written = line(name, "failed", exc_info=sys.exc_info())

    assert "ValueError: 7" in written
    # The source line has it; its value would stand twice.
    assert written.count("hunter2") <= 1


def test_what_is_handled_is_added_to_every_line_of_the_console():
    [console] = [handler for handler in logging.getLogger().handlers if handler.name == "console"]
    record = logging.makeLogRecord({"msg": "anything"})

    with tracing(f"00-{'a' * 32}-{'1' * 16}-01"):
        console.filter(record)

    assert record.trace_id == "a" * 32


def test_a_line_about_a_refused_request_has_its_trace(anybody, caplog):
    trace_id = "b" * 32
    [console] = [handler for handler in logging.getLogger().handlers if handler.name == "console"]

    anybody.get("/api/v1/nothing/", headers={"traceparent": f"00-{trace_id}-{'1' * 16}-01"})

    [record] = [record for record in caplog.records if record.name == "django.request"]
    console.filter(record)
    assert record.trace_id == trace_id
