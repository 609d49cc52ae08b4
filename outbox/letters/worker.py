"""The worker that retries dead letters, those of all groups. Run with: manage.py run_consumer dead-letters

Any number of them may run: a letter is retried by one at a time. They also take in the dead-letter topics of other
systems (the setting FOREIGN_DEAD_LETTER_TOPICS), as members of a consumer group of their own.
"""

import logging
import time

from django.db import Error, close_old_connections

from outbox import conf
from outbox.consuming.member import Member
from outbox.context import beating
from outbox.database import is_outage
from outbox.letters import foreign_letters
from outbox.letters.closing import Refused
from outbox.letters.retrying import retry
from outbox.registry import DEAD_LETTERS, handlers_of
from outbox.transactions import Outage, database, transact
from outbox.watching.health import Health
from outbox.worker import OutageLog, Stop

logger = logging.getLogger(__name__)

# How often is looked for letters that are due.
POLL_SECONDS = 1.0
# How long letters are retried, if there are so many, before the topics of other systems have their turn.
TURN_SECONDS = 5.0
# Records of other systems in one transaction at most.
BATCH_SIZE = 500

# The one that is due for longest, but not what another worker has in hand: whoever closes a letter holds it FOR UPDATE,
# which this lock alone conflicts with, while those who apply events of its key hold it FOR SHARE. Not those of a halted
# group, and not one that waits behind another one of its key.
NEXT = """
    SELECT id FROM failed_messages AS letter
    WHERE status = 'PENDING' AND next_retry_at <= statement_timestamp() AND id <> ALL(%s)
      AND consumer_group <> ALL(ARRAY(SELECT name FROM outbox_consumergroup WHERE halted_at IS NOT NULL))
      AND NOT (parks AND EXISTS (
        SELECT FROM failed_messages AS older
        WHERE older.consumer_group = letter.consumer_group AND sha256(older.key) = sha256(letter.key)
          AND older.parks AND older.status IN ('PENDING', 'FAILED') AND older.id < letter.id
          AND (letter.consumer_group <> 'relay' OR older.topic = letter.topic)
      ))
    ORDER BY next_retry_at, id
    LIMIT 1
    FOR KEY SHARE OF letter SKIP LOCKED
"""


class DeadLetterWorker:
    """Retries what is due, until stopped."""

    def __init__(self, *, stop: Stop, until_idle: bool = False) -> None:
        """Raise LookupError where a topic of another system is for a group that no handler names."""
        self._stop, self._until_idle = stop, until_idle
        self._health = Health()
        self._groups: dict[str, str] = conf.get("FOREIGN_DEAD_LETTER_TOPICS")
        for group in self._groups.values():
            handlers_of(group)
        topics = sorted(self._groups)
        self._member = (
            Member(DEAD_LETTERS, batch_size=BATCH_SIZE, until_idle=until_idle, topics=topics) if topics else None
        )
        self._database = OutageLog(logger, "PostgreSQL")

    def run(self) -> None:
        """Retry until stopped, or with `until_idle` until nothing is due, and nothing of other systems is left to read.

        Blocks. Trouble of PostgreSQL and Kafka is waited out; without Kafka letters are retried all the same.
        """
        if self._member:
            self._member.join()
        try:
            with beating(self._health.beat):
                self._work()
        finally:
            if self._member:
                self._member.leave()
            close_old_connections()

    def _work(self) -> None:
        while not self._stop.requested:
            self._health.beat()
            try:
                close_old_connections()
                busy = self._retry_due() | self._take_in()
                self._database.over()
            except (Error, Outage) as error:
                self._wait_out(error)
                continue
            if not busy and self._until_idle and self._is_at_end:
                break
            if not busy:
                self._stop.wait(POLL_SECONDS)

    def hung(self) -> str | None:
        """Return what is wrong, or None while the loop turns. For any thread."""
        return self._health.hung()

    def not_ready(self) -> str | None:
        """Return why not all that it does can be done now, or None. For any thread."""
        if self._database.lasts:
            return "PostgreSQL does not answer"
        return self._member.not_ready() if self._member else None

    def _retry_due(self) -> bool:
        """Retry what is due, for TURN_SECONDS. Return whether anything was."""
        # Letters that could not be retried just now.
        passed: list[int] = []
        busy = False
        turn_ends_at = time.monotonic() + TURN_SECONDS
        while not self._stop.requested and time.monotonic() < turn_ends_at:
            letter_id = next_due(passed)
            if letter_id is None:
                break
            self._health.beat()
            try:
                retry(letter_id, automatic=True)
                busy = True
            except Refused:
                passed.append(letter_id)
            except Outage as outage:
                # It may be this letter's alone, such as a lock that its handler waits for: then the others go on.
                self._wait_out(outage)
                passed.append(letter_id)
        return busy

    def _take_in(self) -> bool:
        """Take in what there is of other systems. Return whether there was anything."""
        if self._member is None:
            return False
        if not self._member.in_hand:
            self._member.receive()
        records = self._member.in_hand
        if not records:
            return False
        transact(lambda: foreign_letters.take_in(records, self._groups))
        self._member.applied()
        return True

    @property
    def _is_at_end(self) -> bool:
        return self._member is None or self._member.is_at_end

    def _wait_out(self, error: Exception) -> None:
        if not isinstance(error, Outage) and not is_outage(error):
            raise error
        self._database.trouble(error)
        self._stop.wait(POLL_SECONDS)
        close_old_connections()


def next_due(passed: list[int]) -> int | None:
    """Return the id of the letter to be retried next, none of those that were passed over, or None."""
    with database().cursor() as cursor:
        cursor.execute(NEXT, (passed,))
        row = cursor.fetchone()
    return row[0] if row else None
