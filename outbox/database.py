"""PostgreSQL's errors told apart: what passes by itself, what can be repeated at once, what is the handler's fault."""

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
    if not isinstance(error, DatabaseError | InterfaceError):
        return False
    sqlstate = getattr(error.__cause__, "sqlstate", None)
    if sqlstate is None:
        # No answer of the server's at all: the connection could not be made, or broke.
        return isinstance(error, OperationalError | InterfaceError)
    return sqlstate.startswith(OUTAGE_SQLSTATES)
