"""How things stand, on one page: what outbox.watching measures for consumer_lag and /metrics too."""

from typing import Any

from django.db import connections, router

from outbox import conf
from outbox.admin.pages import listed
from outbox.models import FailedMessage, OutboxEvent
from outbox.registry import RELAY, groups
from outbox.watching.gauges import Question, Standing, measure
from outbox.watching.lag import GroupLag, LagReader
from outbox.watching.telling import COLUMNS, cells, seconds_told, unpublished_told

# How long Kafka may take for each step of an answer, and for all of it.
STEP_SECONDS, WAIT_SECONDS = 2.0, 5.0


def how_things_stand() -> dict[str, Any]:
    """Return what the page tells. Where Kafka does not answer within WAIT_SECONDS, that is what PostgreSQL knows."""
    with connections[router.db_for_read(OutboxEvent)].cursor() as cursor:
        standing = measure(cursor)
    lags = Question(_lags).ask(WAIT_SECONDS)
    by_group = {lag.group: lag for lag in lags or []}
    return {
        "standing": standing,
        "unpublished": unpublished_told(standing),
        "alarm_seconds": conf.get("ALARM_SECONDS"),
        "refused": _letters(RELAY, standing),
        "kafka_answers": lags is not None,
        "groups": [_group(name, standing, by_group.get(name)) for name in groups()],
        "columns": COLUMNS,
    }


def _lags() -> list[GroupLag]:
    with LagReader(timeout_seconds=STEP_SECONDS) as reader:
        return reader.read(groups())


def _group(name: str, standing: Standing, lag: GroupLag | None) -> dict[str, Any]:
    return {
        "name": name,
        "halted_at": standing.halted_at.get(name),
        "failures_in_a_row": standing.failures_in_a_row.get(name, 0),
        "letters": _letters(name, standing),
        "parked_events": listed("parkedevent", standing.parked_events.get(name, 0), consumer_group=name),
        "parked_keys": standing.parked_keys.get(name, 0),
        "lag": lag,
        "behind": [f"{lag.records:,}", seconds_told(lag.seconds)] if lag else ["?", "?"],
        "partitions": [cells(part) for part in lag.partitions] if lag else [],
    }


def _letters(group: str, standing: Standing) -> list[Any]:
    """Return how many letters of a group are open, by status, each with a link to them."""
    return [
        listed("failedmessage", standing.open_letters.get((group, status), 0), consumer_group=group, status=status)
        for status in FailedMessage.OPEN
    ]
