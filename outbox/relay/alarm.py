"""Says in the relay's log that events wait for too long. The metrics and consumer_lag say it too."""

import logging
import time
from typing import Any

import psycopg

from outbox import conf
from outbox.watching.gauges import OLDEST_AGE

# How often the age is looked at, and how often it is told of while it is too high.
LOOK_SECONDS, PERIOD_SECONDS = 5.0, 60.0


class Alarm:
    """Warns while the oldest unpublished event is older than ALARM_SECONDS, and says when that is over."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._look_at = 0.0
        # When it was told of; None while all is well.
        self._told_at: float | None = None

    def look(self, db: psycopg.Connection[Any]) -> None:
        """Look at the age, unless that was done LOOK_SECONDS ago or less. Raises what psycopg raises."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        row = db.execute(OLDEST_AGE).fetchone()
        age = row[0] if row else 0.0
        if age <= conf.get("ALARM_SECONDS"):
            if self._told_at is not None:
                self._logger.info("no event waits for too long any more")
            self._told_at = None
        elif self._told_at is None or now - self._told_at >= PERIOD_SECONDS:
            self._told_at = now
            self._logger.warning("an event waits to be sent for longer than it should", extra={"seconds": round(age)})
