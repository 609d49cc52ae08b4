"""What every long-running command shares: stopping when asked to, and saying of a long outage only now and then."""

import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread, Timer
from types import FrameType

logger = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# From the signal to the end of a process that hangs: the promise is 10 s.
DEADLINE_SECONDS = 6.0


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
def stop_on_signals(*, deadline_seconds: float = DEADLINE_SECONDS) -> Iterator[Stop]:
    """Give a Stop that SIGTERM and SIGINT request. For the main thread only.

    Where the block has not ended `deadline_seconds` after the signal, the process does, with exit code 0: an engine
    that hangs must not keep it, and what a process leaves behind that dies at any line is in order.
    """
    stop = Stop()
    previous = {signum: signal.signal(signum, stop.request) for signum in STOP_SIGNALS}
    try:
        with _deadline(deadline_seconds):
            yield stop
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    # The interpreter writes each signal's number to this socket at once, even while the main thread is in a call of
    # a driver written in C, where no handler of Python's runs.
    told, tell = socket.socketpair()
    tell.setblocking(False)
    previous = signal.set_wakeup_fd(tell.fileno(), warn_on_full_buffer=False)
    Thread(target=_end_after, args=(told, seconds), name="deadline", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        tell.close()


def _end_after(told: socket.socket, seconds: float) -> None:
    """End the process some seconds after a signal to stop, unless `told` is at its end before."""
    timer = None
    with told:
        while signums := told.recv(64):
            if timer is None and not set(STOP_SIGNALS).isdisjoint(signums):
                timer = Timer(seconds, _give_up)
                timer.daemon = True
                timer.start()
    if timer is not None:
        timer.cancel()


def _give_up() -> None:
    logger.error("an engine does not answer, the process ends without having taken leave of it")
    os._exit(0)


# New objects after which the garbage collector looks for cycles among them. A batch makes thousands, and no cycles.
GARBAGE_THRESHOLD = 100_000


def settle() -> None:
    """Spare the garbage collector what is loaded by now, since it will stay, and most of its looks at what comes."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)


class OutageLog:
    """Warns of an outage when it begins, every 30 s while it lasts, and when it is over."""

    PERIOD_SECONDS = 30.0

    def __init__(self, logger: logging.Logger, what: str) -> None:
        self._logger, self._what = logger, what
        self._since: float | None = None
        self._said = 0.0

    @property
    def lasts(self) -> bool:
        return self._since is not None

    def trouble(self, error: object) -> None:
        """Tell that the outage is there, or still there."""
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
        """Tell that there is none, or none any more."""
        if self._since is not None:
            self._logger.info("%s is back", self._what, extra={"seconds": round(time.monotonic() - self._since)})
        self._since = None
