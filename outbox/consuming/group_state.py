"""What holds for all members of a consumer group: whether it is halted, and how often it was rewound. One row each."""

import logging
from datetime import datetime
from functools import partial
from typing import NamedTuple

from django.db import transaction

from outbox.models import ConsumerGroup
from outbox.transactions import database

logger = logging.getLogger(__name__)

# So many dead letters of handlers that raised on a first delivery, without an applied event between them, halt the
# group: then the code is wrong, and not the messages.
HALT_AFTER = 100

READ = """
    SELECT failures_in_a_row, halted_at, generation
    FROM outbox_consumergroup
    WHERE name = %s
    FOR {}
"""
MAKE = "INSERT INTO outbox_consumergroup (name) VALUES (%s) ON CONFLICT DO NOTHING"
COUNT = """
    UPDATE outbox_consumergroup
    SET failures_in_a_row = failures_in_a_row + 1,
        halted_at = CASE WHEN failures_in_a_row + 1 >= %s THEN statement_timestamp() END
    WHERE name = %s
    RETURNING halted_at IS NOT NULL
"""


class GroupState(NamedTuple):
    """A row of ConsumerGroup."""

    failures_in_a_row: int
    halted_at: datetime | None
    generation: int


def hold(group: str) -> GroupState:
    """Return the state of a group, which is not rewound until the transaction ends. Blocks while it is."""
    return _read(group, "KEY SHARE")


def hold_failures(group: str) -> GroupState:
    """As `hold`, and nobody else counts a failure of the group or halts it until the transaction ends."""
    return _read(group, "NO KEY UPDATE")


def _read(group: str, strength: str) -> GroupState:
    read = READ.format(strength)
    with database().cursor() as cursor:
        cursor.execute(read, (group,))
        row = cursor.fetchone()
        if row is None:
            cursor.execute(MAKE, (group,))
            cursor.execute(read, (group,))
            row = cursor.fetchone()
    return GroupState(*row)


def count_failure(group: str) -> None:
    """Count a dead letter of a first delivery, and halt the group if it is one too many. After `hold_failures`."""
    with database().cursor() as cursor:
        cursor.execute(COUNT, (HALT_AFTER, group))
        [halted] = cursor.fetchone()
    if halted:
        say = partial(logger.critical, "the group is halted", extra={"group": group, "failures_in_a_row": HALT_AFTER})
        transaction.on_commit(say, using=database().alias)


def clear_failures(group: str) -> None:
    """Begin to count anew: an event was applied."""
    ConsumerGroup.objects.filter(pk=group, halted_at=None).update(failures_in_a_row=0)


def resume(group: str) -> bool:
    """Let a halted group go on. Return whether it was halted."""
    return bool(
        ConsumerGroup.objects.filter(pk=group, halted_at__isnull=False).update(halted_at=None, failures_in_a_row=0)
    )
