"""Starts processes, prefixes what they print, starts again what dies, and stops all of them in order.

A small one of our own, since none on PyPI does all of it: supervisor neither prefixes output nor survives its own
SIGKILL without leaving its children behind; honcho stops everything when one process ends; circus does neither.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from devstack import CHECKOUT, StackError
from devstack.guardian import MARKS
from devstack.output import Output, ProcessLog

GRACE_SECONDS = 10.0
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 15.0
# A process that lived this long is not in a crash loop: its next pause is the first one again.
_SETTLED_SECONDS = 20.0
_LONGEST_LINE_BYTES = 65_536
# As a shell's.
_CANNOT_EXECUTE = 127


@dataclass(frozen=True)
class Service:
    """A process to keep running. `before` is called ahead of each start; it inherits these file descriptors."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    stop_signal: int = signal.SIGTERM
    is_engine: bool = False
    inherits: tuple[int, ...] = ()
    before: Callable[[], object] = field(default=lambda: None)


class Runner:
    """The processes of one stack. Used as `async with Runner(…)`, which stops all of them at its end."""

    def __init__(self, output: Output, pids: Path, *, held: Iterable[int] = (), remove: Iterable[Path] = ()) -> None:
        """Write the leaders' pids into the folder `pids`.

        `held` are file descriptors (locks) that stay open until the last process is gone; `remove` is deleted then,
        also when this process is killed.
        """
        self.output = output
        self._pids = pids
        self._held = tuple(held)
        self._remove = tuple(remove)
        self._mark = uuid.uuid4().hex
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._services: dict[str, Service] = {}
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._logs: dict[str, ProcessLog] = {}
        self._deaths: dict[str, int] = {}
        self._stopping: set[str] = set()
        self._hurry = asyncio.Event()
        self._guardian: tuple[subprocess.Popen[bytes], int] | None = None

    async def __aenter__(self) -> "Runner":
        self._pids.mkdir(parents=True, exist_ok=True)
        for stale in self._pids.iterdir():
            stale.unlink()
        self._guardian = self._start_guardian()
        self._watch = asyncio.create_task(self._keep_guardian())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop([name for name, service in self._services.items() if not service.is_engine])
        await self._stop([name for name, service in self._services.items() if service.is_engine])
        self._watch.cancel()
        self._dismiss_guardian()
        for log in self._logs.values():
            log.close()

    def hurry(self) -> None:
        """Let a stop wait for nobody any more: what still runs is killed."""
        self._hurry.set()

    # ── Starting ──────────────────────────────────────────────────────────────────────────────────────────────────

    def keep(self, service: Service) -> None:
        """Start a process and keep it running until the runner stops."""
        self._services[service.name] = service
        self._keepers[service.name] = asyncio.create_task(self._keep(service))

    async def ready(self, name: str, answers: Callable[[], Awaitable[bool]], *, limit_seconds: float) -> None:
        """Wait until a kept process answers; raises StackError when it dies three times first, or is too slow."""
        deadline = time.monotonic() + limit_seconds
        while not await answers():
            if self._deaths.get(name, 0) >= 3:
                raise StackError(f"{name} does not start: {self._last_line(name)}")
            if time.monotonic() > deadline:
                raise StackError(f"{name} did not answer within {limit_seconds:.0f} s: {self._last_line(name)}")
            await asyncio.sleep(0.05)

    async def run(self, service: Service) -> None:
        """Run a process to its end; raises StackError when it fails."""
        self._services[service.name] = service
        code = await self._live(service)
        if code:
            raise StackError(f"{service.name} {_ending(code)}: {self._last_line(service.name)}")

    async def run_in_foreground(
        self, command: Sequence[str], environment: Mapping[str, str], stop_signal: Callable[[], int]
    ) -> int:
        """Run a command on this terminal, in this process group, and return its exit code as a shell would.

        When cancelled, send it the signal that `stop_signal` then names (0: none, it has had one) and wait for its end.
        """
        try:
            process = await asyncio.create_subprocess_exec(*command, env=self._marked(environment))
        except OSError as error:
            raise StackError(f"{command[0]}: {error.strerror}") from error
        self._tell_guardian(process.pid)
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            await self._end(process, stop_signal())
            raise
        return code if code >= 0 else 128 - code

    # ── One process ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _keep(self, service: Service) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            started = time.monotonic()
            code = await self._live(service)
            if service.name in self._stopping:
                return
            if time.monotonic() - started > _SETTLED_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            self._deaths[service.name] = self._deaths.get(service.name, 0) + 1
            self._tell_of_death(service.name, code, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _live(self, service: Service) -> int:
        """Run a process once, from its start to the end of its process group."""
        service.before()
        log = self._open_log(service.name)
        reading, writing = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *service.command,
                env=self._marked(service.environment),
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                start_new_session=True,
                pass_fds=service.inherits,
            )
        except OSError as error:
            os.close(reading)
            log.add(f"{service.command[0]}: {error.strerror}")
            return _CANNOT_EXECUTE
        finally:
            os.close(writing)
        self._running[service.name] = process
        self._tell_guardian(process.pid)
        (self._pids / service.name).write_text(f"{process.pid}\n")
        try:
            return await self._follow(process, reading, log)
        finally:
            _kill_group(process.pid)
            del self._running[service.name]
            (self._pids / service.name).unlink(missing_ok=True)

    async def _follow(self, process: asyncio.subprocess.Process, reading: int, log: ProcessLog) -> int:
        printing = asyncio.create_task(_read_lines(reading, log))
        try:
            code = await process.wait()
            # Its children may still hold the pipe: they have no more to say.
            _kill_group(process.pid)
            await asyncio.wait([printing], timeout=0.3)
            return code
        except asyncio.CancelledError:
            await self._end(process, signal.SIGTERM)
            raise
        finally:
            printing.cancel()

    def _open_log(self, name: str) -> ProcessLog:
        if name in self._logs:
            self._logs[name].close()
        self._logs[name] = self.output.log(name)
        return self._logs[name]

    def _marked(self, environment: Mapping[str, str]) -> dict[str, str]:
        outer = os.environ.get(MARKS)
        return {**environment, MARKS: f"{outer}:{self._mark}" if outer else self._mark}

    def _last_line(self, name: str) -> str:
        lines = [line for line in self._logs[name].last if line.strip()] if name in self._logs else []
        return lines[-1] if lines else "it printed nothing"

    def _tell_of_death(self, name: str, code: int, pause: float) -> None:
        self.output.say(f"{name} {_ending(code)}; it is started again in {pause:.1f} s. Its last lines:")
        for line in self._logs[name].last:
            self.output.say(f"    {line}")

    # ── Stopping ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _stop(self, names: Sequence[str]) -> None:
        """Stop these at the same time, and return when all of them are gone."""
        self._stopping.update(names)
        running = [name for name in names if name in self._running]
        await asyncio.gather(*(self._end(self._running[name], self._services[name].stop_signal) for name in running))
        keepers = {name: self._keepers.pop(name) for name in names if name in self._keepers}
        for name, keeper in keepers.items():
            # One without a process is in its pause before a restart.
            if name not in self._running:
                keeper.cancel()
        await asyncio.gather(*keepers.values(), return_exceptions=True)

    async def _end(self, process: asyncio.subprocess.Process, stop_signal: int) -> None:
        """Ask a process to stop; kill it when the grace is over."""
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(stop_signal)
        gone = asyncio.create_task(process.wait())
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait([gone, hurry], timeout=GRACE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not gone.done():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await gone

    # ── The guardian ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _keep_guardian(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            if self._guardian and self._guardian[0].poll() is not None:
                os.close(self._guardian[1])
                self._guardian = self._start_guardian()

    def _start_guardian(self) -> tuple[subprocess.Popen[bytes], int]:
        reading, writing = os.pipe()
        # In a session of its own, away from the terminal's Ctrl-C, and by a name that `pkill -f devstack` misses.
        guardian = subprocess.Popen(
            [sys.executable, "-P", "guardian.py"],
            cwd=Path(__file__).parent,
            stdin=reading,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=self._held,
        )
        os.close(reading)
        orders = {
            "mark": self._mark,
            "remove": [str(path.absolute()) for path in self._remove],
            "started": [process.pid for process in self._running.values()],
        }
        os.write(writing, json.dumps(orders).encode() + b"\n")
        return guardian, writing

    def _tell_guardian(self, pid: int) -> None:
        # A guardian that has just died is about to be replaced by one that is told of all.
        if self._guardian:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._guardian[1], f"{pid}\n".encode())

    def _dismiss_guardian(self) -> None:
        """Let the guardian sweep up, and wait for it."""
        if self._guardian:
            guardian, writing = self._guardian
            os.close(writing)
            with contextlib.suppress(subprocess.TimeoutExpired):
                guardian.wait(timeout=15)


async def _read_lines(reading: int, log: ProcessLog) -> None:
    """Pass on what comes through a pipe, line by line; a line without end is cut."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb"))
    rest = b""
    try:
        while chunk := await reader.read(_LONGEST_LINE_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                log.add(line.decode(errors="replace").rstrip("\r"))
            if len(rest) > _LONGEST_LINE_BYTES:
                log.add(rest.decode(errors="replace"))
                rest = b""
        if rest:
            log.add(rest.decode(errors="replace"))
    finally:
        transport.close()


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _ending(code: int) -> str:
    """Say how a process ended, from its code as the subprocess module gives it."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
