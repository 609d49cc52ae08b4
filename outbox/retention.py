"""Forgetting: old weeks of the inbox, and dead letters that are solved. Run with: manage.py apply_retention

Any number may run at once, next to working consumers; only one of them works. Nothing breaks when it is not run for
long: events of weeks that have no partition yet go to the default partition.
"""

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from confluent_kafka.admin import ConfigResource
from django.db import DatabaseError, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.utils import timezone
from psycopg import errors

from outbox import conf
from outbox.events import DAY_MS, Topic
from outbox.kafka import admin_client, topic_name
from outbox.models import InboxEvent
from outbox.registry import groups, topics_of

logger = logging.getLogger(__name__)

WEEK = timedelta(weeks=1)
# How many weeks have a partition before they begin.
WEEKS_AHEAD = 8
# How far the clocks of two machines may be apart: a consumer must not take an event for new enough when its entry in
# the inbox is gone already.
CLOCK_SLACK = timedelta(hours=1)
# How long adding or dropping a partition waits for the consumers, which wait behind it meanwhile; how often it tries,
# and the pause between two tries.
LOCK_SECONDS, TRIES, PAUSE_SECONDS = 1.0, 5, 2.0
# Rows that one statement deletes at most.
BATCH_SIZE = 5_000
# The key of the advisory lock of who applies the retention ("rete" in ASCII).
LOCK = 0x72657465

PARTITIONS = """
    SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = 'outbox_inboxevent'::regclass ORDER BY relname
"""
# Page by page along the primary key, so that no page goes over the rows that the pages before it deleted.
PAGE = """
    SELECT event_id, consumer_group,
           -- A UUIDv7 says when its event was made: that, not when it was applied, tells whether it is too old to come.
           applied_at < %(before)s AND (event_id < %(lowest)s OR substr(event_id::text, 15, 1) <> '7') AS is_old
    FROM outbox_inboxevent_default
    WHERE (event_id, consumer_group) > (%(event_id)s, %(group)s)
    ORDER BY event_id, consumer_group LIMIT %(limit)s
"""
FORGET = """
    DELETE FROM outbox_inboxevent_default AS entry
    USING unnest(%s::uuid[], %s::text[]) AS old (event_id, consumer_group)
    WHERE entry.event_id = old.event_id AND entry.consumer_group = old.consumer_group
"""
FORGET_LETTERS = """
    DELETE FROM failed_messages WHERE id IN (
        SELECT id FROM failed_messages
        WHERE id > %(id)s AND status IN ('PROCESSED', 'DISCARDED') AND coalesce(processed_at, created_at) < %(before)s
        ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ) RETURNING id
"""
NOTE = """
    INSERT INTO outbox_consumergroup (name, forgotten_before) SELECT unnest(%s::text[]), %s
    ON CONFLICT (name) DO UPDATE
    SET forgotten_before = greatest(outbox_consumergroup.forgotten_before, excluded.forgotten_before)
"""


@dataclass
class Forgotten:
    """What a run did.

    What could not be added or dropped is `waiting`: it was in use, or its events are in the default partition already.
    """

    added: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    # Rows of the default partition, and letters.
    entries: int = 0
    letters: int = 0


def apply(*, now: datetime | None = None) -> Forgotten | None:
    """Add the inbox's coming weeks, drop those that it need not remember, and delete solved dead letters that are old.

    Returns None where another one is at it. Blocks for as long as the deleting takes. Consumers go on meanwhile, but
    for LOCK_SECONDS at most, a few times.
    """
    now = (now or timezone.now()).astimezone(UTC)
    forgotten = Forgotten()
    with _alone() as alone:
        if not alone:
            return None
        _add_weeks(now, forgotten)
        _drop_weeks(now - timedelta(days=conf.get("INBOX_RETENTION_DAYS")) - CLOCK_SLACK, forgotten)
        _forget_letters(now - timedelta(days=conf.get("FAILED_RETENTION_DAYS")), forgotten)
    logger.info(
        "retention was applied",
        extra={
            "partitions_added": len(forgotten.added),
            "partitions_dropped": len(forgotten.dropped),
            "partitions_waiting": len(forgotten.waiting),
            "entries": forgotten.entries,
            "letters": forgotten.letters,
        },
    )
    return forgotten


def remembered_too_short(topic: Topic) -> bool:
    """Return whether a topic is declared to keep records for longer than the inbox remembers them."""
    return _longer_than_the_inbox(topic.retention_ms, topic.cleanup_policy)


def kept_longer() -> list[tuple[str, int]]:
    """Return the consumed topics that Kafka keeps for longer than the inbox remembers, with the ms (-1: for ever).

    Raises:
        KafkaException: Kafka did not answer within 5 s, or refused.
    """
    client = admin_client()
    known = client.list_topics(timeout=5).topics
    names = {topic_name(topic) for group in groups() for topic in topics_of(group)} & known.keys()
    resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in sorted(names)]
    if not resources:
        return []
    found = []
    for resource, future in client.describe_configs(resources, request_timeout=5).items():
        config = future.result()
        retention_ms = int(config["retention.ms"].value)
        if _longer_than_the_inbox(retention_ms, config["cleanup.policy"].value):
            found.append((resource.name, retention_ms if "delete" in config["cleanup.policy"].value else -1))
    return sorted(found)


def lowest_id(moment: datetime) -> UUID:
    """Return the lowest UUIDv7 of a moment: in its first 48 bits are the milliseconds since 1970 (RFC 9562)."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


def _longer_than_the_inbox(retention_ms: int, cleanup_policy: str) -> bool:
    for_ever = retention_ms < 0 or "delete" not in cleanup_policy
    return for_ever or retention_ms > conf.get("INBOX_RETENTION_DAYS") * DAY_MS


@contextmanager
def _alone() -> Iterator[bool]:
    """Hold the lock of who applies the retention; give whether it was free."""
    with _connection().cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,))
        (alone,) = cursor.fetchone()
        try:
            yield alone
        finally:
            if alone:
                cursor.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))


def _add_weeks(now: datetime, forgotten: Forgotten) -> None:
    existing = _partitions()
    this_week = datetime(now.year, now.month, now.day, tzinfo=UTC) - timedelta(days=now.weekday())
    for number in range(WEEKS_AHEAD + 1):
        week = this_week + number * WEEK
        name = f"outbox_inboxevent_{week:%Y%m%d}"
        if name not in existing:
            done = not _has_rows_in_default(week) and _while_consumers_let(partial(_add, name=name, week=week))
            (forgotten.added if done else forgotten.waiting).append(name)


def _add(cursor: CursorWrapper, name: str, week: datetime) -> None:
    # Made apart and attached, which locks only the default partition against the consumers, not the whole table.
    cursor.execute(f"CREATE TABLE {name} (LIKE outbox_inboxevent INCLUDING ALL)")
    cursor.execute(
        f"ALTER TABLE outbox_inboxevent ATTACH PARTITION {name} FOR VALUES FROM ('{lowest_id(week)}') TO "
        f"('{lowest_id(week + WEEK)}')"
    )


def _has_rows_in_default(week: datetime) -> bool:
    """Return whether a week came before its partition: then it stays in the default one until it is forgotten."""
    with _connection().cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM outbox_inboxevent_default WHERE event_id >= %s AND event_id < %s)",
            (lowest_id(week), lowest_id(week + WEEK)),
        )
        (exists,) = cursor.fetchone()
    return bool(exists)


def _drop_weeks(before: datetime, forgotten: Forgotten) -> None:
    for name, week in _partitions().items():
        if week + WEEK <= before:
            with _connection().cursor() as cursor:
                cursor.execute(f"SELECT DISTINCT consumer_group FROM {name}")
                _note(cursor, [group for (group,) in cursor.fetchall()], week + WEEK)
            done = _while_consumers_let(partial(_drop, name=name))
            (forgotten.dropped if done else forgotten.waiting).append(name)
    _forget_in_default(before, forgotten)


def _drop(cursor: CursorWrapper, name: str) -> None:
    # Not DETACH … CONCURRENTLY, which PostgreSQL refuses where there is a default partition.
    cursor.execute(f"DROP TABLE {name}")


def _forget_in_default(before: datetime, forgotten: Forgotten) -> None:
    event_id, group = UUID(int=0), ""
    fixed: dict[str, Any] = {"before": before, "lowest": lowest_id(before), "limit": BATCH_SIZE}
    with _connection().cursor() as cursor:
        while True:
            cursor.execute(PAGE, {**fixed, "event_id": event_id, "group": group})
            page = cursor.fetchall()
            if not page:
                return
            event_id, group, _ = page[-1]
            if old := [(an_id, a_group) for an_id, a_group, is_old in page if is_old]:
                ids, of_groups = zip(*old, strict=True)
                _note(cursor, of_groups, before)
                cursor.execute(FORGET, (list(ids), list(of_groups)))
                forgotten.entries += len(old)


def _note(cursor: CursorWrapper, of_groups: Iterable[str], before: datetime) -> None:
    """Write down that entries of these groups are going to be forgotten.

    Before it is done, and in a transaction of its own: a batch or a rewind that holds a group's row may be about to
    write to the inbox.
    """
    if names := sorted(set(of_groups)):
        cursor.execute(NOTE, (names, before))


def _forget_letters(before: datetime, forgotten: Forgotten) -> None:
    last = 0
    while True:
        with _connection().cursor() as cursor:
            cursor.execute(FORGET_LETTERS, {"id": last, "before": before, "limit": BATCH_SIZE})
            gone = [letter_id for (letter_id,) in cursor.fetchall()]
        if not gone:
            return
        forgotten.letters += len(gone)
        last = max(gone)


def _partitions() -> dict[str, datetime]:
    """Return the first moment of each week that has a partition, by the partition's name."""
    with _connection().cursor() as cursor:
        cursor.execute(PARTITIONS)
        names = [name for (name,) in cursor.fetchall() if re.fullmatch(r"outbox_inboxevent_\d{8}", name)]
    return {name: datetime.strptime(name[-8:], "%Y%m%d").replace(tzinfo=UTC) for name in names}


def _while_consumers_let(change: Callable[[CursorWrapper], None]) -> bool:
    """Make a change that needs the consumers to stand aside. Return whether it was made, in one of the tries."""
    for number in range(TRIES):
        if number:
            time.sleep(PAUSE_SECONDS)
        try:
            with transaction.atomic(using=_connection().alias), _connection().cursor() as cursor:
                cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS:g}s'")
                change(cursor)
            return True
        except DatabaseError as error:
            if isinstance(error.__cause__, errors.CheckViolation):
                # Events of the week came to the default partition just now.
                return False
            if not isinstance(error.__cause__, errors.LockNotAvailable | errors.DeadlockDetected):
                raise
    return False


def _connection() -> BaseDatabaseWrapper:
    return connections[router.db_for_write(InboxEvent)]
