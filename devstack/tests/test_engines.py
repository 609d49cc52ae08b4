"""The embedded engines, each a real one of the test's own."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psycopg
import pytest
import redis
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from devstack import StackError, engines, ports
from devstack.output import Output
from devstack.runner import Runner
from devstack.state import State


def with_engine(folder: Path, variable: str, scenario: Callable[[Runner, engines.Engine], Awaitable[None]]) -> None:
    """Run a scenario with the one engine that this environment variable names."""

    async def bring_up() -> None:
        state = State(folder, durable=True)
        others = {name: "elsewhere" for name in engines.VARIABLES if name != variable}
        [engine] = engines.embedded(state, others)
        async with Runner(Output(state.logs, quiet=True), state.pids) as runner:
            await engines.start(runner, [engine])
            await scenario(runner, engine)

    asyncio.run(bring_up())


async def kill_and_wait(runner: Runner, engine: engines.Engine, folder: Path) -> None:
    """Kill the engine's process, and wait until the next one serves."""
    pid_file = folder / "pids" / engine.name
    old = int(pid_file.read_text())
    os.kill(old, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while not pid_file.exists() or int(pid_file.read_text() or old) == old:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    await runner.ready(engine.name, engine.answers, limit_seconds=30)


def test_postgres_comes_back_with_its_data(tmp_path: Path) -> None:
    async def scenario(runner: Runner, engine: engines.Engine) -> None:
        with psycopg.connect(engine.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        await kill_and_wait(runner, engine, tmp_path)
        with psycopg.connect(engine.url) as connection:
            assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
            assert connection.execute("SHOW fsync").fetchone() == ("on",)

    with_engine(tmp_path, "DATABASE_URL", scenario)


def test_postgres_wants_its_password(tmp_path: Path) -> None:
    async def scenario(_: Runner, engine: engines.Engine) -> None:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(engine.url, password="guessed")

    with_engine(tmp_path, "DATABASE_URL", scenario)


def test_valkey_comes_back_with_its_data(tmp_path: Path) -> None:
    async def scenario(runner: Runner, engine: engines.Engine) -> None:
        with redis.Redis.from_url(engine.url) as client:
            client.set("answer", 42)
            # Appended to the file once a second.
            client.execute_command("WAITAOF", 1, 0, 5000)
        await kill_and_wait(runner, engine, tmp_path)
        with redis.Redis.from_url(engine.url) as client:
            assert client.get("answer") == b"42"

    with_engine(tmp_path, "REDIS_URL", scenario)


def test_kafka_comes_back_with_its_data(tmp_path: Path) -> None:
    async def scenario(runner: Runner, engine: engines.Engine) -> None:
        await asyncio.to_thread(_produce, engine.url)
        await kill_and_wait(runner, engine, tmp_path)
        assert await asyncio.to_thread(_consume, engine.url) == b"42"

    with_engine(tmp_path, "KAFKA_BOOTSTRAP_SERVERS", scenario)


def _produce(servers: str) -> None:
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic("kept", 1)])["kept"].result(20)
    producer = Producer({"bootstrap.servers": servers})
    producer.produce("kept", value=b"42")
    assert producer.flush(20) == 0


def _consume(servers: str) -> bytes | None:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "reader", "auto.offset.reset": "earliest"})
    consumer.subscribe(["kept"])
    try:
        message = consumer.poll(20)
        assert message is not None
        return message.value()
    finally:
        consumer.close()


def test_ports_and_passwords_are_chosen_once(tmp_path: Path) -> None:
    first = [engine.url for engine in engines.embedded(State(tmp_path, durable=True), {})]

    assert [engine.url for engine in engines.embedded(State(tmp_path, durable=True), {})] == first


def test_starts_no_engine_whose_url_is_given(tmp_path: Path) -> None:
    given = {"DATABASE_URL": "postgresql://elsewhere/", "REDIS_URL": "redis://elsewhere/"}

    assert [engine.name for engine in engines.embedded(State(tmp_path, durable=True), given)] == ["kafka"]


def test_says_which_given_engine_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_PROBE_SECONDS", 0.5)
    nowhere = f"redis://127.0.0.1:{ports.choose(taken=set())}/0"

    with pytest.raises(StackError, match=r"^REDIS_URL is given, but nothing answers"):
        asyncio.run(engines.probe({"REDIS_URL": nowhere}))
