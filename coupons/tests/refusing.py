"""A database that refuses to answer somebody, so that the processor fails for good at their requests."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from django.db import connection

from accounts.models import User


def refused(user: User) -> AbstractContextManager[None]:
    """Let PostgreSQL refuse any answer to a user but that there is none, until the block ends."""
    return _without_answers(f"user_id <> '{user.pk}' OR status IN ('QUEUED', 'SYSTEM_ERROR')")


def nobody_answered() -> AbstractContextManager[None]:
    """Likewise, to anybody."""
    return _without_answers("status IN ('QUEUED', 'SYSTEM_ERROR')")


@contextmanager
def _without_answers(rule: str) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE coupons_request ADD CONSTRAINT no_answer CHECK ({rule}) NOT VALID")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE coupons_request DROP CONSTRAINT no_answer")
