"""A client of the API that costs next to nothing, since it runs on the cores of what it measures.

httpx takes longer for a request than the web does for an answer from the cache. This one has a few connections, one
request on each at a time, and reads as much of HTTP/1.1 as gunicorn writes.
"""

import heapq
import json
import re
import selectors
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

# As many as the web has threads.
CONNECTIONS = 16
SILENCE_SECONDS = 30.0
# gunicorn closes a connection that was idle for two seconds.
IDLE_SECONDS = 1.0
RECEIVED_AT_ONCE = 65_536
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CLOSING = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)

Address = tuple[str, int]


@dataclass(frozen=True)
class Call:
    """A request. `cancel_after_seconds`: it places an order, which is cancelled so long after the answer."""

    method: str
    path: str
    token: str = ""
    body: dict[str, Any] | None = None
    cancel_after_seconds: float | None = None

    def encode(self) -> bytes:
        """Return what goes over the wire."""
        body = json.dumps(self.body).encode() if self.body is not None else b""
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: localhost", "Accept: application/json"]
        if self.token:
            lines.append(f"Authorization: Token {self.token}")
        if self.method != "GET":
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass
class Answers:
    """What came back: how many of each status for each method and path, and how long all of them took."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    # Of the cancels that followed orders.
    cancels: Counter[int] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        return self.statuses.total() / self.seconds


class Connection:
    """A connection and the request that is on its way."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._socket: socket.socket | None = None
        self._used_at = 0.0
        self._received = b""
        self.call: Call | None = None

    def send(self, call: Call, request: bytes) -> socket.socket:
        """Send a request, on a new connection where the old one may be closed by now. Return the socket."""
        if self._socket is None or time.monotonic() - self._used_at > IDLE_SECONDS:
            self.close()
            self._socket = socket.create_connection(self._address, SILENCE_SECONDS)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.call, self._received = call, b""
        self._socket.sendall(request)
        return self._socket

    def receive(self) -> tuple[int, bytes] | None:
        """Read what is there. Return the status and the body once the answer is whole."""
        assert self._socket is not None
        part = self._socket.recv(RECEIVED_AT_ONCE)
        if not part:
            raise ConnectionError(f"the web closed the connection before its answer to {self.call}")
        self._received += part
        head, separator, body = self._received.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if not separator or len(body) < (int(length[1]) if length else 0):
            return None
        self._used_at = 0.0 if CLOSING.search(head) else time.monotonic()
        return int(head[9:12]), body

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def send(address: Address, calls: Iterable[Call], *, connections: int = CONNECTIONS) -> Answers:
    """Make calls as fast as the answers come, and the cancels that follow when they are due. Return the answers."""
    return _Sending(address, ((call, call.encode()) for call in calls), connections).run()


def repeat(address: Address, calls: Iterable[Call], seconds: float, *, connections: int = CONNECTIONS) -> Answers:
    """Make the same calls again and again for so long. Return the answers."""
    encoded = [(call, call.encode()) for call in calls]

    def turns() -> Iterator[tuple[Call, bytes]]:
        end = time.monotonic() + seconds
        for number in count():
            if time.monotonic() > end:
                return
            yield encoded[number % len(encoded)]

    return _Sending(address, turns(), connections).run()


class _Sending:
    """Calls on their way."""

    def __init__(self, address: Address, calls: Iterator[tuple[Call, bytes]], connections: int) -> None:
        self._calls = calls
        self._selector = selectors.DefaultSelector()
        self._free = [Connection(address) for _ in range(connections)]
        self._busy = 0
        # Cancels, by when they are due; the number keeps two that are due at the same time apart.
        self._due: list[tuple[float, int, Call]] = []
        self._numbers = count()
        self._answers = Answers()

    def run(self) -> Answers:
        began_at = time.perf_counter()
        with self._selector:
            while self._start_what_can_be() or self._busy or self._due:
                self._take_answers()
        for connection in self._free:
            connection.close()
        self._answers.seconds = time.perf_counter() - began_at
        return self._answers

    def _start_what_can_be(self) -> bool:
        """Send on all free connections. Return whether something was sent."""
        sent = False
        while self._free and (following := self._following()) is not None:
            connection = self._free.pop()
            self._selector.register(connection.send(*following), selectors.EVENT_READ, connection)
            self._busy += 1
            sent = True
        return sent

    def _following(self) -> tuple[Call, bytes] | None:
        if self._due and self._due[0][0] <= time.monotonic():
            call = heapq.heappop(self._due)[2]
            return call, call.encode()
        return next(self._calls, None)

    def _take_answers(self) -> None:
        wait_seconds = SILENCE_SECONDS
        if self._due and self._free:
            wait_seconds = max(0.0, self._due[0][0] - time.monotonic())
        ready = self._selector.select(wait_seconds)
        if not ready and wait_seconds == SILENCE_SECONDS:
            raise TimeoutError(f"no answer within {SILENCE_SECONDS:.0f} s")
        for key, _ in ready:
            connection: Connection = key.data
            if (answer := connection.receive()) is not None:
                self._selector.unregister(key.fileobj)
                self._busy -= 1
                self._free.append(connection)
                self._note(connection.call, *answer)

    def _note(self, call: Call | None, status: int, body: bytes) -> None:
        assert call is not None
        if call.path.endswith("/cancel/"):
            self._answers.cancels[status] += 1
            return
        self._answers.statuses[status] += 1
        if call.cancel_after_seconds is not None and status == 202:
            path = f"{call.path}{json.loads(body)['id']}/cancel/"
            due_at = time.monotonic() + call.cancel_after_seconds
            heapq.heappush(self._due, (due_at, next(self._numbers), Call("POST", path, call.token, {})))
