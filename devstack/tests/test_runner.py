"""The runner with small processes: what it prints, restarts, stops and leaves behind."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from devstack import CHECKOUT, StackError
from devstack.state import State
from devstack.tests.waiting import alive, family, until


class SmallStack:
    """A running small_stack.py."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.printed = folder.with_name("printed")
        command = [sys.executable, "-m", "devstack.tests.small_stack", str(folder), *options]
        with self.printed.open("w") as output:
            self.process = subprocess.Popen(command, cwd=CHECKOUT, stdout=output, stderr=output)
        until(lambda: self.lines("started").count("engine") and self.lines("started").count("worker"))

    def pid(self, name: str) -> int:
        """Return the pid that the runner wrote down."""
        path = self.folder / "pids" / name
        return int(until(lambda: path.exists() and path.read_text()))

    def lines(self, text: str) -> list[str]:
        """Return the prefixes of the printed lines that hold the text, in order."""
        return [line.split("|")[0].strip() for line in self.printed.read_text().splitlines() if text in line]

    def signal(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=20)


def guardians(stack: SmallStack) -> list[psutil.Process]:
    return [process for process in alive(family(stack.process.pid)) if "guardian.py" in process.cmdline()]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., SmallStack]]:
    started: list[SmallStack] = []

    def start_one(*options: str) -> SmallStack:
        started.append(SmallStack(tmp_path / "state", *options))
        return started[-1]

    yield start_one
    for stack in started:
        stack.process.kill()
        stack.process.wait()


def test_prefixes_every_line_and_keeps_a_log(start: Callable[..., SmallStack]) -> None:
    stack = start()

    assert sorted(stack.lines("started")) == ["engine", "worker"]
    assert (stack.folder / "log/worker.log").read_text() == "started\n"


def test_starts_again_what_dies_and_names_it(start: Callable[..., SmallStack]) -> None:
    stack = start()
    old = family(stack.pid("worker"))

    os.kill(old[0].pid, signal.SIGKILL)

    until(lambda: stack.lines("started").count("worker") == 2)
    assert stack.lines("worker was killed by SIGKILL; it is started again in 0.5 s") == ["devstack"]
    assert stack.pid("worker") != old[0].pid
    assert (stack.folder / "log/worker.log.1").read_text() == "started\n"


def test_stops_workers_before_engines(start: Callable[..., SmallStack]) -> None:
    stack = start()
    processes = family(stack.process.pid)

    assert stack.signal(signal.SIGTERM) == 0

    assert stack.lines("stopped") == ["worker", "engine"]
    assert alive(processes) == []
    assert list((stack.folder / "pids").iterdir()) == []


def test_a_second_interrupt_does_not_wait_for_the_stubborn(start: Callable[..., SmallStack]) -> None:
    stack = start("--stubborn")
    until(lambda: stack.lines("started").count("stubborn"))
    processes = family(stack.process.pid)

    stack.process.send_signal(signal.SIGINT)
    until(lambda: stack.lines("stopped"))
    assert stack.process.poll() is None
    stack.process.send_signal(signal.SIGINT)

    assert stack.process.wait(timeout=5) == 0
    assert alive(processes) == []


def test_leaves_nothing_when_it_is_killed(start: Callable[..., SmallStack]) -> None:
    stack = start()
    processes = family(stack.process.pid)
    # The runner, its guardian, worker and engine, and a child of each of these in a session of its own.
    assert len(processes) == 6

    stack.signal(signal.SIGKILL)

    until(lambda: not alive(processes))
    assert not (stack.folder / "env").exists()


def test_replaces_a_guardian_that_died(start: Callable[..., SmallStack]) -> None:
    stack = start()
    [guardian] = guardians(stack)

    guardian.kill()
    until(lambda: guardians(stack) not in ([], [guardian]))
    processes = family(stack.process.pid)
    stack.signal(signal.SIGKILL)

    until(lambda: not alive(processes))


def test_keeps_its_environment_file_private_and_removes_it(start: Callable[..., SmallStack]) -> None:
    stack = start()
    env_file = stack.folder / "env"

    assert env_file.read_text() == "NAME=value\n"
    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(stack.folder.stat().st_mode) == 0o700
    stack.signal(signal.SIGTERM)

    assert not env_file.exists()


def test_refuses_a_state_in_use_naming_who_has_it(start: Callable[..., SmallStack]) -> None:
    stack = start()

    with pytest.raises(StackError, match=rf"already running: process {stack.process.pid}, http://127.0.0.1:1 "):
        State(stack.folder, durable=True).lock()


def test_takes_over_a_state_whose_runner_was_killed(start: Callable[..., SmallStack]) -> None:
    stack = start()
    processes = family(stack.process.pid)

    stack.signal(signal.SIGKILL)
    lock = State(stack.folder, durable=True).lock()

    # The lock is free only once the guardian has finished.
    assert alive(processes) == []
    os.close(lock.descriptor)
