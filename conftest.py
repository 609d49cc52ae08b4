"""What tests of several apps need."""

import asyncio
import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from django.apps import apps
from django.conf import settings
from django.db import connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.state import StateApps
from knox.models import AuthToken
from rest_framework.test import APIClient

from accounts.models import User
from devstack.output import Output
from devstack.runner import Runner
from devstack.state import State
from devstack.valkey import Valkey, answers

if TYPE_CHECKING:
    from outbox.testing.delivering import Outbox

pytest_plugins = ["outbox.testing"]


def pytest_configure() -> None:
    """Let the tests ask by plain HTTP, and be patient with engines that they share, on a machine that may be laden."""
    settings.SECURE_SSL_REDIRECT = False
    settings.REDIS_TIMEOUT_SECONDS = 10.0
    # For many connections that are opened at once.
    settings.DATABASES["default"]["OPTIONS"]["connect_timeout"] = 60


@pytest.fixture(autouse=True)
def quick_passwords(settings: Any) -> None:
    """Hash passwords without the work that makes a stolen hash useless."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def own_cache(settings: Any) -> None:
    """Give each test keys of its own in Redis."""
    settings.REDIS_PREFIX = f"test-{uuid4()}"


class OwnRedis:
    """A server of one test, which may be away for a while. It comes back with its data, unless it loses all."""

    def __init__(self, folder: Path) -> None:
        state = State(folder, durable=True)
        self._valkey = Valkey(state)
        asyncio.run(self._valkey.create(Runner(Output(state.logs), state.pids)))
        self.url = self._valkey.url
        self._kept = folder / "valkey" / "appendonlydir"

    def start(self) -> None:
        service = self._valkey.service()
        self._server = subprocess.Popen(service.command, env=service.environment)
        while not answers(self.url):
            assert self._server.poll() is None
            time.sleep(0.01)

    def stop(self) -> None:
        self._server.terminate()
        self._server.wait()

    def lose_all(self) -> None:
        """Be killed, and started again with nothing of what it held."""
        self._server.kill()
        self._server.wait()
        shutil.rmtree(self._kept)
        self.start()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Be stopped until the block ends."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Take connections, but answer nothing until the block ends."""
        self._server.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._server.send_signal(signal.SIGCONT)


@pytest.fixture
def own_redis(tmp_path: Path, settings: Any) -> Iterator[OwnRedis]:
    """A Redis of the test's own, which is REDIS_URL for as long. It is not waited for longer than in earnest."""
    server = OwnRedis(tmp_path / "redis")
    server.start()
    settings.REDIS_URL, settings.REDIS_TIMEOUT_SECONDS = server.url, 0.2
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def rows(outbox: "Outbox") -> Callable[[], dict[str, list[Any]]]:
    """Return a function that lists all rows of the shop and all that was published, to compare before and after."""

    def read() -> dict[str, list[Any]]:
        labels = ("orders", "stock", "payments", "coupons", "posts")
        models = [model for label in labels for model in apps.get_app_config(label).get_models()]
        rows = {model._meta.label: list(model._default_manager.order_by("pk").values()) for model in models}
        return {**rows, "published": [event.event_id for event in outbox.events]}

    return read


@pytest.fixture
def migrate(transactional_db: None) -> Iterator[Callable[[str, str], StateApps]]:
    """Return a function that migrates an app to one of its migrations, and returns the models as they then are."""

    def run(app: str, migration: str) -> StateApps:
        MigrationExecutor(connection).migrate([(app, migration)])
        return MigrationExecutor(connection).loader.project_state([(app, migration)]).apps

    yield run
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())


@pytest.fixture
def at_once() -> Callable[..., list[Any]]:
    """Return a function that makes calls at the same time, each on a connection of its own.

    It returns what they returned, or raised, in their order.
    """

    def make(*calls: Callable[[], Any]) -> list[Any]:
        start = Barrier(len(calls))

        def one(call: Callable[[], Any]) -> Any:
            try:
                start.wait()
                return call()
            except Exception as error:
                return error
            finally:
                connection.close()

        with ThreadPoolExecutor(len(calls)) as pool:
            return list(pool.map(one, calls))

    return make


@pytest.fixture
def overtake() -> Callable[..., Any]:
    """Return a function that makes a first call in a transaction, and a second one beside it on another connection.

    The first one commits when the second has ended or waits for it. Returns what the second returned, or raised.
    """

    def run(first: Callable[[], Any], second: Callable[[], Any]) -> Any:
        def beside() -> Any:
            try:
                return second()
            except Exception as error:
                return error
            finally:
                connection.close()

        with ThreadPoolExecutor(1) as pool:
            with transaction.atomic(), connection.cursor() as cursor:
                first()
                outcome = pool.submit(beside)
                waits = False
                while not (waits or outcome.done()):
                    cursor.execute(
                        "SELECT EXISTS (SELECT FROM pg_locks WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid)))"
                    )
                    [waits] = cursor.fetchone() or [False]
            return outcome.result()

    return run


@pytest.fixture
def customer(db: None) -> User:
    return User.objects.create_user("carol", "carol@example.com", "a password of hers")


@pytest.fixture
def staff(db: None) -> User:
    return User.objects.create_user("steve", "steve@example.com", "a password of his", is_staff=True)


@pytest.fixture
def api() -> Callable[[User], APIClient]:
    """Return a function that makes a client with a token of a user."""

    def make(user: User) -> APIClient:
        client = APIClient(raise_request_exception=False)
        client.credentials(HTTP_AUTHORIZATION=f"Token {AuthToken.objects.create(user=user)[1]}")
        return client

    return make


@pytest.fixture
def anybody() -> APIClient:
    """A client without a token."""
    return APIClient(raise_request_exception=False)


@pytest.fixture
def problem() -> Callable[[Any], tuple[int, str]]:
    """Return a function that checks that an answer is a problem document, and returns its status and code."""

    def read(response: Any) -> tuple[int, str]:
        assert response["Content-Type"] == "application/problem+json", response.content
        document = json.loads(response.content)
        assert document.keys() - {"errors"} == {"type", "title", "status", "detail", "code"}
        assert document["status"] == response.status_code
        assert document["title"]
        assert document["detail"]
        return document["status"], document["code"]

    return read
