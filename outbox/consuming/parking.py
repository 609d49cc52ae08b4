"""Parking: in an ordered group, later events of a key wait behind its open dead letter until that is closed.

Three parties meet at the letters of a (group, key), and its rows are their lock: who applies or parks events holds the
open ones FOR SHARE, who closes one holds them all FOR UPDATE and releases what waits before it lets go. So an event is
either parked before the release, which finds it, or meets the letters as the release has left them.
"""

import json
from collections.abc import Sequence
from hashlib import sha256

from outbox.letters.dead_letters import encode_headers
from outbox.models import FailedMessage, ParkedEvent
from outbox.record import Reading
from outbox.registry import RELAY
from outbox.transactions import database

OPEN = "status IN ('PENDING', 'FAILED')"
SEE = f"""
    SELECT id, sha256(key) FROM failed_messages
    WHERE consumer_group = %s AND parks AND {OPEN} AND sha256(key) = ANY(%s)
"""
SHARE = f"SELECT id FROM failed_messages WHERE id = ANY(%s) AND {OPEN} ORDER BY id FOR SHARE"
CLOSE = f"""
    SELECT id FROM failed_messages
    WHERE consumer_group = %(group)s AND parks AND {OPEN} AND sha256(key) = %(digest)s
      AND (%(topic)s::text IS NULL OR topic = %(topic)s)
    ORDER BY id FOR UPDATE
"""
# Not what is parked, applied or a letter already: a record may come again at any time.
PARK = """
    INSERT INTO outbox_parkedevent
        (consumer_group, topic, partition, "offset", key, value, headers, event_id, event_type, parked_at)
    SELECT %(group)s, topic, partition, "offset", key, value, headers, event_id, event_type, statement_timestamp()
    FROM unnest(%(topics)s::text[], %(partitions)s::int[], %(offsets)s::bigint[], %(keys)s::bytea[],
                %(values)s::bytea[], %(headers)s::jsonb[], %(event_ids)s::uuid[], %(event_types)s::text[])
         WITH ORDINALITY AS incoming (topic, partition, "offset", key, value, headers, event_id, event_type, number)
    WHERE NOT EXISTS (
        SELECT FROM failed_messages AS letter
        WHERE letter.consumer_group = %(group)s AND letter.topic = incoming.topic
          AND letter.partition = incoming.partition AND letter."offset" = incoming."offset"
      )
      AND NOT EXISTS (
        SELECT FROM outbox_inboxevent AS entry
        WHERE entry.consumer_group = %(group)s AND entry.event_id = incoming.event_id
      )
    ORDER BY number
    ON CONFLICT (consumer_group, topic, partition, "offset") DO NOTHING
"""
BEHIND = """
    SELECT * FROM outbox_parkedevent
    WHERE consumer_group = %s AND sha256(key) = %s
    ORDER BY id LIMIT %s
"""


def keys_behind_letters(group: str, readings: Sequence[Reading]) -> set[bytes | None]:
    """Return the keys of readings that have an open letter. It stays open until the transaction ends.

    Blocks while such a letter is being closed.
    """
    keys = {sha256(key).digest(): key for reading in readings if (key := reading.record.key) is not None}
    if not keys:
        return set()
    with database().cursor() as cursor:
        while True:
            cursor.execute(SEE, (group, list(keys)))
            seen = {letter_id: bytes(digest) for letter_id, digest in cursor.fetchall()}
            if not seen:
                return set()
            cursor.execute(SHARE, (list(seen),))
            if len(cursor.fetchall()) == len(seen):
                return {keys[digest] for digest in seen.values()}
            # One was closed meanwhile. The events behind it are applied now, or the first of them that could not be
            # is a new letter, which those behind it wait for: so look again.


def park(group: str, readings: Sequence[Reading]) -> int:
    """Let readings wait behind their letters, after `keys_behind_letters`. Return how many do so newly."""
    if not readings:
        return 0
    records = [reading.record for reading in readings]
    with database().cursor() as cursor:
        cursor.execute(
            PARK,
            {
                "group": group,
                "topics": [record.topic for record in records],
                "partitions": [record.partition for record in records],
                "offsets": [record.offset for record in records],
                "keys": [record.key for record in records],
                "values": [record.value for record in records],
                "headers": [json.dumps(encode_headers(record.headers)) for record in records],
                "event_ids": [reading.event_id for reading in readings],
                "event_types": [reading.event_type for reading in readings],
            },
        )
        return cursor.rowcount


def lock_scope(letter: FailedMessage) -> list[int]:
    """Return the ids of the open letters that share a letter's order, oldest first, locked to close one of them."""
    if not letter.parks or letter.key is None:
        return []
    parameters = {
        "group": letter.consumer_group,
        "digest": sha256(letter.key).digest(),
        # The relay keeps a key's order in each topic.
        "topic": letter.topic if letter.consumer_group == RELAY else None,
    }
    with database().cursor() as cursor:
        cursor.execute(CLOSE, parameters)
        return [letter_id for (letter_id,) in cursor.fetchall()]


def parked_behind(letter: FailedMessage, *, limit: int) -> list[ParkedEvent]:
    """Return the first events that wait for a letter's (group, key), in their order."""
    assert letter.key is not None
    return list(ParkedEvent.objects.raw(BEHIND, (letter.consumer_group, sha256(letter.key).digest(), limit)))
