"""PostgreSQL, as this app uses it: its errors told apart, and a cursor for what is large."""

from typing import Any

import psycopg
from django.db import DatabaseError, InterfaceError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from psycopg import errors

# Repeated at once: the transaction would succeed alone.
REPEATABLE = (errors.SerializationFailure, errors.DeadlockDetected)

# Classes of PostgreSQL's Appendix A: 08 connection exception, 53 insufficient resources (disk full, out of memory, too
# many connections), 57P shutting or starting up, 58 system error. 25006: the server is a standby during a failover.
# 55P03: a lock was not to be had within lock_timeout: somebody else is in the way, and waiting helps. Not so 57014, a
# statement that took longer than statement_timeout: the event in hand may well be why, and a smaller batch the cure.
OUTAGE_SQLSTATES = ("08", "53", "57P", "58", "25006", "55P03")


def binary_cursor(db: BaseDatabaseWrapper) -> CursorWrapper:
    """Return a cursor that sends parameters apart from the statement, and those of %b as bytes.

    Django's own writes them into the statement, as text: of large arrays that takes three times as long.
    """
    db.ensure_connection()
    cursor: Any = psycopg.Cursor(db.connection)
    return db.make_debug_cursor(cursor) if db.queries_logged else db.make_cursor(cursor)


def connection_parameters(db: BaseDatabaseWrapper) -> dict[str, Any]:
    """Return what psycopg.connect() needs for a connection of its own to Django's database."""
    parameters = db.get_connection_params()
    for django_only in ("cursor_factory", "context", "prepare_threshold"):
        parameters.pop(django_only, None)
    return parameters


def is_repeatable(error: BaseException) -> bool:
    """Return whether a transaction lost to a concurrent one, so that repeating it at once is right."""
    return isinstance(error.__cause__, REPEATABLE)


def is_outage(error: BaseException) -> bool:
    """Return whether an error says nothing of the event in hand, only that an engine or the machine is in trouble."""
    if isinstance(error, MemoryError):
        return True
    # Django's errors are raised from psycopg's.
    cause = error.__cause__ if isinstance(error, DatabaseError | InterfaceError) else error
    if isinstance(cause, psycopg.Error) and cause.sqlstate is not None:
        return cause.sqlstate.startswith(OUTAGE_SQLSTATES)
    # No answer of the server's at all: the connection could not be made, or broke.
    unanswered = OperationalError | InterfaceError | psycopg.OperationalError | psycopg.InterfaceError
    return isinstance(error, unanswered)
