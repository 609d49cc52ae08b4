"""PostgreSQL's advisory locks of a connection: how few processes at a time work on what many are called to."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection


@contextmanager
def a_place(key: int, *, places: int = 1) -> Iterator[bool]:
    """Hold one of so many places until the block ends; give whether one was free. Does not wait.

    The places are the advisory locks from `key` on. A place is free again when its connection ends, if not before.
    """
    with connection.cursor() as cursor:
        held = None
        for place in range(key, key + places):
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [place])
            [is_ours] = cursor.fetchone()
            if is_ours:
                held = place
                break
        try:
            yield held is not None
        finally:
            if held is not None:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [held])
