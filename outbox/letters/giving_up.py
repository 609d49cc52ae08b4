"""Giving an event up: whoever waits for it is told, by the function that `outbox.handles` was given as `given_up`."""

import logging

from outbox.context import handling
from outbox.record import Reading
from outbox.transactions import attempt, check_that_it_commits

logger = logging.getLogger(__name__)


def tell(group: str, reading: Reading) -> bool:
    """Tell that a group gives up an event, in the open transaction. Return whether anybody wanted to know, and does.

    Raises what says nothing of the event: an outage, a transaction that lost to a concurrent one.
    """
    handler, event = reading.handler, reading.event
    if event is None or handler is None or handler.given_up is None:
        return False
    given_up = handler.given_up

    def act() -> None:
        with handling(group, [reading]):
            given_up(event)
        check_that_it_commits()

    error = attempt(act)
    if error is not None:
        # To repeat it would keep the letter from its end for as long as the code is wrong.
        logger.error(
            "nobody could be told that an event is given up",
            exc_info=error,
            extra={"group": group, "event_id": str(reading.event_id), "event_type": reading.event_type},
        )
    return error is None
