"""The commands of this app as processes of their own, to be killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import connection

# The sample's events and handlers are no part of the project, so a process has to be told of them.
CALL = """
import sys, django
django.setup()
import outbox.tests.paired, outbox.tests.sample, outbox.tests.shown
from django.core.management import call_command
call_command(*sys.argv[1:])
"""


def environment() -> dict[str, str]:
    """Return the environment of a process that shares the test's database and installation in Kafka."""
    database = connection.get_connection_params()
    url = "postgresql://{user}:{password}@{host}:{port}/{dbname}".format(**{"password": "", "port": 5432, **database})
    return {
        **os.environ,
        "DATABASE_URL": url,
        "KAFKA_PREFIX": settings.OUTBOX["PREFIX"],
    }


@contextmanager
def running(*command: str, **env: str) -> Iterator[subprocess.Popen]:
    """Run a management command until the block ends; then kill what is left of it."""
    process = subprocess.Popen([sys.executable, "-c", CALL, *command], env={**environment(), **env})
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def run(*command: str) -> None:
    """Run a management command to its end, which must be a good one."""
    subprocess.run([sys.executable, "-c", CALL, *command], env=environment(), check=True, timeout=120)


def wait_until(happened: Callable[[], object], seconds: float = 30) -> None:
    """Return when something has happened; fail when it has not within that time."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.02)


def terminate(process: subprocess.Popen) -> int:
    """Ask a process to stop and return its exit code; fail when that takes longer than the 10 s that are promised."""
    process.send_signal(signal.SIGTERM)
    return process.wait(10)
