"""The inbox: which events a group has applied. Its row and the effects of an event commit together."""

from collections.abc import Sequence
from uuid import UUID

from django.utils import timezone

from outbox.database import binary_cursor
from outbox.models import FailedMessage, InboxEvent
from outbox.record import Reading
from outbox.transactions import database

# Sorted by the event id, so that two members with the same events (a zombie and its heir) cannot deadlock.
# A record that is a dead letter already is left to that letter.
REMEMBER = """
    INSERT INTO outbox_inboxevent (event_id, event_type, topic, partition, "offset", consumer_group, applied_at)
    SELECT incoming.*, %(group)s::text, statement_timestamp()
    FROM unnest(%(event_ids)b::uuid[], %(event_types)b::text[], %(topics)b::text[], %(partitions)b::int[],
                %(offsets)b::bigint[]) AS incoming (event_id, event_type, topic, partition, "offset")
    WHERE %(of_letters)s::bool OR NOT EXISTS (
        SELECT FROM failed_messages AS letter
        WHERE letter.consumer_group = %(group)s AND letter.topic = incoming.topic
          AND letter.partition = incoming.partition AND letter."offset" = incoming."offset"
          AND letter.event_id = incoming.event_id
    )
    ORDER BY incoming.event_id
    ON CONFLICT (event_id, consumer_group) DO NOTHING
    RETURNING event_id
"""


def remember(group: str, readings: Sequence[Reading], *, of_letters: bool = False) -> list[Reading]:
    """Write readings to the inbox and return, in their order, those that were not there yet.

    Readings whose record is a dead letter are left out, unless they come `of_letters`.
    """
    by_event_id: dict[UUID, Reading] = {}
    for reading in readings:
        assert reading.event_id is not None
        by_event_id.setdefault(reading.event_id, reading)
    if not by_event_id:
        return []
    first = by_event_id.values()
    with binary_cursor(database()) as cursor:
        cursor.execute(
            REMEMBER,
            {
                "group": group,
                "of_letters": of_letters,
                "event_ids": list(by_event_id),
                "event_types": [reading.event_type for reading in first],
                "topics": [reading.record.topic for reading in first],
                "partitions": [reading.record.partition for reading in first],
                "offsets": [reading.record.offset for reading in first],
            },
        )
        fresh = {event_id for (event_id,) in cursor.fetchall()}
    return [reading for event_id, reading in by_event_id.items() if event_id in fresh]


def remember_letter(letter: FailedMessage) -> None:
    """Write the event of a letter to the inbox, as if it had been applied."""
    assert letter.event_id is not None
    entry = InboxEvent(
        event_id=letter.event_id,
        consumer_group=letter.consumer_group,
        event_type=letter.event_type,
        topic=letter.topic,
        partition=letter.partition,
        offset=letter.offset,
        applied_at=timezone.now(),
    )
    InboxEvent.objects.bulk_create([entry], ignore_conflicts=True)


def knows(group: str, event_id: UUID) -> bool:
    """Return whether a group has applied an event."""
    return InboxEvent.objects.filter(consumer_group=group, event_id=event_id).exists()
