"""The reader of the queue in Redis: what waits in the streams is decided, batch by batch, in the stream's order.

It runs beside the consumers of the group `coupons`, in any number of processes: manage.py run_consumer coupons. Each
stream is read by one of them at a time, who holds the coupon's advisory lock. The lock belongs to the session by which
the reader decides, so whoever has lost it cannot commit any more; and whoever has it next begins with the entries that
the one before had read, in their order. So a stream is decided in its order, whoever dies or hangs.

The rows of the requests say which streams there are to be read, and what Redis has lost. So nothing is asked of Redis
that is not needed, and it may be away, or come back empty.
"""

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import redis
from django.db import Error, close_old_connections, connection
from prometheus_client import Histogram

from coupons import services
from coupons.models import Request
from coupons.stream import BATCH_SIZE, Entry, StreamLost, Streams
from outbox.consuming.applying import PAUSES, Stopping
from outbox.database import is_outage
from outbox.transactions import NotApplied, Outage, transact
from outbox.watching.health import Health
from outbox.worker import OutageLog, Stop

# Between two looks at the rows for streams that are to be read; while none is, for which a look is all that is done.
LOOK_SECONDS, IDLE_SECONDS = 1.0, 0.2
# Streams that a reader takes at one look, so that others have their share.
TAKE = 5
# How long a stream is kept in which nothing comes.
KEEP_SECONDS = 30.0
# How old a request is that should be in its stream, and how often is looked whether it is.
LATE_SECONDS, LATE_LOOK_SECONDS = 3.0, 2.0
# Pauses after trouble with an engine: doubled each time.
PAUSE_SECONDS, PAUSE_MAX_SECONDS = 0.1, 2.0
# PostgreSQL ends the session of a reader that hangs, and so its locks. Longer than any wait between two statements.
IDLE_SESSION_SECONDS = 15
# Of the keys of the locks: they are those of nobody else ("coup" in ASCII).
SEED = 0x636F7570

# Those of others are passed over.
LOCK = """
    SELECT code FROM unnest(%s::text[]) AS code WHERE pg_try_advisory_lock(hashtextextended(code, %s)) LIMIT %s
"""

BATCH_REQUESTS = Histogram(
    "coupons_stream_batch_requests", "Requests of a batch from Redis", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500)
)
BATCH_SECONDS = Histogram("coupons_stream_batch_seconds", "Time to decide a batch from Redis")

# Requests, and the ids of their entries, in the order of these.
Batch = Sequence[tuple[UUID, str]]

logger = logging.getLogger(__name__)


class NotOurs(NotApplied):
    """The session that held the lock is gone."""


class Stream:
    """A stream that is ours to read."""

    def __init__(self) -> None:
        # Whether it is open, and nothing of it is in hand that was read before.
        self.is_settled = False
        self.busy_at = time.monotonic()
        # If requests wait nevertheless.
        self.settle_again_at = 0.0


class StreamReader:
    """Decides what waits in the streams, until stopped."""

    def __init__(self, *, stop: Stop, until_idle: bool = False) -> None:
        self._stop, self._until_idle = stop, until_idle
        self._health = Health()
        self._streams = Streams()
        self._ours: dict[str, Stream] = {}
        # The connection whose session has the locks of these.
        self._session: Any = None
        self._looked_at = 0.0
        # Codes of the streams in which requests waited then.
        self._waiting: set[str] = set()
        self._database, self._redis = OutageLog(logger, "PostgreSQL"), OutageLog(logger, "Redis")
        self._pause_seconds = PAUSE_SECONDS

    def run(self) -> None:
        """Decide until stopped, or with `until_idle` until no request waits in Redis. Blocks.

        Trouble of PostgreSQL and Redis is waited out, and burns no try.
        """
        try:
            while not self._stop.requested:
                self._health.beat()
                if self._turn_or_wait_out():
                    break
        finally:
            # With its locks.
            connection.close()

    def hung(self) -> str | None:
        """Return what is wrong, or None while the loop turns. For any thread."""
        return self._health.hung()

    def not_ready(self) -> str | None:
        """Return why nothing can be decided, or None. For any thread."""
        if self._database.lasts:
            return "PostgreSQL does not answer"
        return "Redis does not answer" if self._redis.lasts else None

    # ── The loop ──

    def _turn_or_wait_out(self) -> bool:
        """Do what there is to be done, as far as it can be done. Return what `_turn` does."""
        try:
            is_idle = self._turn()
        except Stopping:
            return False
        except (NotOurs, StreamLost):
            self._unsettle()
            return False
        except redis.RedisError as error:
            self._wait_out(self._redis, error)
            return False
        except (Error, Outage) as error:
            if not isinstance(error, Outage) and not is_outage(error):
                raise
            self._wait_out(self._database, error)
            return False
        self._database.over()
        self._redis.over()
        self._pause_seconds = PAUSE_SECONDS
        return is_idle

    def _turn(self) -> bool:
        """Return whether nothing is left; known only with `until_idle`."""
        if time.monotonic() >= self._looked_at + LOOK_SECONDS or not self._ours:
            self._look()
        if not self._ours:
            self._stop.wait(IDLE_SECONDS)
            return self._until_idle and not self._waiting
        for code, stream in self._ours.items():
            if not stream.is_settled or (code in self._waiting and time.monotonic() >= stream.settle_again_at):
                self._settle(code, stream)
        new = self._streams.read(self._ours, wait_seconds=IDLE_SECONDS if self._until_idle else LOOK_SECONDS)
        for code, entries in new.items():
            if self._streams.count_in_hand(code) == len(entries):
                self._decide(code, self._ours[code], entries)
            else:
                # Some were read by another one, who did not know yet that the stream is not theirs any more.
                self._settle(code, self._ours[code])
        return self._until_idle and not new and not self._look() and not self._waiting

    def _wait_out(self, engine: OutageLog, error: Exception) -> None:
        engine.trouble(error)
        self._unsettle()
        self._stop.wait(self._pause_seconds)
        self._pause_seconds = min(2 * self._pause_seconds, PAUSE_MAX_SECONDS)

    def _unsettle(self) -> None:
        """Begin again: with a look at what is ours, and with what was read and not decided."""
        self._looked_at = 0.0
        for stream in self._ours.values():
            stream.is_settled = False

    # ── Which streams are ours ──

    def _look(self) -> int:
        """Take streams that are to be read, let go of those in which nothing comes. Return how many were taken."""
        self._looked_at = time.monotonic()
        close_old_connections()
        with connection.cursor() as cursor:
            if connection.connection is not self._session:
                self._ours.clear()
                cursor.execute("SELECT set_config('idle_session_timeout', %s, false)", [f"{IDLE_SESSION_SECONDS}s"])
                self._session = connection.connection
        self._waiting = Request.objects.codes_in_stream()
        for code in [code for code, stream in self._ours.items() if self._is_over(code, stream)]:
            self._let_go(code)
        return self._take(self._waiting | self._opened())

    def _is_over(self, code: str, stream: Stream) -> bool:
        return code not in self._waiting and time.monotonic() > stream.busy_at + KEEP_SECONDS

    def _take(self, codes: set[str]) -> int:
        with connection.cursor() as cursor:
            cursor.execute(LOCK, [sorted(codes - self._ours.keys()), SEED, TAKE])
            taken = [code for (code,) in cursor.fetchall()]
        self._ours |= {code: Stream() for code in taken}
        return len(taken)

    def _let_go(self, code: str) -> None:
        # It stays open, and is taken again when Redis is back.
        with suppress(redis.RedisError):
            self._streams.close(code)
        del self._ours[code]
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(hashtextextended(%s, %s))", [code, SEED])

    def _opened(self) -> set[str]:
        """Return the streams in which something may have been left, such as what was decided before a crash."""
        try:
            return self._streams.opened()
        except redis.RedisError:
            # It is no trouble as long as nothing waits there.
            return set()

    # ── One stream ──

    def _settle(self, code: str, stream: Stream) -> None:
        """See that all that waits is in the stream, and decide what was read of it before."""
        self._streams.open(code)
        self._put_back(code, stream)
        while entries := self._streams.in_hand(code):
            self._decide(code, stream, entries)
        stream.is_settled = True

    def _put_back(self, code: str, stream: Stream) -> None:
        """Put requests into the stream that should be in it and are not: Redis lost them, or was never told."""
        began = time.monotonic()
        missing = self._missing(code)
        for start in range(0, len(missing), BATCH_SIZE):
            self._stay()
            self._streams.append(code, missing[start : start + BATCH_SIZE])
        if missing:
            logger.warning("requests were put back into the stream", extra={"code": code, "requests": len(missing)})
        # All of a long stream is read for it.
        pause_seconds = max(LATE_LOOK_SECONDS, 10 * (time.monotonic() - began))
        stream.settle_again_at = time.monotonic() + pause_seconds

    def _missing(self, code: str) -> list[UUID]:
        """Return the requests that should be in a stream and are not, in the order of their ids."""
        late = Request.objects.in_stream(code).late(LATE_SECONDS)
        there: set[UUID | None] = set()
        if late:
            for entries in self._streams.pages(code):
                self._stay()
                there.update(entry.request_id for entry in entries)
        return [request_id for request_id in late if request_id not in there]

    def _decide(self, code: str, stream: Stream, entries: Sequence[Entry]) -> None:
        """Decide the requests of entries, in their order, and drop the entries."""
        batch: dict[UUID, str] = {}
        for entry in entries:
            if entry.request_id is not None:
                batch.setdefault(entry.request_id, entry.stream_id)
        if batch:
            BATCH_REQUESTS.observe(len(batch))
            with BATCH_SECONDS.time():
                self._decide_or_halve(code, list(batch.items()))
        self._streams.drop(code, entries)
        stream.busy_at = time.monotonic()

    def _decide_or_halve(self, code: str, batch: Batch) -> None:
        """Decide in one transaction, unless something in it fails: then each half for itself, in order."""
        if len(batch) == 1:
            self._decide_or_give_up(code, batch)
            return
        try:
            self._decide_at_once(code, batch)
        except NotApplied:
            raise
        except Exception:
            # The halves will meet it again; it counts, and is told of, when its request stands alone.
            middle = len(batch) // 2
            self._decide_or_halve(code, batch[:middle])
            self._decide_or_halve(code, batch[middle:])

    def _decide_or_give_up(self, code: str, batch: Batch) -> None:
        for pause_seconds in (*PAUSES, None):
            try:
                self._decide_at_once(code, batch)
            except NotApplied:
                raise
            except Exception as error:
                if pause_seconds is None:
                    self._give_up(code, batch, error)
                else:
                    self._stop.wait(pause_seconds)
            else:
                return

    def _decide_at_once(self, code: str, batch: Batch) -> None:
        self._health.beat()
        if self._stop.requested:
            raise Stopping
        transact(lambda: self._decide_once(code, batch))

    def _decide_once(self, code: str, batch: Batch) -> None:
        """Decide in the open transaction what waits: not what was answered before a crash that left its entry."""
        self._check_that_it_is_ours()
        waiting = Request.objects.in_stream(code).among(dict(batch))
        services.decide(request_ids=[pk for pk, _ in batch if pk in waiting], stream_ids=dict(batch))

    def _give_up(self, code: str, batch: Batch, error: Exception) -> None:
        request_ids = [request_id for request_id, _ in batch]

        def give_up() -> None:
            self._check_that_it_is_ours()
            services.give_up(request_ids=request_ids)

        try:
            transact(give_up)
        except NotApplied:
            raise
        except Exception as trouble:
            # That it cannot be written is no fault of the request's: it must not be lost.
            raise Outage(f"a request could not be given up: {trouble}") from trouble
        logger.error(
            "a request could not be decided", exc_info=error, extra={"code": code, "request_id": str(request_ids[0])}
        )

    def _stay(self) -> None:
        """Show PostgreSQL and the supervisor that this one does not hang."""
        self._health.beat()
        with connection.cursor() as cursor:
            cursor.execute("SELECT")

    def _check_that_it_is_ours(self) -> None:
        if connection.connection is not self._session:
            raise NotOurs("the session that held the locks is gone")
