"""What every long-running command shares: stopping when asked to, and saying of a long outage only now and then."""

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Asked by a worker's loop between two steps: shall it end?"""

    def __init__(self) -> None:
        self.requested = False

    def request(self, signum: int = 0, frame: FrameType | None = None) -> None:
        self.requested = True

    def wait(self, seconds: float) -> None:
        """Block for `seconds`, or until shortly after a stop is requested."""
        end = time.monotonic() + seconds
        while not self.requested and (left := end - time.monotonic()) > 0:
            # Slept in slices, since a signal's handler does not end a sleep (PEP 475).
            time.sleep(min(left, 0.1))


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Give a Stop that SIGTERM and SIGINT request. For the main thread only."""
    stop = Stop()
    previous = {signum: signal.signal(signum, stop.request) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)


class OutageLog:
    """Warns of an outage when it begins, every 30 s while it lasts, and when it is over."""

    PERIOD_SECONDS = 30.0

    def __init__(self, logger: logging.Logger, what: str) -> None:
        self._logger, self._what = logger, what
        self._since: float | None = None
        self._said = 0.0

    def trouble(self, error: object) -> None:
        now = time.monotonic()
        if self._since is None:
            self._since = now
        elif now - self._said < self.PERIOD_SECONDS:
            return
        self._said = now
        self._logger.warning(
            "%s is unavailable, waiting for it",
            self._what,
            extra={"error": str(error).strip(), "seconds": round(now - self._since)},
        )

    def over(self) -> None:
        if self._since is not None:
            self._logger.info("%s is back", self._what, extra={"seconds": round(time.monotonic() - self._since)})
        self._since = None
