"""Crashes: the connection to PostgreSQL breaks in the middle of a transaction, and what runs on it ends there."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db.backends.base.base import BaseDatabaseWrapper

# Where applying an event can crash, in order. After the last one the offset is not committed yet.
STEPS = ("before the inbox", "before the handler", "after the handler", "before the commit", "after the commit")

INBOX_INSERT = re.compile(r'INSERT INTO "?outbox_inboxevent\b')


class Crash(BaseException):
    """The process is gone. No `except Exception` goes on after it."""


@contextmanager
def crashing(step: str, connection: BaseDatabaseWrapper) -> Iterator[Callable[[str], None]]:
    """End the block where it comes to a step, with the connection closed; what it had not committed is undone.

    Gives the function that is to be called at the steps which are no statement on the connection: the handler's.

    Raises:
        ValueError: there is no such step.
        RuntimeError: a transaction is open already, so that the block could commit nothing.
        AssertionError: the block never came to the step.
    """
    if step not in STEPS:
        raise ValueError(f"no step {step!r}; there are {', '.join(STEPS)}")
    if connection.in_atomic_block:
        raise RuntimeError(
            "a crash needs real commits, and a transaction is open around it: "
            "mark the test with @pytest.mark.django_db(transaction=True)"
        )

    def reached(here: str) -> None:
        if here == step:
            connection.close()
            raise Crash(step)

    def execute(run: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if INBOX_INSERT.search(sql):
            reached("before the inbox")
        return run(sql, *rest)

    commit = connection.commit

    def commit_or_crash() -> None:
        reached("before the commit")
        commit()
        reached("after the commit")

    with pytest.MonkeyPatch.context() as patch, connection.execute_wrapper(execute):
        patch.setattr(connection, "commit", commit_or_crash)
        try:
            yield reached
        except Crash:
            return
    raise AssertionError(f"there was no crash: nothing came to the step {step!r}")
