"""What the processes print: prefixed on the terminal, and kept in one bounded log file for each of them."""

import collections
import logging.handlers
import os
import sys
from pathlib import Path
from typing import TextIO

_LOG_BYTES = 10_000_000
_NAME_WIDTH = 22
_COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)


class Output:
    """Lines of several processes, put in one stream."""

    def __init__(self, logs: Path, *, quiet: bool = False) -> None:
        """Keep log files in the folder `logs`; when quiet, print nothing but what the runner itself has to say."""
        self._logs = logs
        self._quiet = quiet
        self._coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._colours: dict[str, int] = {}
        logs.mkdir(parents=True, exist_ok=True)

    def log(self, name: str) -> "ProcessLog":
        """Open the log of a process; what an earlier start of it wrote is moved to NAME.log.1."""
        return ProcessLog(self, name, self._logs / f"{name}.log")

    def say(self, line: str) -> None:
        """Print a line of the runner's own, on standard error when quiet (standard output is the command's)."""
        self._write("devstack", line, sys.stderr if self._quiet else sys.stdout)

    def show(self, name: str, line: str) -> None:
        """Print a line of a process."""
        if not self._quiet:
            self._write(name, line, sys.stdout)

    def _write(self, name: str, line: str, stream: TextIO) -> None:
        prefix = f"{name:<{_NAME_WIDTH}} | "
        if self._coloured:
            colour = self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])
            prefix = f"\033[{colour}m{prefix}\033[0m"
        try:
            print(prefix + line, file=stream, flush=True)
        except BrokenPipeError:
            # Nobody reads any more (`make run | head`): the log files still tell.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class ProcessLog:
    """The log file of one process, and its last lines in memory."""

    def __init__(self, output: Output, name: str, path: Path) -> None:
        self._output = output
        self._name = name
        self._file = logging.handlers.RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=1, encoding="utf-8")
        self._file.setFormatter(logging.Formatter("%(message)s"))
        if path.stat().st_size:
            self._file.doRollover()
        self.last: collections.deque[str] = collections.deque(maxlen=8)

    def add(self, line: str) -> None:
        """Take in one line, without its line end."""
        self.last.append(line)
        self._file.handle(logging.LogRecord(self._name, logging.INFO, "", 0, line, None, None))
        self._output.show(self._name, line)

    def close(self) -> None:
        self._file.close()
