"""Which keys a relay sends: the relays divide the buckets of keys among themselves, without a coordinator.

A bucket is a session advisory lock, which PostgreSQL gives to one connection at a time and takes back the moment that
connection ends: whoever lost a bucket has lost the connection too, over which alone its rows could be acknowledged.
A relay that hangs keeps its connection, but says nothing on it any more; the others see that and end it.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import psycopg

from outbox.models import BUCKETS

logger = logging.getLogger(__name__)

# The class of all our advisory locks ("outb" in ASCII). The number below it is a bucket's, or BUCKETS itself, which
# every relay holds as a shared lock: so they can count each other.
LOCKS = 0x6F757462
# A relay talks to PostgreSQL every second. One that did not for so long hangs.
HUNG_SECONDS = 10

ENTER = "SELECT pg_advisory_lock_shared(%s, %s)"
SURVEY = """
    SELECT lock.pid,
           activity.wait_event_type = 'Client'
               AND greatest(activity.query_start, activity.state_change) < clock_timestamp() - %s * interval '1 second'
    FROM pg_locks AS lock
    JOIN pg_stat_activity AS activity USING (pid)
    WHERE lock.locktype = 'advisory' AND lock.granted
      AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND lock.classid = %s AND lock.objid = %s AND lock.objsubid = 2
"""
# Row by row, and no further than the limit.
TAKE = "SELECT bucket FROM unnest(%s::int[]) AS bucket WHERE pg_try_advisory_lock(%s, bucket) LIMIT %s"
GIVE = "SELECT pg_advisory_unlock(%s, bucket) FROM unnest(%s::int[]) AS bucket"
END = "SELECT pg_terminate_backend(%s)"


@dataclass
class Share:
    """The buckets of one relay, over its connection. `alone`: take all that are free, whoever else there is."""

    db: psycopg.Connection[Any]
    alone: bool = False
    buckets: set[int] = field(default_factory=set)
    # How many are ours to hold.
    fair: int = BUCKETS

    def enter(self) -> None:
        """Be one of the relays."""
        self.db.execute(ENTER, (LOCKS, BUCKETS))

    def survey(self) -> bool:
        """See who else is there, end who hangs, and take what is ours and free. Return whether we got a bucket.

        Call it every second: it is also the sign of life that the others look for.
        """
        relays = self.db.execute(SURVEY, (HUNG_SECONDS, LOCKS, BUCKETS)).fetchall()
        hung = [pid for pid, is_hung in relays if is_hung]
        for pid in hung:
            logger.warning("another relay hangs, its keys are taken over", extra={"backend": pid})
            self.db.execute(END, (pid,))
        if not self.alone:
            self.fair = -(-BUCKETS // max(1, len(relays) - len(hung)))
        return self._take(self.fair - len(self.buckets))

    def _take(self, number: int) -> bool:
        if number <= 0:
            return False
        # Each relay begins elsewhere, so that they do not all ask for the same ones.
        start = self.db.info.backend_pid
        free = [bucket % BUCKETS for bucket in range(start, start + BUCKETS) if bucket % BUCKETS not in self.buckets]
        taken = self.db.execute(TAKE, (free, LOCKS, number)).fetchall()
        self.buckets.update(bucket for (bucket,) in taken)
        return bool(taken)

    @property
    def excess(self) -> Collection[int]:
        """The buckets that others have a right to."""
        return sorted(self.buckets)[self.fair :]

    def give(self) -> None:
        """Give the excess away. Call it only when none of their rows is on its way."""
        excess = list(self.excess)
        self.db.execute(GIVE, (LOCKS, excess))
        self.buckets.difference_update(excess)
