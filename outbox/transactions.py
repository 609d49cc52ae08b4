"""A transaction as the workers make it: repeated where it lost to a concurrent one, an outage told from a failure."""

from collections.abc import Callable
from typing import TypeVar

from django.db import connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.pq import TransactionStatus

from outbox.database import is_outage, is_repeatable
from outbox.models import InboxEvent

Result = TypeVar("Result")

# A worker that hangs in the middle of a transaction (stopped, swapped out, cut off) keeps its locks, and whoever takes
# over waits for them, until PostgreSQL ends it after so long without a statement.
IDLE_SECONDS = 15
LIMIT_IDLENESS = "SELECT set_config('idle_in_transaction_session_timeout', %s, true)"

# How often a transaction that lost to a concurrent one is repeated before that counts as a failure.
REPEATS = 10


class NotApplied(Exception):
    """What was in hand was not written, and no try was burnt: it is to be applied later."""


class Outage(NotApplied):
    """PostgreSQL or the machine is in trouble."""


class Overtaken(Exception):
    """Something came in between that the transaction has to see from its beginning: it is to be repeated at once."""


class Undone(Exception):
    """The transaction cannot be committed any more, though nothing was raised."""


def database() -> BaseDatabaseWrapper:
    """Return this thread's connection to the database in which this app's tables are."""
    return connections[router.db_for_write(InboxEvent)]


def transact(act: Callable[[], Result]) -> Result:
    """Call `act` in a transaction and return what it returns; at once again where it lost to a concurrent one.

    Raises:
        Outage: PostgreSQL or the machine is in trouble.
    """
    for _ in range(REPEATS):
        try:
            return _transact_once(act)
        except Overtaken:
            continue
        except Exception as error:
            if not is_repeatable(error):
                raise
    return _transact_once(act)


def _transact_once(act: Callable[[], Result]) -> Result:
    try:
        with transaction.atomic(using=database().alias):
            with database().cursor() as cursor:
                cursor.execute(LIMIT_IDLENESS, [f"{IDLE_SECONDS}s"])
            return act()
    except NotApplied:
        raise
    except Exception as error:
        if is_outage(error):
            raise Outage(str(error)) from error
        raise


def attempt(act: Callable[[], object]) -> Exception | None:
    """Call `act` inside the open transaction, or return the error and leave nothing of it.

    Raises what says nothing of what it does: an outage, a transaction that lost to a concurrent one.
    """
    try:
        with transaction.atomic(using=database().alias):
            act()
            check_deferred_constraints()
    except NotApplied:
        raise
    except Exception as error:
        if is_outage(error) or is_repeatable(error):
            raise
        return error
    return None


def check_that_it_commits() -> None:
    """Raise now if the open transaction cannot be committed, for a COMMIT would undo it without a word.

    Raises:
        Outage: the connection broke.
        Undone: an error of the database's was caught, and work went on; or the connection was closed.
    """
    db = database()
    if db.connection is not None and db.connection.broken:
        raise Outage("the connection to PostgreSQL broke")
    if (
        db.needs_rollback
        or db.closed_in_transaction
        or db.connection.info.transaction_status != TransactionStatus.INTRANS
    ):
        raise Undone(
            "an error of the database's was caught and not raised again, or the connection was closed: "
            "nothing that was written can be committed. Put what may fail into a transaction.atomic of its own."
        )


def check_deferred_constraints() -> None:
    """Raise now what deferred constraints would raise at the commit. They stay deferred."""
    alias = database().alias
    # Undone, since it would hold for the rest of the transaction, and for handlers that rely on their being deferred.
    with transaction.atomic(using=alias):
        with database().cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        transaction.set_rollback(True, using=alias)
