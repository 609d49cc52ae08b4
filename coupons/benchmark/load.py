"""Users who ask for a coupon over HTTP, each once, all as fast as they can.

Each connection is a thread of its own with the client of the standard library, since this runs on the cores of what it
measures: a request takes it 0.1 ms, and httpx with so many connections 2 ms.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from threading import Barrier
from uuid import UUID

from django.utils import timezone

from coupons.benchmark.crew import LOOPBACK

SILENCE_SECONDS = 30.0
LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Answer:
    """What the web said, so long after the load began; status 0: nothing. `code` tells why it refused."""

    at_seconds: float
    latency_seconds: float
    status: int
    code: str = ""
    request_id: UUID | None = None


class Load:
    """Requests for a coupon that wait to be sent, and the answers."""

    def __init__(self, port: int, code: str, tokens: Sequence[str], connections: int) -> None:
        self._port, self._path = port, f"/api/v1/coupons/{code}/issue/"
        self._tokens = deque(tokens)
        self.answers: list[Answer] = []
        self._connections = min(connections, len(tokens))
        # By the clock, and by the one that only counts.
        self.began_at = timezone.now()
        self._began_at = 0.0
        # They begin together, when all are connected.
        self._start = Barrier(self._connections, action=self._begin)

    def send(self, watch: Callable[[], None]) -> None:
        """Send all, until all are answered. Blocks; asks `watch` meanwhile, and raises what it raises."""
        with ThreadPoolExecutor(self._connections) as pool:
            threads = [pool.submit(self._ask_one_after_another) for _ in range(self._connections)]
            try:
                while wait(threads, LOOK_SECONDS).not_done:
                    watch()
            finally:
                # What is on its way is still answered, or not.
                self._tokens.clear()
                self._start.abort()
            for thread in threads:
                thread.result()

    def seconds(self) -> float:
        """Return how long ago the load began."""
        return time.perf_counter() - self._began_at

    def _begin(self) -> None:
        self.began_at, self._began_at = timezone.now(), time.perf_counter()

    def _ask_one_after_another(self) -> None:
        with closing(HTTPConnection(LOOPBACK, self._port, timeout=SILENCE_SECONDS)) as connection:
            connection.connect()
            self._start.wait(SILENCE_SECONDS)
            while True:
                try:
                    token = self._tokens.popleft()
                except IndexError:
                    return
                self.answers.append(self._ask(connection, token))

    def _ask(self, connection: HTTPConnection, token: str) -> Answer:
        sent_at = time.perf_counter()
        status, body = 0, b"{}"
        try:
            connection.request("POST", self._path, headers={"Authorization": f"Token {token}"})
            response = connection.getresponse()
            status, body = response.status, response.read()
        except (OSError, HTTPException):
            # It connects again for the next one.
            connection.close()
        latency_seconds = time.perf_counter() - sent_at
        said = json.loads(body) if status in (202, 409) else {}
        request_id = UUID(said["request_id"]) if status == 202 else None
        return Answer(self.seconds(), latency_seconds, status, said.get("code", ""), request_id)
