"""The relay: sends committed outbox rows to Kafka, in order. Run with: manage.py relay_outbox

Any number of relays share the keys (shares.py). While some batches are with Kafka (sender.py) the next one is read, and
the same statement deletes what was acknowledged (backlog.py); no transaction is open meanwhile. A row leaves the outbox
only when its own report says that Kafka has it, so what is unclear is sent again.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import connections, router

from outbox.database import connection_parameters, is_outage
from outbox.models import OutboxEvent
from outbox.relay.alarm import Alarm
from outbox.relay.backlog import BATCH_SIZE
from outbox.relay.session import Session
from outbox.watching.health import Health
from outbox.worker import OutageLog, Stop

logger = logging.getLogger(__name__)

# Pause before a new connection after trouble.
RESTART_SECONDS = 1.0

# No plan is better than the primary key in its order. PostgreSQL may think otherwise of a table that was empty when it
# was last analysed.
SESSION = "SET enable_seqscan = off; SET enable_sort = off; SET jit = off; LISTEN outbox"


class Relay:
    """One relay. `run` lives through the trouble of both engines."""

    def __init__(self, *, batch_size: int = BATCH_SIZE) -> None:
        self._batch_size = batch_size
        self._database = OutageLog(logger, "PostgreSQL")
        self._kafka = OutageLog(logger, "Kafka")
        self._alarm = Alarm(logger)
        self.health = Health()

    def not_ready(self) -> str | None:
        """Return why nothing can be sent now, or None. Any thread may ask."""
        away = [name for name, outage in (("PostgreSQL", self._database), ("Kafka", self._kafka)) if outage.lasts]
        return f"{' and '.join(away)} does not answer" if away else None

    def run(self, stop: Stop, *, once: bool = False) -> int:
        """Send until stopped, or with `once` until nothing is left that can be sent now. Return how many were sent.

        Blocks. PostgreSQL's and Kafka's trouble is waited out.
        """
        sent = 0
        while not stop.requested:
            try:
                with self._connected() as db:
                    self._database.over()
                    for number in Session(db, self._kafka, stop, once=once, batch_size=self._batch_size).run():
                        sent += number
                        self.health.beat()
                        self._alarm.look(db)
                return sent
            except psycopg.Error as error:
                if not is_outage(error):
                    raise
                self._database.trouble(error)
                self.health.beat()
                stop.wait(RESTART_SECONDS)
        return sent

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[Any]]:
        parameters = connection_parameters(connections[router.db_for_write(OutboxEvent)])
        with psycopg.connect(**{"connect_timeout": 5, **parameters, "autocommit": True}) as db:
            db.execute(SESSION)
            yield db
