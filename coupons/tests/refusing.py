"""A database that refuses to answer somebody, so that the processor fails for good at their requests."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

from accounts.models import User


@contextmanager
def refused(user: User) -> Iterator[None]:
    """Let PostgreSQL refuse any answer to a user but that there is none, until the block ends."""
    rule = f"user_id <> '{user.pk}' OR status IN ('QUEUED', 'SYSTEM_ERROR')"
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE coupons_request ADD CONSTRAINT no_answer CHECK ({rule}) NOT VALID")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE coupons_request DROP CONSTRAINT no_answer")
