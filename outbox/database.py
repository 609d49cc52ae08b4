"""PostgreSQL's errors told apart: what passes by itself, what can be repeated at once, what is the handler's fault."""

import psycopg
from django.db import DatabaseError, InterfaceError, OperationalError
from psycopg import errors

# Repeated at once: the transaction would succeed alone.
REPEATABLE = (errors.SerializationFailure, errors.DeadlockDetected)

# Classes of PostgreSQL's Appendix A: 08 connection exception, 53 insufficient resources (disk full, out of memory, too
# many connections), 57P shutting or starting up, 58 system error. 25006: the server is a standby during a failover.
OUTAGE_SQLSTATES = ("08", "53", "57P", "58", "25006")


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
