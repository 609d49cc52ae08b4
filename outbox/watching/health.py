"""What others ask a worker over HTTP: does it live, can it work, what has it done. Served on --health-port.

On all interfaces, since who asks is another machine as a rule: the port belongs behind the firewall. It answers GET and
HEAD, changes nothing, and shows names of topics and groups, but nothing of an event.
"""

import logging
import os
import threading
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from itertools import chain
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Protocol

from django.core.management.base import CommandError
from prometheus_client import REGISTRY, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

logger = logging.getLogger(__name__)

# A loop that was silent for so long hangs. Longer than any batch, and than any wait for an engine between two looks.
SILENCE_SECONDS = 60.0
# How long a client may take over its request, and over reading the answer.
CLIENT_SECONDS = 5.0


class Collector(Protocol):
    """What gives metrics when it is asked: a registry of prometheus_client, or one of its collectors."""

    def collect(self) -> Iterable[Metric]: ...


class Health:
    """The heartbeat of a worker's loop, which calls `beat` at each turn. Any thread may ask whether it hangs."""

    def __init__(self, *, silence_seconds: float = SILENCE_SECONDS) -> None:
        self._silence_seconds = silence_seconds
        self._beat_at = time.monotonic()

    def beat(self) -> None:
        self._beat_at = time.monotonic()

    def hung(self) -> str | None:
        """Return what is wrong, or None while the loop turns."""
        silent = time.monotonic() - self._beat_at
        return f"the main loop has been silent for {silent:.0f} s" if silent > self._silence_seconds else None


def process_metrics() -> Collector:
    """Return the metrics of this process; where PROMETHEUS_MULTIPROC_DIR is set, of all that share that folder."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        collector: Collector = MultiProcessCollector(None)
        return collector
    return REGISTRY


def always_ready() -> str | None:
    """Return that nothing is wrong."""
    return None


@contextmanager
def serve(
    port: int | None,
    *,
    hung: Callable[[], str | None],
    not_ready: Callable[[], str | None] = always_ready,
    metrics: Sequence[Collector] | None = None,
) -> Iterator[int | None]:
    """Answer /healthz, /readyz and /metrics on `port` while the block runs; without a port (None) nothing is served.

    Port 0 takes a free one; the block is given the port's number. `hung` and `not_ready` return what is wrong, in
    words, or None; they and `metrics` (default: those of the process) are asked in threads of the server's.

    Raises:
        CommandError: the port cannot be had.
    """
    if port is None:
        yield None
        return
    pages = _Pages(hung, not_ready, [process_metrics()] if metrics is None else metrics)
    try:
        server = _Server(("", port), pages)
    except OSError as error:
        raise CommandError(f"port {port}: {error.strerror}") from error
    # The poll is how long the end of the block waits.
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="health", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def add_health_argument(parser: ArgumentParser) -> None:
    """Let a command take --health-port."""
    parser.add_argument(
        "--health-port",
        type=_port,
        metavar="N",
        help="serve /healthz, /readyz and /metrics on this port, on all interfaces",
    )


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65_536:
        raise ArgumentTypeError(f"{text!r} is not a port (1 to 65535)")
    return int(text)


class _Pages:
    """What is answered: status, content type and body by path."""

    def __init__(
        self, hung: Callable[[], str | None], not_ready: Callable[[], str | None], metrics: Sequence[Collector]
    ) -> None:
        self._hung, self._not_ready, self._metrics = hung, not_ready, metrics

    def answer(self, path: str, accept: str) -> tuple[int, str, bytes]:
        match path:
            case "/healthz":
                return self._say(self._hung())
            case "/readyz":
                return self._say(self._hung() or self._not_ready())
            case "/metrics":
                encode, content_type = choose_encoder(accept)
                return 200, content_type, encode(self)
        return 404, "text/plain; charset=utf-8", b"there are /healthz, /readyz and /metrics\n"

    def collect(self) -> Iterable[Metric]:
        return chain.from_iterable(source.collect() for source in self._metrics)

    def _say(self, wrong: str | None) -> tuple[int, str, bytes]:
        return 503 if wrong else 200, "text/plain; charset=utf-8", f"{wrong or 'ok'}\n".encode()


class _Server(ThreadingMixIn, TCPServer):
    # Not http.server's: it asks the DNS for the machine's name before it answers anything.
    allow_reuse_address = True
    daemon_threads = True
    # Workers stop within 10 s, whatever a client is doing.
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], pages: _Pages) -> None:
        self.pages = pages
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep silent: what comes here is a client that went away."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = CLIENT_SECONDS
    server_version, sys_version = "outbox", ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        try:
            status, content_type, body = self.server.pages.answer(path, self.headers.get("Accept", ""))
        except Exception as error:
            logger.exception("a page of the worker's health failed", extra={"path": path})
            status, content_type, body = 500, "text/plain; charset=utf-8", f"{type(error).__name__}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Keep silent: a line each few seconds tells nobody anything."""
