"""Where the benchmark runs: a database, topics and keys of its own, on the engines of the settings.

What was made is deleted at the end, whatever ended it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg.errors
import redis
from confluent_kafka.admin import AdminClient
from django.conf import settings
from django.core.management import call_command
from django.db import ProgrammingError, connection
from django.db.backends.base.base import BaseDatabaseWrapper

from coupons.benchmark.trouble import Trouble
from outbox.kafka import admin_client
from outbox.topics import create_topics

TIMEOUT_SECONDS = 15.0
# How long an engine may take to say that it is there.
PROBE_SECONDS = 5.0
DELETED_AT_ONCE = 1_000


@dataclass(frozen=True)
class Place:
    """An installation: the name of its database, and what stands before its names in Kafka and Redis."""

    database: str
    prefix: str

    @property
    def environment(self) -> dict[str, str]:
        """What a process that works here finds in its environment."""
        url = urlsplit(settings.DATABASE_URL)._replace(path=f"/{self.database}").geturl()
        return {"DATABASE_URL": url, "KAFKA_PREFIX": self.prefix}


def probe() -> None:
    """Check that all engines answer.

    Raises:
        OperationalError: PostgreSQL does not.
        KafkaException: Kafka does not.
        redis.RedisError: Redis does not.
    """
    connection.ensure_connection()
    admin_client().list_topics(timeout=PROBE_SECONDS)
    _redis().ping()


@contextmanager
def migrated() -> Iterator[Place]:
    """Give a place that has all tables, to be filled and copied.

    Raises:
        Trouble: the role of DATABASE_URL may not create databases.
    """
    name = f"bench_{uuid4().hex[:8]}"
    with _database(name):
        place = Place(name, f"{name}.")
        with inside(place):
            call_command("migrate", verbosity=0)
        yield place


@contextmanager
def copied(model: Place, name: str) -> Iterator[Place]:
    """Give a place with topics, and a copy of the model's database, in which this process works until the end."""
    place = Place(f"{model.database}_{name}", f"{model.database}_{name}.")
    with _database(place.database, template=model.database), inside(place), _names(place):
        create_topics()
        yield place


@contextmanager
def inside(place: Place) -> Iterator[None]:
    """Let this process work in a place until the end."""
    before = connection.settings_dict["NAME"], settings.OUTBOX["PREFIX"], settings.REDIS_PREFIX
    _work_in(place.database, place.prefix, place.prefix)
    try:
        yield
    finally:
        _work_in(*before)


def _work_in(database: str, kafka_prefix: str, redis_prefix: str) -> None:
    # As long as somebody is connected to a database, it cannot be copied.
    connection.close()
    connection.settings_dict["NAME"] = database
    settings.OUTBOX["PREFIX"], settings.REDIS_PREFIX = kafka_prefix, redis_prefix


@contextmanager
def _database(name: str, *, template: str = "template1") -> Iterator[None]:
    """Create a database beside the one in which this process works, and drop it at the end."""
    server = connection.copy()
    quote = server.ops.quote_name
    _run(server, f"CREATE DATABASE {quote(name)} TEMPLATE {quote(template)}")
    try:
        yield
    finally:
        _run(server, f"DROP DATABASE {quote(name)} WITH (FORCE)")


def _run(server: BaseDatabaseWrapper, statement: str) -> None:
    try:
        with server.cursor() as cursor:
            cursor.execute(statement)
    except ProgrammingError as error:
        if not isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
            raise
        raise Trouble(f"PostgreSQL: {error.__cause__.diag.message_primary}: it takes a role with CREATEDB") from error
    finally:
        server.close()


@contextmanager
def _names(place: Place) -> Iterator[None]:
    """Delete at the end what begins with the place's prefix, in Kafka and in Redis."""
    try:
        yield
    finally:
        try:
            _empty_kafka(admin_client(), place.prefix)
        finally:
            _empty_redis(_redis(), place.prefix)


def _empty_kafka(client: AdminClient, prefix: str) -> None:
    groups = [group.group_id for group in client.list_consumer_groups(request_timeout=TIMEOUT_SECONDS).result().valid]
    delete_groups = partial(client.delete_consumer_groups, request_timeout=TIMEOUT_SECONDS)
    delete_topics = partial(client.delete_topics, operation_timeout=TIMEOUT_SECONDS)
    for delete, names in (
        (delete_groups, groups),
        (delete_topics, list(client.list_topics(timeout=TIMEOUT_SECONDS).topics)),
    ):
        if ours := [name for name in names if name.startswith(prefix)]:
            for deleted in delete(ours).values():
                deleted.result()


def _empty_redis(client: redis.Redis, prefix: str) -> None:
    keys = list(client.scan_iter(match=f"{prefix}*", count=DELETED_AT_ONCE))
    for begin in range(0, len(keys), DELETED_AT_ONCE):
        client.delete(*keys[begin : begin + DELETED_AT_ONCE])


def _redis() -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_connect_timeout=PROBE_SECONDS, socket_timeout=TIMEOUT_SECONDS
    )
