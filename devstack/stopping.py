"""What asks a stack to stop: SIGINT, SIGTERM, or the end of the parent process."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from types import TracebackType


class StopRequests:
    """Turns the first request into the cancellation of the current task; each later one calls `hurry`.

    Used as `with StopRequests() as requests`; `requests.received` is the signal that came first.
    """

    def __init__(self, *, with_parent: bool = False) -> None:
        self._with_parent = with_parent
        self.received: int | None = None
        self.hurry: Callable[[], None] = lambda: None

    def __enter__(self) -> "StopRequests":
        self._main = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._request, number)
        self._watch = loop.create_task(self._watch_parent(os.getppid())) if self._with_parent else None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watch:
            self._watch.cancel()

    def to_forward(self) -> int:
        """Name the signal that a command in the foreground has yet to get: 0 after Ctrl-C, which it got as well."""
        from_terminal = self.received == signal.SIGINT and sys.stdin.isatty()
        return 0 if from_terminal or self.received is None else self.received

    def _request(self, number: int) -> None:
        if self.received is not None:
            self.hurry()
            return
        self.received = number
        assert self._main
        self._main.cancel()

    async def _watch_parent(self, parent: int) -> None:
        while os.getppid() == parent:
            await asyncio.sleep(0.2)
        self._request(signal.SIGTERM)
