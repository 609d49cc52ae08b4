"""What is measured when somebody asks: how the tables stand, and, for /metrics, a group's lag."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

import psycopg
from confluent_kafka import KafkaException
from django.db import connections, router
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from outbox import conf
from outbox.database import connection_parameters
from outbox.models import FailedMessage, OutboxEvent
from outbox.registry import RELAY, groups
from outbox.watching.lag import GroupLag, LagReader

logger = logging.getLogger(__name__)

# How long an answer to /metrics waits for an engine that hangs.
WAIT_SECONDS = 3.0
CONNECT_SECONDS, STATEMENT_SECONDS = 2, 2
# The unpublished events are counted up to here, which takes some 10 ms; more of them are an alarm in any case.
COUNT_LIMIT = 100_000

UNPUBLISHED = "SELECT count(*) FROM (SELECT id FROM outbox_outboxevent ORDER BY id LIMIT %s) AS counted"
OLDEST_AGE = """
    SELECT extract(epoch FROM clock_timestamp() - created_at)::float8 FROM outbox_outboxevent ORDER BY id LIMIT 1
"""
LETTERS = """
    SELECT consumer_group, status, count(*) FROM failed_messages WHERE status IN ('PENDING', 'FAILED') GROUP BY 1, 2
"""
PARKED = "SELECT consumer_group, count(*), count(DISTINCT sha256(key)) FROM outbox_parkedevent GROUP BY 1"
FAILING = """
    SELECT name, halted_at, failures_in_a_row FROM outbox_consumergroup
    WHERE halted_at IS NOT NULL OR failures_in_a_row > 0
"""
# What keeps dead rows from being cleaned up, for as long as this role may see it. VACUUM's own snapshots do not.
SNAPSHOT_AGE = """
    SELECT coalesce(extract(epoch FROM clock_timestamp() - min(since)), 0)::float8
    FROM (
        SELECT coalesce(xact_start, query_start) AS since FROM pg_stat_activity
        WHERE (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL) AND pid <> pg_backend_pid()
          AND backend_type <> 'autovacuum worker' AND (datname = current_database() OR datname IS NULL)
        UNION ALL
        SELECT prepared FROM pg_prepared_xacts WHERE database = current_database()
    ) AS holders
"""


@dataclass(frozen=True)
class Standing:
    """How the tables stand. Groups of which there is nothing to tell are missing."""

    # COUNT_LIMIT: so many, or more.
    unpublished: int
    oldest_age_seconds: float
    # By (group, status).
    open_letters: dict[tuple[str, str], int]
    parked_events: dict[str, int]
    parked_keys: dict[str, int]
    halted_at: dict[str, datetime]
    failures_in_a_row: dict[str, int]
    snapshot_age_seconds: float

    @property
    def alarm(self) -> bool:
        """Whether an event waits for longer than it should."""
        return self.oldest_age_seconds > conf.get("ALARM_SECONDS")

    def open_letters_of(self, group: str) -> int:
        return sum(number for (of_group, _), number in self.open_letters.items() if of_group == group)


class Cursor(Protocol):
    """What Django's cursors and psycopg's have in common."""

    def execute(self, query: Any, params: Any = None, /) -> object: ...
    def fetchall(self) -> list[Any]: ...


def measure(cursor: Cursor) -> Standing:
    """Return how the tables stand."""

    def rows(query: str, *parameters: object) -> list[Any]:
        cursor.execute(query, parameters or None)
        return cursor.fetchall()

    parked, failing = rows(PARKED), rows(FAILING)
    return Standing(
        unpublished=rows(UNPUBLISHED, COUNT_LIMIT)[0][0],
        oldest_age_seconds=max([age for (age,) in rows(OLDEST_AGE)], default=0.0),
        open_letters={(group, status): number for group, status, number in rows(LETTERS)},
        parked_events={group: events for group, events, _ in parked},
        parked_keys={group: keys for group, _, keys in parked},
        halted_at={group: halted_at for group, halted_at, _ in failing if halted_at},
        failures_in_a_row={group: failures for group, _, failures in failing if failures},
        snapshot_age_seconds=rows(SNAPSHOT_AGE)[0][0],
    )


class Gauges:
    """The gauges that every worker serves; with `group`, the lag of that consumer group too.

    Nothing is opened before the first question; then one connection to PostgreSQL and, for the lag, clients of Kafka's
    stay open until `close`, or the end of a `with` block.
    """

    def __init__(self, *, group: str | None = None) -> None:
        self._group = group
        self._db: psycopg.Connection[Any] | None = None
        self._lag_reader: LagReader | None = None
        self._tables = Question(self._measure)
        self._lag = Question(self._read_lag)

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges; of an engine that does not answer within WAIT_SECONDS, only that it does not."""
        standing = self._tables.ask(WAIT_SECONDS)
        yield _gauge("outbox_postgresql_up", "Whether PostgreSQL answered", standing is not None)
        if standing is not None:
            yield from _gauges_of_tables(standing)
        if self._group is not None:
            lag = self._lag.ask(WAIT_SECONDS)
            yield _gauge("outbox_kafka_up", "Whether Kafka told the lag", lag is not None)
            if lag is not None:
                yield from _gauges_of_lag(lag)

    def close(self) -> None:
        self._tables.then(self._disconnect)
        self._lag.then(self._close_lag_reader)

    def __enter__(self) -> "Gauges":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _measure(self) -> Standing:
        try:
            if self._db is None:
                parameters = connection_parameters(connections[router.db_for_read(OutboxEvent)])
                self._db = psycopg.connect(**{**parameters, "connect_timeout": CONNECT_SECONDS, "autocommit": True})
            with self._db.transaction(), self._db.cursor() as cursor:
                # Over the table's pages that are empty since a backlog was sent, an index is the shorter way.
                cursor.execute(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'; SET LOCAL enable_seqscan = off")
                return measure(cursor)
        except psycopg.Error:
            self._disconnect()
            raise

    def _read_lag(self) -> GroupLag:
        assert self._group is not None
        self._lag_reader = self._lag_reader or LagReader(timeout_seconds=WAIT_SECONDS)
        [lag] = self._lag_reader.read([self._group], with_members=False)
        return lag

    def _disconnect(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _close_lag_reader(self) -> None:
        if self._lag_reader is not None:
            self._lag_reader.close()
            self._lag_reader = None


Answer = TypeVar("Answer")


class Question(Generic[Answer]):
    """A question to an engine, which may hang: asked in a thread of its own, and one at a time."""

    def __init__(self, answer: Callable[[], Answer]) -> None:
        self._answer = answer
        self._lock = threading.Lock()
        self._asked: Future[Answer] | None = None

    def ask(self, wait_seconds: float) -> Answer | None:
        """Return the answer, maybe to a question that somebody asked shortly before; None where none comes in time."""
        with self._lock:
            if self._asked is None or self._asked.done():
                self._asked = Future()
                # A daemon: what hangs does not hold up the end of the process.
                threading.Thread(target=self._run, args=(self._asked,), name="gauges", daemon=True).start()
            asked = self._asked
        try:
            return asked.result(wait_seconds)
        except (TimeoutError, psycopg.Error, KafkaException):
            # Of an engine's trouble the worker's own log tells.
            return None
        except Exception:
            logger.exception("a gauge could not be measured")
            return None

    def then(self, close: Callable[[], None]) -> None:
        """Close what the answers came from, unless it hangs."""
        with self._lock:
            if self._asked is None or self._asked.done():
                close()

    def _run(self, asked: "Future[Answer]") -> None:
        try:
            asked.set_result(self._answer())
        except Exception as error:
            asked.set_exception(error)


def _gauges_of_tables(standing: Standing) -> Iterable[Metric]:
    limit = f"{COUNT_LIMIT:,}"
    yield _gauge("outbox_unpublished_events", f"Events that wait to be sent, up to {limit}", standing.unpublished)
    yield _gauge(
        "outbox_oldest_unpublished_age_seconds", "How long the oldest of them waits", standing.oldest_age_seconds
    )
    yield _gauge("outbox_unpublished_alarm", "Whether that is longer than the alarm age", standing.alarm)
    yield _gauge(
        "outbox_oldest_snapshot_age_seconds",
        "Age of the oldest transaction that keeps dead rows from being cleaned up",
        standing.snapshot_age_seconds,
    )
    letters = GaugeMetricFamily("outbox_dead_letters", "Dead letters that are open", labels=["group", "status"])
    for group in [*groups(), RELAY]:
        for status in FailedMessage.OPEN:
            letters.add_metric([group, status], standing.open_letters.get((group, status), 0))
    yield letters
    for name, text, by_group in (
        ("outbox_parked_events", "Events that wait behind a dead letter", standing.parked_events),
        ("outbox_parked_keys", "Keys of which events wait behind a dead letter", standing.parked_keys),
        ("outbox_group_halted", "Whether a group stands still until a person resumes it", standing.halted_at),
    ):
        family = GaugeMetricFamily(name, text, labels=["group"])
        for group in groups():
            value = by_group.get(group, 0)
            family.add_metric([group], 1 if isinstance(value, datetime) else value)
        yield family


def _gauges_of_lag(lag: GroupLag) -> Iterable[Metric]:
    labels = ["group", "topic", "partition"]
    records = GaugeMetricFamily(
        "outbox_consumer_lag_records", "Records that the group has not committed", labels=labels
    )
    seconds = GaugeMetricFamily("outbox_consumer_lag_seconds", "Age of the first of them", labels=labels)
    for part in lag.partitions:
        values = [lag.group, part.topic, str(part.partition)]
        records.add_metric(values, part.records)
        if part.seconds is not None:
            seconds.add_metric(values, part.seconds)
    yield records
    yield seconds


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))
