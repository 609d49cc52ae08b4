"""What a relay does over one connection to PostgreSQL, from the first look at the outbox to the last."""

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
from confluent_kafka import KafkaError

from outbox.relay.backlog import Backlog
from outbox.relay.sender import REFUSALS, TOPIC_OUTAGES, Row, Sender
from outbox.relay.shares import Share
from outbox.watching import metrics
from outbox.worker import OutageLog, Stop

# Batches that are on their way at a time.
BATCHES = 3
# How often the outbox is looked at when no NOTIFY says that there is something; and how soon after there was
# something, doubling up to that: NOTIFY does not come for every commit.
POLL_SECONDS, FIRST_POLL_SECONDS = 1.0, 0.005
# How long reports are waited for before something else is looked after.
REPORT_SECONDS = 0.002
# How often the other relays are looked at.
SURVEY_SECONDS = 1.0
# How long a stop waits for reports of what was handed to Kafka already.
GRACE_SECONDS = 5.0
# Pause before a fresh producer where the one before did not live for long.
RESTART_SECONDS, SHORT_LIFE_SECONDS = 1.0, 10.0

logger = logging.getLogger(__name__)


class Session:
    """One connection's life: a share of the keys, a producer, and what is on its way between the two engines.

    When the connection ends, so does the share, and with it this session: the next one starts over with a fresh
    producer and acknowledges nothing that this one sent.
    """

    def __init__(
        self, db: psycopg.Connection[Any], outage: OutageLog, stop: Stop, *, once: bool, batch_size: int
    ) -> None:
        self._db, self._outage, self._stop, self._once = db, outage, stop, once
        self._room = (BATCHES - 1) * batch_size
        self._share = Share(db, alone=once)
        self._backlog = Backlog(db, batch_size=batch_size)
        self._sender = Sender(outage)
        self._renewed_at = 0.0
        self._survey_at = 0.0
        # When to look next if nothing wakes us before (0.0: as soon as there is room), and how long after the look
        # before that.
        self._look_at, self._pause = 0.0, FIRST_POLL_SECONDS
        self._found_nothing = False

    def run(self) -> Iterator[int]:
        """Send, and yield again and again how many rows were acknowledged. Raises what psycopg raises."""
        self._share.enter()
        try:
            while not self._stop.requested:
                self._survey()
                yield self._step()
                if self._once and self._is_done():
                    return
            yield self._finish()
        finally:
            self._sender.close()

    def _step(self) -> int:
        """Do what is to be done next, or block shortly if nothing is. Return how many rows were acknowledged."""
        sender = self._sender
        if sender.broken or sender.failures:
            return self._recover()
        if self._share.excess or sender.is_old:
            return self._give_way()
        if self._may_look():
            return self._look()
        if sender.in_flight:
            more_follows = not self._look_at
            sender.poll(REPORT_SECONDS, more_follows=more_follows)
            if not more_follows:
                self._listen(0)
            return 0
        if sender.sent:
            return self._acknowledge()
        self._listen(min(self._look_at, self._survey_at) - time.monotonic())
        return 0

    def _is_done(self) -> bool:
        sender = self._sender
        on_its_way = sender.in_flight or sender.sent or sender.failures or sender.broken
        return not on_its_way and (self._found_nothing or not self._share.buckets)

    def _survey(self) -> None:
        """Once a second look at the other relays, and at what became of the rows that Kafka refused."""
        now = time.monotonic()
        if now < self._survey_at:
            return
        self._survey_at = now + SURVEY_SECONDS
        if self._outage.lasts and not self._sender.in_flight:
            self._sender.probe()
        gained = self._share.survey()
        # In this order: what the former owner of a bucket has buried must be known before we read.
        if self._backlog.survey_refused() or gained:
            # What was not ours to send until now may lie before where we are.
            self._backlog.look_from_the_front()
            self._look_now()
        metrics.RELAY_BUCKETS.set(len(self._share.buckets))
        metrics.RELAY_IN_FLIGHT.set(self._sender.in_flight)

    def _look_now(self) -> None:
        self._look_at, self._pause, self._found_nothing = 0.0, FIRST_POLL_SECONDS, False

    def _give_way(self) -> int:
        """Let what is on its way arrive, then give the excess of our share to the relays that came.

        A producer that is old makes way for a fresh one.
        """
        if self._sender.in_flight:
            self._sender.poll(REPORT_SECONDS)
            return 0
        sent = self._acknowledge()
        self._share.give()
        if self._sender.is_old:
            self._sender.close()
            self._sender = Sender(self._outage)
        return sent

    def _listen(self, seconds: float) -> None:
        """Wait for a NOTIFY, for so long at most."""
        for _ in self._db.notifies(timeout=max(0.0, seconds), stop_after=1):
            self._look_now()

    def _may_look(self) -> bool:
        has_room = self._sender.in_flight <= self._room
        return has_room and bool(self._share.buckets) and time.monotonic() >= self._look_at

    def _look(self) -> int:
        """Acknowledge what was sent, read the next batch, and send it."""
        began = time.monotonic()
        sent, self._sender.sent = self._sender.sent, []
        rows, has_more = self._backlog.read(self._share.buckets, sent)
        if rows:
            self._sender.send(rows)
        if rows or has_more:
            self._look_now()
        if not has_more:
            self._found_nothing = not rows
            self._look_later(began)
        return len(sent)

    def _look_later(self, began: float) -> None:
        if self._found_nothing:
            now = time.monotonic()
            # Much that cannot be sent now makes a look costly: so there are fewer.
            self._pause = min(2 * self._pause, max(POLL_SECONDS, 10 * (now - began)))
            began = now
        self._look_at = began + self._pause

    def _acknowledge(self) -> int:
        sent, self._sender.sent = self._sender.sent, []
        self._backlog.acknowledge(sent)
        return len(sent)

    def _finish(self) -> int:
        """Wait a while for the reports of what is on its way, and acknowledge what arrived."""
        give_up_at = time.monotonic() + GRACE_SECONDS
        while self._sender.in_flight and not self._sender.broken and time.monotonic() < give_up_at:
            self._sender.poll(0.1)
        return self._acknowledge()

    # ── Trouble ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _recover(self) -> int:
        """Let everything arrive or fail, see why it failed, and start from the front."""
        sender = self._sender
        if sender.broken:
            sender.give_up()
        elif sender.in_flight:
            sender.poll(REPORT_SECONDS)
            return 0
        sent = self._acknowledge()
        failures: list[tuple[Row, KafkaError]] = []
        for batch in sender.take_failures():
            rows = self._backlog.rows(row_id for row_id, _ in batch.places)
            errors = {row.id: batch.errors.get((row.topic, row.key, row.value)) for row in rows}
            failures += [(row, error) for row in rows if (error := errors[row.id]) is not None]
            arrived = [(row.id, row.topic) for row in rows if errors[row.id] is None]
            self._backlog.acknowledge(arrived)
            sent += len(arrived)
        refused, is_broken = self._judge(sorted(failures, key=lambda failure: failure[0].id))
        if is_broken or sender.broken:
            self._renew(at_once=bool(refused))
        self._backlog.start_over()
        self._look_now()
        return sent + self._send_alone(refused)

    def _judge(self, failures: Sequence[tuple[Row, KafkaError]]) -> tuple[list[Row], bool]:
        """Return the rows that Kafka may have refused for good, and whether the producer cannot go on."""
        refused: list[Row] = []
        # Keys of which a row was not sent, and not refused either: what is behind it waits for it.
        waiting: set[tuple[str, bytes | None]] = set()
        failed_topics: set[str] = set()
        is_broken = False
        for row, error in failures:
            metrics.RELAY_FAILURES.labels(row.topic, error.name()).inc()
            if error.code() in REFUSALS and (row.topic, row.key) not in waiting:
                refused.append(row)
                continue
            waiting.add((row.topic, row.key))
            if error.code() in TOPIC_OUTAGES:
                failed_topics.add(row.topic)
            else:
                is_broken = True
        for topic in failed_topics:
            self._backlog.rest(topic)
        return refused, is_broken

    def _renew(self, *, at_once: bool) -> None:
        """Put a fresh producer in the place of a broken one; after a pause if that is no cure."""
        metrics.RELAY_RESTARTS.inc()
        self._sender.close()
        if not at_once and time.monotonic() - self._renewed_at < SHORT_LIFE_SECONDS:
            self._stop.wait(RESTART_SECONDS)
        self._renewed_at = time.monotonic()
        self._sender = Sender(self._outage)

    def _send_alone(self, rows: Sequence[Row]) -> int:
        """Send rows one by one, as Kafka refuses a batch for one bad record, and bury those that it still refuses."""
        if not rows:
            return 0
        number = 0
        # No gap can come of one row at a time, and without the guarantee a refusal leaves the producer whole.
        sender = Sender(self._outage, gapless=False)
        for row in rows:
            if self._backlog.waits(row):
                continue
            sender.send([row])
            while sender.in_flight and not self._stop.requested:
                sender.poll(0.1)
                self._survey()
            error = next((error for batch in sender.take_failures() for error in batch.errors.values()), None)
            if sender.sent:
                self._backlog.acknowledge(sender.sent)
                sender.sent.clear()
                number += 1
            elif error is not None and error.code() in REFUSALS:
                self._backlog.bury(row, error)
            else:
                # The rows from here on are still in the outbox, and come again.
                break
        sender.close()
        return number
