"""Rewinds: reading partitions again. A replay asks for them, in one transaction with what it clears; members follow.

The member that has a partition seeks, commits and deletes the row, in this order: after a crash in between, the next
one does it again. The group's generation tells members that there is something new.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from django.db import connections, router, transaction

from outbox.models import ConsumerGroup, FailedMessage, InboxEvent, ParkedEvent, Rewind
from outbox.record import Place
from outbox.registry import group_of

# One that is not followed yet goes back as far as the farthest that was asked for.
ASK = """
    INSERT INTO outbox_rewind (consumer_group, topic, partition, "offset", requested_at)
    SELECT %s, *, clock_timestamp() FROM unnest(%s::text[], %s::int[], %s::bigint[])
    ON CONFLICT (consumer_group, topic, partition) DO UPDATE
    SET "offset" = least(outbox_rewind."offset", excluded."offset"), requested_at = excluded.requested_at
"""


class Standing(NamedTuple):
    """How a group stands."""

    halted_at: datetime | None
    generation: int


@dataclass(frozen=True)
class Wanted:
    """A rewind that is not followed yet."""

    id: int
    place: Place
    offset: int
    requested_at: datetime


def standing(group: str) -> Standing:
    """Return how a group stands."""
    row = ConsumerGroup.objects.filter(name=group).values_list("halted_at", "generation").first()
    return Standing(*row) if row else Standing(None, 0)


def pending(group: str) -> tuple[int, list[Wanted]]:
    """Return a group's generation and the rewinds that are not followed, those of that generation at least."""
    # Read first: what is asked for after it raises it again.
    generation = standing(group).generation
    rewinds = Rewind.objects.filter(consumer_group=group)
    return generation, [Wanted(r.pk, (r.topic, r.partition), r.offset, r.requested_at) for r in rewinds]


def forget(followed: Sequence[Wanted]) -> None:
    """Delete rewinds that were followed, unless they were asked for anew meanwhile."""
    for rewind in followed:
        Rewind.objects.filter(pk=rewind.id, requested_at=rewind.requested_at).delete()


def ask(group: str, offsets: Mapping[Place, int], *, rebuild: bool = False) -> None:
    """Ask a group's members to read partitions from these offsets on; with `rebuild`, clear what the group has made.

    One transaction, which waits for the group's running batches; after it no member applies anything before it has
    seen the rewinds.

    Raises:
        ValueError: a rebuild, and the group is no projection.
    """
    clear = group_of(group).clear
    if rebuild and clear is None:
        raise ValueError(f"group {group!r} is no projection")
    alias = router.db_for_write(Rewind)
    with transaction.atomic(using=alias):
        ConsumerGroup.objects.bulk_create([ConsumerGroup(name=group)], ignore_conflicts=True)
        row = ConsumerGroup.objects.select_for_update().get(name=group)
        if rebuild and clear is not None:
            # The letters first: a retry that is under way holds its letter, and is waited for.
            letters = FailedMessage.objects.filter(consumer_group=group)
            # What a person has discarded stays so: the record is left to its letter.
            letters.exclude(status=FailedMessage.Status.DISCARDED).delete()
            for table in (ParkedEvent, InboxEvent):
                table._default_manager.filter(consumer_group=group).delete()
            clear()
            row.failures_in_a_row, row.forgotten_before = 0, None
        row.generation += 1
        row.save()
        if offsets:
            topics, partitions = zip(*offsets, strict=True)
            with connections[alias].cursor() as cursor:
                cursor.execute(ASK, [group, list(topics), list(partitions), list(offsets.values())])
