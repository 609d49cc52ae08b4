"""Readers of the streams, as threads of the test's own process, and what they leave."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Thread

from django.db import connection

from coupons import stream
from coupons.models import Request
from coupons.reading import SEED, StreamReader
from outbox.worker import Stop

OWNERS = """
    SELECT pid, application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE datname = current_database() AND locktype = 'advisory'
      AND (classid::bigint << 32) + objid::bigint = hashtextextended(%s, %s)
"""


@contextmanager
def reading() -> Iterator[StreamReader]:
    """Let a reader run until the block ends. What it raises fails the test."""
    stop = Stop()
    reader = StreamReader(stop=stop)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            reader.run()
        except BaseException as error:
            errors.append(error)

    thread = Thread(target=run)
    thread.start()
    try:
        yield reader
    finally:
        stop.request()
        thread.join(20)
        assert not thread.is_alive()
        assert errors == []


def drain() -> None:
    """Decide what waits in Redis."""
    StreamReader(stop=Stop(), until_idle=True).run()


def push(requests: Sequence[Request]) -> None:
    """Put requests into the streams, as the web does after it has committed their rows."""
    for request in requests:
        stream.push(request.code, request.pk)


def owners(code: str = "TEN") -> list[tuple[int, str]]:
    """Return the sessions that hold a stream: process id and application name."""
    with connection.cursor() as cursor:
        cursor.execute(OWNERS, [code, SEED])
        return cursor.fetchall()


def answers(requests: Sequence[Request]) -> list[str]:
    """Return the statuses of requests, in their order."""
    now = Request.objects.in_bulk([request.pk for request in requests])
    return [str(now[request.pk].status) for request in requests]


def place(request: Request) -> tuple[int, ...]:
    """Return where the entry was in its stream by which a request was decided."""
    return tuple(map(int, request.stream_id.split("-")))


def in_order(code: str = "TEN") -> list[str]:
    """Return the statuses of all requests that were decided by the stream, in its order."""
    decided = Request.objects.filter(code=code).exclude(stream_id="")
    return [str(request.status) for request in sorted(decided, key=place)]


def is_first_come_first_served(code: str = "TEN") -> bool:
    """Return whether nobody got a coupon who came after one for whom none was left."""
    statuses = in_order(code)
    return "OUT_OF_STOCK" not in statuses or "SUCCESS" not in statuses[statuses.index("OUT_OF_STOCK") :]
