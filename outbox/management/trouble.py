"""An engine's trouble, as a command tells it to the person who called it."""

from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import KafkaException
from django.core.management import CommandError
from django.db import DatabaseError, InterfaceError

from outbox.database import is_outage
from outbox.transactions import Outage


@contextmanager
def told_in_a_line() -> Iterator[None]:
    """Let a command end with one line, and not with a traceback, when PostgreSQL or Kafka is in trouble.

    Raises:
        CommandError: it is.
    """
    try:
        yield
    except Outage as error:
        raise _unavailable(error) from error
    except (DatabaseError, InterfaceError) as error:
        if not is_outage(error):
            raise
        raise _unavailable(error) from error
    except KafkaException as error:
        raise CommandError(f"Kafka: {error.args[0].str()}") from error


def _unavailable(error: Exception) -> CommandError:
    # libpq tells of each address that it tried, in a line of its own.
    return CommandError(f"PostgreSQL is unavailable, try again later: {' '.join(str(error).split())}")
