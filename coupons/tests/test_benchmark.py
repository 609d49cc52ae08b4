"""manage.py benchmark_coupons, as a person runs it: what it finds, and that nothing is left of it."""

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager

import psutil
import psycopg
import pytest
import redis
from django.conf import settings
from django.core.management import CommandError, call_command
from uuid_utils.compat import uuid7

from coupons.benchmark import figures
from coupons.benchmark.crew import WEB_OPTIONS
from devstack import run
from outbox.kafka import admin_client
from outbox.tests.processes import wait_until

USERS, QUANTITY = 60, 10
SUCCESS, OUT_OF_STOCK = "SUCCESS", "OUT_OF_STOCK"
LIMIT_SECONDS = 240


def benchmark(*arguments, **environment):
    """Start the command."""
    return subprocess.Popen(
        [sys.executable, "manage.py", "benchmark_coupons", *arguments],
        cwd=settings.BASE_DIR,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end_of(process):
    """Return its exit code, and what it printed."""
    try:
        printed, told = process.communicate(timeout=LIMIT_SECONDS)
    finally:
        process.kill()
    return process.returncode, printed, told


def left(told):
    """Return what is left of a run, in each of the engines: names that begin with what the run said."""
    name = re.search(r"bench_\w+", told)[0]
    with psycopg.connect(os.environ["DATABASE_URL"]) as server:
        databases = [datname for (datname,) in server.execute("SELECT datname FROM pg_database")]
    client = admin_client()
    groups = [group.group_id for group in client.list_consumer_groups().result().valid]
    keys = [key.decode() for key in redis.Redis.from_url(os.environ["REDIS_URL"]).scan_iter()]
    return [found for found in (*databases, *client.list_topics().topics, *groups, *keys) if found.startswith(name)]


def relay_of(process):
    """Return a run's relay, once it is there."""
    children = psutil.Process(process.pid).children()
    return next((child for child in children if "relay_outbox" in child.cmdline()), None)


def has_begun(process):
    """Return whether users ask already."""
    if (relay := relay_of(process)) is None:
        return False
    with psycopg.connect(relay.environ()["DATABASE_URL"]) as database:
        return database.execute("SELECT EXISTS (SELECT FROM coupons_request WHERE code = 'BENCHMARK')").fetchone()[0]


@contextmanager
def in_the_middle():
    """Give a run in the middle of its load, and all its processes."""
    # So many that the end is far.
    process = benchmark("--users", "20000", "--queue", "kafka")
    try:
        wait_until(lambda: process.poll() is not None or has_begun(process), LIMIT_SECONDS)
        yield process, psutil.Process(process.pid).children(recursive=True)
    finally:
        process.kill()


def test_the_first_get_one_by_either_queue_and_nothing_is_left(tmp_path):
    sizes = ("--users", str(USERS), "--quantity", str(QUANTITY), "--consumers", "2")
    code, printed, told = end_of(benchmark(*sizes, "--output", str(tmp_path)))

    assert code == 0, told
    assert left(told) == []
    assert re.search(r"kafka\W+redis", printed)
    assert re.search(rf"SUCCESS\W+{QUANTITY}\W+{QUANTITY}\W", printed)
    assert "█" in printed
    assert "| kafka | redis |" in (tmp_path / "results.md").read_text()
    queues = json.loads((tmp_path / "results.json").read_text())["queues"]
    assert queues.keys() == {"kafka", "redis"}
    for found in queues.values():
        outcomes, refused = Counter(found["outcomes"]), Counter(found["refused"])
        assert outcomes[SUCCESS] == QUANTITY
        assert outcomes[OUT_OF_STOCK] + refused["out_of_stock"] == USERS - QUANTITY
        assert sum(found["batch_sizes"]) == outcomes.total()
        assert found["progress"][-1] == {"at_seconds": found["final_seconds"], "answered": USERS, "final": USERS}
        assert set(found["faults"].values()) == {0}
        assert found["processor_ms_per_request"] > 0


def test_all_get_one_where_there_are_enough_and_programs_can_read_it():
    code, printed, told = end_of(benchmark("--users", "3", "--quantity", "5", "--queue", "redis", "--json"))
    assert code == 0, told
    found = json.loads(printed)["queues"]["redis"]
    assert (found["outcomes"], found["refused"], found["is_sound"]) == ({SUCCESS: 3}, {}, True)
    assert left(told) == []


def test_ctrl_c_in_the_middle_leaves_nothing():
    with in_the_middle() as (process, children):
        process.send_signal(signal.SIGINT)
        code, _, told = end_of(process)
    assert code == 130
    assert told.splitlines()[-1] == "CommandError: stopped"
    assert left(told) == []
    assert not any(child.is_running() for child in children)


def test_a_process_that_dies_ends_it_and_leaves_nothing():
    with in_the_middle() as (process, children):
        relay_of(process).kill()
        code, _, told = end_of(process)
    assert code == 1
    assert "CommandError: relay ended with -9" in told
    assert left(told) == []
    assert not any(child.is_running() for child in children)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--queue", "rabbit"], "argument --queue: 'rabbit' is not one of kafka, redis"),
        (["--users", "0"], "argument --users: '0' is not a whole number from 1 to 100,000"),
        (["--quantity", "many"], "argument --quantity: 'many' is not a whole number from 1 to 1,000,000,000"),
    ],
)
def test_says_in_a_line_what_is_wrong_with_an_argument(arguments, message):
    with pytest.raises(CommandError) as refused:
        call_command("benchmark_coupons", *arguments)
    assert str(refused.value) == f"Error: {message}"


@pytest.mark.parametrize(
    ("environment", "engine"),
    [
        ({"DATABASE_URL": "postgresql://orderbox@127.0.0.1:1/orderbox"}, "PostgreSQL"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, "Kafka"),
        ({"REDIS_URL": "redis://127.0.0.1:1/0"}, "Redis"),
    ],
)
def test_says_in_a_line_which_engine_does_not_answer(environment, engine):
    code, printed, told = end_of(benchmark(**environment))
    assert (code, printed) == (1, "")
    assert re.fullmatch(rf"CommandError: {engine}.*\n", told)


def test_says_in_a_line_that_the_role_may_not_create_databases():
    given = os.environ["DATABASE_URL"]
    with psycopg.connect(given, autocommit=True) as server:
        server.execute("DROP ROLE IF EXISTS bench_poor")
        server.execute("CREATE ROLE bench_poor LOGIN PASSWORD 'poor'")
        try:
            poor = re.sub(r"//.*@", "//bench_poor:poor@", given)
            code, printed, told = end_of(benchmark(DATABASE_URL=poor))
        finally:
            server.execute("DROP ROLE bench_poor")
    assert (code, printed) == (1, "")
    assert told == "CommandError: PostgreSQL: permission denied to create database: it takes a role with CREATEDB\n"


def test_serves_as_make_run_does():
    assert WEB_OPTIONS == run.WEB_OPTIONS


class TestWhatMustNotBe:
    def test_finds_coupons_too_many(self):
        users = [uuid7() for _ in range(4)]
        assert figures.oversold(users, 4) == 0
        assert figures.oversold(users, 3) == 1
        assert figures.oversold([*users, users[0]], 5) == 1
        assert figures.oversold([*users, users[0]], 4) == 2

    def test_finds_coupons_that_are_left(self):
        users = [uuid7() for _ in range(4)]
        assert figures.unsold(users, 5, 1) == 1
        assert figures.unsold(users, 5, 0) == 0
        assert figures.unsold(users, 4, 1) == 0

    def test_finds_who_got_one_after_another_had_come_too_late(self):
        order = [uuid7() for _ in range(5)]
        fair = dict(zip(order, [SUCCESS, "DUPLICATE_REQUEST", SUCCESS, OUT_OF_STOCK, OUT_OF_STOCK], strict=True))
        assert figures.violations(order, fair) == 0
        assert figures.violations(order, {**fair, order[4]: SUCCESS}) == 1
        assert figures.violations(order[::-1], fair) == 2
        assert figures.violations(order, dict.fromkeys(order, SUCCESS)) == 0

    def test_finds_who_was_answered_without_having_been_in_the_queue(self):
        order = [uuid7() for _ in range(2)]
        statuses = dict.fromkeys(order, SUCCESS)
        assert figures.violations(order, statuses) == 0
        assert figures.violations(order[:1], statuses) == 1
        assert figures.violations(order, {order[0]: SUCCESS}) == 0


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], [0, 0, 0, 0]),
        ([5], [5, 5, 5, 5]),
        (range(100, 0, -1), [50, 90, 99, 100]),
    ],
)
def test_percentiles_are_values_that_occur(values, expected):
    assert list(figures.percentiles(list(values)).values()) == expected
