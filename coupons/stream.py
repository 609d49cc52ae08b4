"""The queue in Redis: a stream for each coupon, whose entries name requests in the order in which they came.

An entry is deleted when its request is answered, so that what is in a stream waits. Whatever Redis loses of it is put
back from the requests' rows: coupons/reading.py.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from uuid import UUID

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.redis import key, quick

# The consumer group of each stream, and its one consumer: whoever reads is given what the one before had in hand.
GROUP, READER = "coupons", "reader"
# Entries that are read at once.
BATCH_SIZE = 500
# How long Redis is waited for, besides what a read is told to wait for new entries.
TIMEOUT_SECONDS = 3.0

# Not what came in between.
CLOSE = """
if redis.call('XLEN', KEYS[1]) == 0 then
    redis.call('DEL', KEYS[1])
    redis.call('SREM', KEYS[2], ARGV[1])
end
"""


class Entry(NamedTuple):
    """An entry of a stream. Without a request: nobody knows what it means, or it was deleted."""

    stream_id: str
    request_id: UUID | None


class StreamLost(Exception):
    """A stream, or its consumer group, is not there any more: somebody deleted what Redis held."""


def push(code: str, request_id: UUID) -> None:
    """Put a request, whose row is committed, at the end of its coupon's stream.

    Raises:
        redis.RedisError: Redis did not take it.
    """
    quick().xadd(_stream(code), _fields(request_id))


def depth(code: str) -> int | None:
    """Return how many entries of a coupon's stream wait. None: Redis does not tell."""
    try:
        return int(quick().xlen(_stream(code)))
    except redis.RedisError:
        return None


def _stream(code: str) -> str:
    return key("coupons", "stream", code)


def _fields(request_id: UUID) -> dict[Any, Any]:
    return {"request_id": str(request_id)}


class Streams:
    """All streams, for those who read them, over a connection of their own. For one thread.

    Each method blocks for about TIMEOUT_SECONDS at most, and raises redis.RedisError where Redis is in trouble.
    """

    def __init__(self) -> None:
        self._redis = redis.Redis.from_url(
            settings.REDIS_URL,
            socket_connect_timeout=TIMEOUT_SECONDS,
            socket_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )

    def opened(self) -> set[str]:
        """Return the codes of the streams that were opened, and not closed since."""
        codes: Any = self._redis.smembers(key("coupons", "streams"))
        return {code.decode() for code in codes}

    def open(self, code: str) -> None:
        """Make a coupon's stream and its consumer group, if they are not there."""
        self._redis.sadd(key("coupons", "streams"), code)
        try:
            # From the first entry on, which may be older than the group.
            self._redis.xgroup_create(_stream(code), GROUP, id="0", mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def close(self, code: str) -> None:
        """Delete a coupon's stream, if it is empty."""
        self._redis.register_script(CLOSE)(keys=[_stream(code), key("coupons", "streams")], args=[code])

    def in_hand(self, code: str) -> list[Entry]:
        """Return the first entries that were read, by whomever, and not dropped; as of all that are read, BATCH_SIZE.

        Raises:
            StreamLost: the stream is to be opened again.
        """
        return self._read({code: "0"}).get(code, [])

    def count_in_hand(self, code: str) -> int:
        """Return how many entries were read, by whomever, and not dropped.

        Raises:
            StreamLost: the stream is to be opened again.
        """
        with _lost():
            summary: Any = self._redis.xpending(_stream(code), GROUP)
        return int(summary["pending"])

    def read(self, codes: Collection[str], *, wait_seconds: float) -> dict[str, list[Entry]]:
        """Return new entries of these coupons by code, each stream's in order; wait if there are none.

        Raises:
            StreamLost: one of the streams is to be opened again.
        """
        return self._read(dict.fromkeys(codes, ">"), block=max(int(1000 * wait_seconds), 1))

    def _read(self, places: dict[str, str], block: int | None = None) -> dict[str, list[Entry]]:
        codes = {_stream(code).encode(): code for code in places}
        streams: dict[Any, Any] = {_stream(code): place for code, place in places.items()}
        with _lost():
            answer: Any = self._redis.xreadgroup(GROUP, READER, streams, count=BATCH_SIZE, block=block)
        return {codes[stream]: [_entry(*entry) for entry in entries] for stream, entries in answer}

    def drop(self, code: str, entries: Sequence[Entry]) -> None:
        """Delete entries that were read, and need not be read again."""
        ids = [entry.stream_id for entry in entries]
        with self._redis.pipeline() as pipeline:
            pipeline.xack(_stream(code), GROUP, *ids)
            pipeline.xdel(_stream(code), *ids)
            pipeline.execute()

    def pages(self, code: str) -> Iterator[list[Entry]]:
        """Give all entries of a stream, read or not, in their order, BATCH_SIZE at a time."""
        after = "-"
        while found := self._page(code, after):
            yield found
            after = f"({found[-1].stream_id}"

    def _page(self, code: str, after: str) -> list[Entry]:
        found: Any = self._redis.xrange(_stream(code), min=after, count=BATCH_SIZE)
        return [_entry(*entry) for entry in found]

    def append(self, code: str, request_ids: Iterable[UUID]) -> None:
        """Put requests at the end of a coupon's stream."""
        with self._redis.pipeline(transaction=False) as pipeline:
            for request_id in request_ids:
                pipeline.xadd(_stream(code), _fields(request_id))
            pipeline.execute()


@contextmanager
def _lost() -> Iterator[None]:
    try:
        yield
    except redis.ResponseError as error:
        # The second: to one who waited when it was deleted.
        if str(error).startswith(("NOGROUP", "UNBLOCKED")):
            raise StreamLost from error
        raise


def _entry(stream_id: bytes, fields: dict[bytes, bytes] | None) -> Entry:
    try:
        request_id = UUID((fields or {})[b"request_id"].decode())
    except (KeyError, ValueError):
        request_id = None
    return Entry(stream_id.decode(), request_id)
