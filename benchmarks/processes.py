"""Processes under measurement: started, watched from outside, stopped."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

CHECKOUT = Path(__file__).resolve().parent.parent
STOP_SECONDS = 15.0
# PSS is read less often than RSS, since the kernel adds it up page by page.
PSS_SECONDS = 0.25
# Lines of a log that are shown of a process that died.
LAST_LINES = 15


class Died(RuntimeError):
    """A process under measurement ended by itself."""


class Worker:
    """A running process. As a context it is stopped at the end."""

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str], logs: Path) -> None:
        """Start `python ARGUMENTS…`; what it prints goes to a file in the folder `logs`."""
        self.name = name
        logs.mkdir(parents=True, exist_ok=True)
        self._log = logs / f"{name}.log"
        with self._log.open("a") as output:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=CHECKOUT,
                env={**os.environ, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._seen = psutil.Process(self._process.pid)
        self._pss_read_at = 0.0
        # Peaks in bytes since the start.
        self.rss, self.pss = 0, 0

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def watch(self) -> None:
        """Take note of its memory; raises Died when it runs no more."""
        if self._process.poll() is not None:
            raise Died(f"{self.name} ended with {self._process.returncode}:\n{self._last_lines()}")
        self.rss = max(self.rss, self._seen.memory_info().rss)
        if time.monotonic() - self._pss_read_at > PSS_SECONDS:
            self.pss = max(self.pss, self._seen.memory_full_info().pss)
            self._pss_read_at = time.monotonic()

    def cpu_seconds(self) -> float:
        """Return the CPU time it has used so far."""
        times = self._seen.cpu_times()
        return float(times.user + times.system)

    def family(self) -> list[psutil.Process]:
        """Return the process, and all that it started and that they started."""
        return [self._seen, *self._seen.children(recursive=True)]

    def family_cpu_seconds(self) -> float:
        """Return the CPU time that they have used so far, and those of them that ended."""
        used = 0.0
        for process in self.family():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                used += times.user + times.system + times.children_user + times.children_system
        return used

    def stop(self) -> None:
        """Ask it to stop, and kill it when it does not."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.wait()

    def _last_lines(self) -> str:
        return "\n".join(self._log.read_text().splitlines()[-LAST_LINES:])


def run(arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """Run `python ARGUMENTS…` to its end, and return the JSON that it prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=CHECKOUT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@contextmanager
def commanded(number: int, arguments: Sequence[str], environment: Mapping[str, str]) -> Iterator["Choir"]:
    """Start so many processes of `python ARGUMENTS…` that take commands as lines of JSON and answer each with one."""
    processes = [
        subprocess.Popen(
            [sys.executable, *arguments],
            cwd=CHECKOUT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(number)
    ]
    try:
        yield Choir(processes)
    finally:
        for process in processes:
            # At the end of its input it ends.
            process.communicate()


class Choir:
    """Processes that do the same thing at the same time."""

    def __init__(self, processes: Sequence["subprocess.Popen[str]"]) -> None:
        self._processes = processes

    def ask(self, number: int, command: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Give a command to the first so many of them, and return their answers."""
        chosen = self._processes[:number]
        for process in chosen:
            assert process.stdin is not None
            process.stdin.write(json.dumps(command) + "\n")
            process.stdin.flush()
        return [json.loads(process.stdout.readline()) for process in chosen if process.stdout is not None]
