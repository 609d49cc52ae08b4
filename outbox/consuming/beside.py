"""What else the workers of a group do, beside Kafka: in a thread of each process that consumes for the group."""

from threading import Thread
from typing import Protocol

from django.db import connections

from outbox.worker import DEADLINE_SECONDS, Stop

# How often is looked whether the thread has ended.
LOOK_SECONDS = 0.1


class Worker(Protocol):
    """What a process does until it is stopped, or until nothing is left to be done."""

    def run(self) -> None:
        """Work. Blocks. After what it raises the process ends with an error, and a supervisor starts it again."""

    def hung(self) -> str | None:
        """Return what is wrong, or None while the loop turns. For any thread."""

    def not_ready(self) -> str | None:
        """Return why nothing can be done, or None. For any thread."""


class Beside(Protocol):
    """Makes what works beside a consumer. With `until_idle` it ends when nothing is left to be done."""

    def __call__(self, *, stop: Stop, until_idle: bool) -> Worker: ...


class Both:
    """A consumer, and what works beside it, as one worker."""

    def __init__(self, consumer: Worker, beside: Worker, *, stop: Stop) -> None:
        self._consumer, self._beside, self._stop = consumer, beside, stop
        self._thread = Thread(target=self._run_beside, name="beside", daemon=True)
        self._consumes = True
        self._error: BaseException | None = None

    def run(self) -> None:
        """Run both until each has ended. Blocks. Where one raises, the other is stopped, and the error raised again."""
        self._thread.start()
        try:
            self._consumer.run()
        except BaseException:
            self._stop.request()
            raise
        finally:
            self._consumes = False
            self._wait()
        if self._error is not None:
            raise self._error

    def _run_beside(self) -> None:
        try:
            self._beside.run()
        except BaseException as error:
            self._error = error
            self._stop.request()
        finally:
            connections.close_all()

    def _wait(self) -> None:
        """Wait for the thread: without a limit while it may work, and no longer than it may take to stop."""
        while self._thread.is_alive() and not self._stop.requested:
            self._thread.join(LOOK_SECONDS)
        self._thread.join(DEADLINE_SECONDS)

    def hung(self) -> str | None:
        return (self._consumer.hung() if self._consumes else None) or (
            self._beside.hung() if self._thread.is_alive() else None
        )

    def not_ready(self) -> str | None:
        return self._consumer.not_ready() or self._beside.not_ready()
