"""The process that outlives a runner killed with SIGKILL, and then leaves nothing of what it had started.

Its standard input is a pipe whose only writer is the runner, so end of file means that the runner is gone. The first
line is a JSON object: `mark`, which every process of the stack has in DEVSTACK_MARKS, `remove`, files and folders to
delete at the end, and `started`, pids. Each later line is the pid of one more process that the runner has started. A
runner that stops in order uses it in the same way, for what others left behind.

Pids alone are not enough: the runner may die between a start and its line, and what a dead process has started is
known by its mark only. Nor are marks: some programs overwrite their environment with their title. A process of the
runner holds a copy of the pipe's writing end from its fork to its exec, so that at end of file each has its mark.
Run as a script, with psutil alone.
"""

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import psutil

MARKS = "DEVSTACK_MARKS"
_LIMIT_SECONDS = 10.0


def main() -> None:
    """Wait for the end of the runner, then kill and delete."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(ignored, signal.SIG_IGN)
    orders = json.loads(sys.stdin.readline() or "null")
    if orders is None:
        return
    started = [_process(pid) for pid in orders["started"]]
    started += [_process(int(line)) for line in sys.stdin]
    _sweep(orders["mark"], [process for process in started if process])
    for path in map(Path, orders["remove"]):
        _remove(path)


def _process(pid: int) -> psutil.Process | None:
    """Return a handle that knows this process from a later one with the same pid."""
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def _sweep(mark: str, started: list[psutil.Process]) -> None:
    """Kill these and all that carries the mark, with their descendants, until none is left or 10 s have passed."""
    deadline = time.monotonic() + _LIMIT_SECONDS
    first = True
    while (targets := _families([*started, *_marked(mark)])) and time.monotonic() < deadline:
        for process in targets:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGQUIT if first and _is_postgres(process) else signal.SIGKILL)
        psutil.wait_procs(targets, timeout=1.0)
        first = False


def _is_postgres(process: psutil.Process) -> bool:
    """SIGQUIT is PostgreSQL's immediate shutdown: as hard on the data, but it frees its shared memory segment."""
    return process.name() == "postgres"


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if mark in process.environ().get(MARKS, "").split(":"):
                found.append(process)
    return found


def _families(roots: list[psutil.Process]) -> list[psutil.Process]:
    """Return those of them that live, with their descendants; never this process."""
    found: dict[int, psutil.Process] = {}
    for root in roots:
        with contextlib.suppress(psutil.NoSuchProcess):
            found |= {process.pid: process for process in (root, *root.children(recursive=True))}
    found.pop(os.getpid(), None)
    return [process for process in found.values() if _is_alive(process)]


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
