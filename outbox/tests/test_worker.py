"""Stopping a process that hangs where no signal reaches it."""

import subprocess
import sys

from outbox.tests.processes import environment, terminate

HANG = """
import django, threading
django.setup()
from outbox.worker import stop_on_signals
with stop_on_signals(deadline_seconds=0.5) as stop:
    print("ready", flush=True)
    {}
print("came to its end")
"""


def hanging(statement: str) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", HANG.format(statement)],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_process_that_hangs_in_a_call_of_c_ends_by_itself_after_the_deadline(transactional_db):
    waiting = "Consumer({'bootstrap.servers': '127.0.0.1:1', 'group.id': 'x', 'log_level': 0}).list_topics(timeout=60)"
    with hanging(f"from confluent_kafka import Consumer; {waiting}") as process:
        assert terminate(process) == 0
        assert process.stdout.read() == ""


def test_one_that_stops_in_time_comes_to_its_end(transactional_db):
    with hanging("stop.wait(60)") as process:
        assert terminate(process) == 0
        assert process.stdout.read() == "came to its end\n"
