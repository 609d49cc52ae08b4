"""The processes that work for the benchmark: started, watched, and stopped whatever happens."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from django.conf import settings

from coupons.benchmark.place import Place
from coupons.benchmark.trouble import Stopped, Trouble
from outbox.worker import Stop

LOOPBACK = "127.0.0.1"
# How `make run` has the web.
WEB_OPTIONS = (
    *("--worker-class", "gthread", "--workers", "2", "--threads", "8"),
    *("--graceful-timeout", "5", "--no-control-socket"),
)
# What would have the web refuse, or send elsewhere, who asks.
SETTINGS = {
    "ALLOWED_HOSTS": LOOPBACK,
    "HTTPS": "false",
    "METRICS_PORT": "0",
    "THROTTLE_USER_PER_MINUTE": "0",
    "THROTTLE_ADDRESS_PER_MINUTE": "0",
}
START_SECONDS = 120.0
# Workers promise to end within 10 s.
STOP_SECONDS = 15.0
LOOK_SECONDS = 0.01
LAST_LINES = 15


class Crew:
    """Processes that run until the end."""

    def __init__(self, environment: Mapping[str, str], logs: Path, stop: Stop) -> None:
        self._environment, self._logs, self._stop = environment, logs, stop
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *arguments: str, inherits: int | None = None) -> None:
        """Start `python ARGUMENTS…`, which inherits the file descriptor."""
        with (self._logs / name).open("wb") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=settings.BASE_DIR,
                env={**os.environ, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=() if inherits is None else (inherits,),
                # Ctrl-C in the terminal is ours alone. We stop them when all is said.
                start_new_session=True,
            )

    def watch(self) -> None:
        """Check that nothing speaks against going on.

        Raises:
            Stopped: somebody asked the benchmark to stop.
            Trouble: a process has ended.
        """
        if self._stop.requested:
            raise Stopped
        for name, process in self._processes.items():
            if process.poll() is not None:
                lines = (self._logs / name).read_text(errors="replace").splitlines()[-LAST_LINES:]
                raise Trouble("\n".join([f"{name} ended with {process.returncode}", *lines]))

    def wait_until(self, happened: Callable[[], bool], what: str) -> None:
        """Block until something has happened, before the load begins.

        Raises:
            Stopped: somebody asked the benchmark to stop.
            Trouble: it does not happen, or a process has ended.
        """
        end = time.monotonic() + START_SECONDS
        while not happened():
            self.watch()
            if time.monotonic() > end:
                raise Trouble(f"{what}: not within {START_SECONDS:.0f} s")
            time.sleep(LOOK_SECONDS)

    def stop(self) -> None:
        """Ask all to stop, and kill what is left of them."""
        for process in self._processes.values():
            process.terminate()
        end = time.monotonic() + STOP_SECONDS
        for process in self._processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(end - time.monotonic(), 0))
            # Whom it started, too.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def working(place: Place, *, queue: str, consumers: int, stop: Stop) -> Iterator[tuple[Crew, int, list[int]]]:
    """Run a web, a relay and consumers in a place until the end. Gives the web's port, and those of their metrics."""
    environment = {**place.environment, **SETTINGS, "COUPON_QUEUE": queue}
    with TemporaryDirectory(prefix="orderbox-benchmark-") as logs, closing(socket.create_server((LOOPBACK, 0))) as web:
        crew = Crew(environment, Path(logs), stop)
        ports = [_reserve() for _ in range(consumers)]
        try:
            bind = ("--bind", f"fd://{web.fileno()}")
            crew.start("web", "-m", "gunicorn", "config.wsgi", *bind, *WEB_OPTIONS, inherits=web.fileno())
            crew.start("relay", "manage.py", "relay_outbox")
            for number, port in enumerate(ports, start=1):
                health = ("--health-port", str(port.getsockname()[1]))
                crew.start(f"consumer-{number}", "manage.py", "run_consumer", "coupons", *health)
            numbers = [port.getsockname()[1] for port in (web, *ports)]
            for number in numbers:
                crew.wait_until(partial(_is_ready, number), "web and consumers are ready")
            yield crew, numbers[0], numbers[1:]
        finally:
            crew.stop()
            for port in ports:
                port.close()


def _reserve() -> socket.socket:
    """Return a socket that keeps a port from all but who, as servers do, takes it by SO_REUSEADDR."""
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("", 0))
    return reserved


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://{LOOPBACK}:{port}/readyz", timeout=5.0, trust_env=False).is_success
    except httpx.HTTPError:
        return False
