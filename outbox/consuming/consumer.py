"""The consumer: takes a group's records from Kafka and applies them. Run with: manage.py run_consumer GROUP

The offset of a record is committed after the transaction that applied it, so a crash in between brings the record
again, and the inbox knows it.
"""

import logging
import time
from datetime import datetime

from django.db import Error, close_old_connections

from outbox.consuming import rewinding
from outbox.consuming.applying import Applier, Halted, Rewound, Stopping
from outbox.consuming.member import Member
from outbox.context import beating
from outbox.database import is_outage
from outbox.transactions import NotApplied, Outage
from outbox.watching.health import Health
from outbox.worker import OutageLog, Stop

logger = logging.getLogger(__name__)

BATCH_SIZE = 500
# Between two looks at how the group stands: whether PostgreSQL answers, whether the group is halted or was rewound.
LOOK_SECONDS = 1.0


class Consumer:
    """One member of a consumer group at work."""

    def __init__(self, group: str, *, stop: Stop, batch_size: int = BATCH_SIZE, until_idle: bool = False) -> None:
        """Raise LookupError where no handler names the group."""
        self._group, self._stop, self._until_idle = group, stop, until_idle
        self._health = Health()
        self._member = Member(group, batch_size=batch_size, until_idle=until_idle)
        self._applier = Applier(group, pause=self._pause)
        self._database = OutageLog(logger, "PostgreSQL")
        self._halted_at: datetime | None = None
        # False while there may be rewinds that concern us and are not followed.
        self._settled = False
        self._looked_at = 0.0

    def run(self) -> None:
        """Apply records until stopped, or with `until_idle` until every partition of ours is read to its end.

        Blocks. Trouble of PostgreSQL and Kafka is waited out, and so is a halt of the group. Leaves the group before it
        returns.

        Raises:
            Halted: the group is halted, and with `until_idle` that is not waited out.
        """
        self._member.join()
        try:
            with beating(self._health.beat):
                self._work()
        finally:
            self._member.leave()
            close_old_connections()

    def _work(self) -> None:
        while not self._stop.requested:
            self._health.beat()
            self._look_after()
            self._member.receive()
            if self._member.in_hand:
                self._apply()
            elif self._until_idle and self._is_idle():
                break

    def hung(self) -> str | None:
        """Return what is wrong, or None while the loop turns. For any thread."""
        return self._health.hung()

    def not_ready(self) -> str | None:
        """Return why nothing can be applied, or None. For any thread."""
        if self._database.lasts:
            return "PostgreSQL does not answer"
        if reason := self._member.not_ready():
            return reason
        halted_at = self._halted_at
        return f"halted since {halted_at:%Y-%m-%dT%H:%M:%SZ}" if halted_at else None

    def _look_after(self) -> None:
        """Once a second, and while something is unsettled at once: see how the group stands, and follow rewinds."""
        if self._is_settled and time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        if self._look():
            self._database.over()
            try:
                self._settle()
            except Outage as outage:
                self._database.trouble(outage)

    def _look(self) -> bool:
        """See how the group stands. Return False where PostgreSQL does not answer."""
        self._looked_at = time.monotonic()
        try:
            close_old_connections()
            standing = rewinding.standing(self._group)
        except Error as error:
            if not is_outage(error):
                raise
            self._database.trouble(error)
            return False
        self._halted_at = standing.halted_at
        if standing.generation != self._applier.generation:
            self._settled = False
        return True

    @property
    def _is_settled(self) -> bool:
        return self._settled and not self._member.has_new

    def _settle(self) -> None:
        """Follow the rewinds of our partitions, so that what is in hand may be applied.

        Of a partition that cannot be sought yet nothing is in hand, and nothing comes, until a later call sought it.

        Raises:
            Outage: it is to be called again.
        """
        if self._is_settled:
            return
        self._settled = self._member.has_new = False
        try:
            generation, rewinds = rewinding.pending(self._group)
            ours = [rewind for rewind in rewinds if self._member.is_ours(rewind.place)]
            followed = [rewind for rewind in ours if self._member.rewind(rewind.place, rewind.offset)]
            rewinding.forget(followed)
        except Error as error:
            if is_outage(error):
                raise Outage(str(error)) from error
            raise
        self._applier.generation = generation
        self._settled = len(followed) == len(ours)

    def _is_idle(self) -> bool:
        """Whether nothing is left to be done: everything is read, and no rewind was asked for until now."""
        return self._member.is_at_end and self._look() and self._is_settled

    def _apply(self) -> None:
        """Apply what is in hand, unless it is to be left to others."""
        while self._member.in_hand and not self._stop.requested:
            try:
                close_old_connections()
                self._settle()
                self._apply_in_hand()
            except Stopping:
                return
            except Rewound:
                self._settled = False
            except (Halted, Outage) as reason:
                if self._until_idle and isinstance(reason, Halted):
                    raise
                self._wait_out(reason)
            else:
                return

    def _apply_in_hand(self) -> None:
        tally = self._applier.apply(self._member.in_hand)
        self._member.applied()
        self._database.over()
        if tally.failed:
            logger.error("records became dead letters", extra={"group": self._group, "records": tally.failed})

    def _pause(self, seconds: float) -> None:
        """Block between two tries of a record, of which a batch may hold many: a stop does not wait for them all."""
        self._health.beat()
        self._stop.wait(seconds)
        if self._stop.requested:
            raise Stopping

    def _wait_out(self, reason: NotApplied) -> None:
        """Block until PostgreSQL answers and the group is not halted, and stay a member of the group meanwhile."""
        if isinstance(reason, Halted):
            logger.error("the group is halted, and waits for a person to resume it", extra={"group": self._group})
        with self._member.resting():
            while not self._stop.requested:
                if isinstance(reason, Outage):
                    self._database.trouble(reason)
                self._member.rest(LOOK_SECONDS)
                self._health.beat()
                if self._look() and self._halted_at is None:
                    break
        if isinstance(reason, Halted) and not self._stop.requested:
            logger.info("the group is resumed", extra={"group": self._group})
