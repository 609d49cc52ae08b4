"""The engines of a stack: those whose URL the environment gives are only probed, the others are brought up."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from devstack import StackError, kafka, postgres, valkey
from devstack.kafka import Kafka
from devstack.postgres import Postgres
from devstack.runner import Runner, Service
from devstack.state import State
from devstack.valkey import Valkey

_PROBE_SECONDS = 15.0
_START_SECONDS = 60.0


class Engine(Protocol):
    """What the three have in common."""

    name: str
    variable: str

    @property
    def leftovers(self) -> Sequence[Path]:
        """Folders outside the state folder, to be deleted with a throw-away engine."""

    @property
    def url(self) -> str: ...

    async def create(self, runner: Runner) -> None: ...

    def service(self) -> Service: ...

    async def answers(self) -> bool: ...


_KINDS: tuple[Callable[[State], Engine], ...] = (Postgres, Kafka, Valkey)
VARIABLES = (Postgres.variable, Kafka.variable, Valkey.variable)


def embedded(state: State, environment: Mapping[str, str]) -> list[Engine]:
    """Return the engines for which the environment gives no URL, not started yet."""
    missing = [kind for kind, variable in zip(_KINDS, VARIABLES, strict=True) if not environment.get(variable)]
    return [kind(state) for kind in missing]


async def start(runner: Runner, engines: Sequence[Engine]) -> dict[str, str]:
    """Bring them up at the same time, and return their URLs by variable once all of them serve."""
    await all_of(*(_start(runner, engine) for engine in engines))
    return {engine.variable: engine.url for engine in engines}


async def all_of(*parts: Coroutine[Any, Any, object]) -> None:
    """Do these at the same time; the first one that fails cancels the others, and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(part)
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def probe(environment: Mapping[str, str]) -> None:
    """Wait for the engines whose URLs are given; raises StackError when one does not answer within 15 s."""
    checks: dict[str, Callable[[str], bool]] = {
        Postgres.variable: postgres.answers,
        Kafka.variable: lambda servers: kafka.answers(servers, environment.get("KAFKA_SECURITY", "")),
        Valkey.variable: valkey.answers,
    }
    given = {variable: environment[variable] for variable in VARIABLES if environment.get(variable)}
    deadline = time.monotonic() + _PROBE_SECONDS
    for variable, url in given.items():
        while not await asyncio.to_thread(checks[variable], url):
            if time.monotonic() > deadline:
                raise StackError(f"{variable} is given, but nothing answers there within {_PROBE_SECONDS:.0f} s")
            await asyncio.sleep(0.2)


async def _start(runner: Runner, engine: Engine) -> None:
    await engine.create(runner)
    runner.keep(engine.service())
    await runner.ready(engine.name, engine.answers, limit_seconds=_START_SECONDS)
