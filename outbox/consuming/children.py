"""One command as several processes: a parent that starts its own command line again as children, and tends them.

A child makes its clients and connections after its start, so nothing is shared. Over a socket of its own it tells the
parent how it is; when that is closed, the parent is gone, and the child ends too.
"""

import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from prometheus_client.multiprocess import mark_process_dead

from outbox.worker import DEADLINE_SECONDS, Stop

logger = logging.getLogger(__name__)

# From the death of a child to its next start: doubled with each death, and the least again after a long life.
RESTART_SECONDS, RESTART_MAX_SECONDS = 0.5, 15.0
LONG_LIFE_SECONDS = 60.0
# How often a child tells how it is, and the silence after which its parent says that it hangs.
REPORT_SECONDS, SILENCE_SECONDS = 1.0, 10.0
# How long children may take to end after they were told to: a moment longer than they allow themselves.
PATIENCE_SECONDS = DEADLINE_SECONDS + 0.3
# When the parent ends in any case, so that it is within the 10 s that are promised.
PARENT_DEADLINE_SECONDS = DEADLINE_SECONDS + 0.7


class Report(msgspec.Struct):
    """What a child tells: None where nothing is wrong."""

    hung: str | None
    not_ready: str | None


@contextmanager
def reporting(told: int, *, hung: Callable[[], str | None], not_ready: Callable[[], str | None]) -> Iterator[None]:
    """In a child: tell the parent how this process is while the block runs, and stop when the parent is gone.

    `told` is the number of the socket's file that the parent gave as --child.
    """
    parent = socket.socket(fileno=told)
    parent.settimeout(REPORT_SECONDS)

    def report() -> None:
        while True:
            try:
                parent.sendall(msgspec.json.encode(Report(hung(), not_ready())) + b"\n")
                gone = parent.recv(1) == b""
            except TimeoutError:
                continue
            except OSError:
                gone = True
            if gone:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    threading.Thread(target=report, name="report", daemon=True).start()
    yield


class Children:
    """The processes of a parent. For one thread, but for `hung` and `not_ready`."""

    def __init__(self, count: int, *, stop: Stop, until_idle: bool, metrics: Path | None) -> None:
        """`metrics` is the folder where they keep what they measure, for the parent to serve."""
        self._stop, self._metrics = stop, metrics
        self._selector = selectors.DefaultSelector()
        self._children = [_Child(number, until_idle=until_idle) for number in range(1, count + 1)]

    def run(self) -> int:
        """Tend the children until stopped, or until all have ended by themselves, which they do with `until_idle`.

        Blocks. Return how many have failed.
        """
        try:
            while not self._stop.requested and not all(child.is_done for child in self._children):
                for child in self._children:
                    if child.is_due:
                        self._selector.register(child.start(self._metrics), selectors.EVENT_READ, child)
                for key, _ in self._selector.select(0.2):
                    self._hear(key.data)
        finally:
            self._end()
        return sum(child.has_failed for child in self._children)

    def hung(self) -> str | None:
        """Return which child hangs, or None."""
        return next(filter(None, (child.hung() for child in self._children)), None)

    def not_ready(self) -> str | None:
        """Return which child cannot work and why, or None."""
        return next(filter(None, (child.not_ready() for child in self._children)), None)

    def _hear(self, child: "_Child") -> None:
        if not child.hear():
            self._selector.unregister(child.socket)
            child.bury(self._metrics)

    def _end(self) -> None:
        """Let all children stop, and kill who does not in time."""
        running = [child.process for child in self._children if child.process is not None]
        for process in running:
            # Each handles it as if it had been sent to it alone.
            process.terminate()
        until = time.monotonic() + PATIENCE_SECONDS
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
            process.kill()
        self._selector.close()


class _Child:
    """One process after the other in one place."""

    def __init__(self, number: int, *, until_idle: bool) -> None:
        self._number, self._until_idle = number, until_idle
        self.process: subprocess.Popen[bytes] | None = None
        self.socket: socket.socket
        # It ended by itself, and no other takes its place.
        self.is_done = self.has_failed = False
        self._start_at, self._pause_seconds = 0.0, RESTART_SECONDS
        self._started_at = self._heard_at = time.monotonic()
        self._heard: Report | None = None
        self._received = b""

    @property
    def is_due(self) -> bool:
        return self.process is None and not self.is_done and time.monotonic() >= self._start_at

    def start(self, metrics: Path | None) -> socket.socket:
        """Start the process, and return the socket over which it reports."""
        self.socket, theirs = socket.socketpair()
        self.socket.setblocking(False)
        # The last of an option given twice counts. Not sys.argv: of `python -m` and `-c` that does not hold all.
        command = [sys.executable, *sys.orig_argv[1:], "--processes=1", f"--child={theirs.fileno()}"]
        environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(metrics)} if metrics else None
        with theirs:
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment)
        self._started_at = self._heard_at = time.monotonic()
        self._heard, self._received = None, b""
        return self.socket

    def hear(self) -> bool:
        """Take in what the process reports. Return False where it has ended."""
        try:
            received = self.socket.recv(65_536)
        except ConnectionResetError:
            received = b""
        *lines, self._received = (self._received + received).split(b"\n")
        if lines:
            # Cut off where this process was stopped for so long that the socket was full.
            with suppress(msgspec.DecodeError):
                self._heard = msgspec.json.decode(lines[-1], type=Report)
            self._heard_at = time.monotonic()
        return received != b""

    def bury(self, metrics: Path | None) -> None:
        """Decide, of a process that has ended, whether another takes its place, and when."""
        assert self.process is not None
        code = self.process.wait()
        self.socket.close()
        self._heard = None
        if metrics:
            mark_process_dead(self.process.pid, str(metrics))
        self.process = None
        # By a signal it was killed; any other end is its own.
        if self._until_idle and code >= 0:
            self.is_done, self.has_failed = True, code > 0
            return
        if time.monotonic() - self._started_at > LONG_LIFE_SECONDS:
            self._pause_seconds = RESTART_SECONDS
        logger.error(
            "a process has died and is started again",
            extra={"child": self._number, "exit_code": code, "seconds": self._pause_seconds},
        )
        self._start_at = time.monotonic() + self._pause_seconds
        self._pause_seconds = min(2 * self._pause_seconds, RESTART_MAX_SECONDS)

    def hung(self) -> str | None:
        silent = time.monotonic() - self._heard_at
        if self.process is None or self._heard is None:
            return None
        if silent > SILENCE_SECONDS:
            return f"process {self._number} has been silent for {silent:.0f} s"
        return self._named(self._heard.hung)

    def not_ready(self) -> str | None:
        if self.is_done:
            return None
        return self._named("has not started yet" if self._heard is None else self._heard.not_ready)

    def _named(self, reason: str | None) -> str | None:
        return f"process {self._number}: {reason}" if reason else None
