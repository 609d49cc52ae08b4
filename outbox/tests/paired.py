"""A group with something beside its consumers: a clerk that does tasks, which are rows. For the tests of this app."""

import os
import threading

from django.db import connection

from outbox import consumer_group, handles
from outbox.tests.sample import ThingCounted, write
from outbox.watching.health import Health
from outbox.worker import Stop

TAKE = """
    UPDATE sample_task SET done_by = %s WHERE id = (
        SELECT id FROM sample_task WHERE done_by IS NULL ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING what
"""


def make_table() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS sample_task")
        cursor.execute("CREATE TABLE sample_task (id bigserial, what text, done_by int)")


def add(*tasks: str) -> None:
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO sample_task (what) VALUES (%s)", [(task,) for task in tasks])


def done() -> list[tuple[str, int]]:
    """Return the tasks that were taken, and the processes that took them."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT what, done_by FROM sample_task WHERE done_by IS NOT NULL ORDER BY id")
        return cursor.fetchall()


class Clerk:
    """Takes tasks. Those named "raise", "hang", "stand still" and "complain" do as they say."""

    def __init__(self, *, stop: Stop, until_idle: bool) -> None:
        self._stop, self._until_idle = stop, until_idle
        self._health = Health(silence_seconds=1)
        self._complaint: str | None = None

    def run(self) -> None:
        while not self._stop.requested:
            self._health.beat()
            with connection.cursor() as cursor:
                cursor.execute(TAKE, (os.getpid(),))
                taken = cursor.fetchone()
            if taken:
                self._do(taken[0])
            elif self._until_idle:
                return
            else:
                self._stop.wait(0.02)

    def _do(self, task: str) -> None:
        self._complaint = None
        match task:
            case "raise":
                raise ValueError("a task that cannot be done")
            case "hang":
                self._stop.wait(60)
            case "stand still":
                threading.Event().wait()
            case "complain":
                self._complaint = "there is no paper"

    def hung(self) -> str | None:
        return self._health.hung()

    def not_ready(self) -> str | None:
        return self._complaint


consumer_group("paired", beside=Clerk)


@handles(ThingCounted, group="paired", bulk=True)
def count(events: list[ThingCounted]) -> None:
    for event in events:
        write(event.thing, event.number)
