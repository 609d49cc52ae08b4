"""The state folder of a stack: its lock, its ports and passwords, and the environment file of a running one."""

import fcntl
import json
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from devstack import StackError, ports

_LOCK_WAIT_SECONDS = 20.0


class State:
    """A folder that only its owner may enter. What is chosen once (ports, passwords) is kept in its settings.json."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        """Create the folder if needed. Engines in a state that is not durable need not survive a power cut."""
        self.folder = folder.absolute()
        self.durable = durable
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._kept: dict[str, str] = json.loads(self._settings.read_text()) if self._settings.exists() else {}
        except (OSError, ValueError) as error:
            raise StackError(f"{self.folder} cannot be used as the state folder: {error}") from error

    @property
    def _settings(self) -> Path:
        return self.folder / "settings.json"

    @property
    def pids(self) -> Path:
        return self.folder / "pids"

    @property
    def logs(self) -> Path:
        return self.folder / "log"

    @property
    def env_file(self) -> Path:
        return self.folder / "env"

    def lock(self) -> "StateLock":
        """Take the folder for this process; raises StackError when another one has it."""
        return StateLock(self.folder / "lock")

    def secret(self, name: str) -> str:
        """Return the secret of this name, generated when first asked for."""
        return self._keep(name, self._kept.get(name) or secrets.token_hex(32))

    def port(self, name: str) -> int:
        """Return the port kept under this name; another one where that is taken by now."""
        kept = int(self._kept.get(name, 0))
        if kept and ports.is_free(kept):
            return kept
        taken = {int(value) for key, value in self._kept.items() if key.endswith("_port")}
        return int(self._keep(name, str(ports.choose(taken=taken))))

    def write_env(self, values: Mapping[str, str]) -> None:
        """Write the environment file, readable by its owner alone."""
        write_private(self.env_file, "".join(f"{name}={value}\n" for name, value in values.items()))

    def _keep(self, name: str, value: str) -> str:
        if self._kept.get(name) != value:
            self._kept[name] = value
            write_private(self._settings, json.dumps(self._kept, indent=1))
        return value


class StateLock:
    """The lock of a state folder, with a line that tells others who holds it.

    It is held by file descriptor: the guardian has a copy, so that it is free only once the last process is gone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + _LOCK_WAIT_SECONDS
        while not self._try():
            holder, _, address = path.read_text().partition(" ")
            if holder.isdigit() and psutil.pid_exists(int(holder)):
                raise StackError(
                    f"already running: process {holder}{address and f', {address}'} (state in {path.parent})"
                )
            # Its runner was killed, and its guardian is at work.
            if time.monotonic() > deadline:
                raise StackError(f"{path} is held by a process that does not end")
            time.sleep(0.1)
        self.tell("")

    def tell(self, address: str) -> None:
        """Write down who holds the lock, and where it serves."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"{os.getpid()} {address}".encode(), 0)

    def _try(self) -> bool:
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def write_private(path: Path, text: str) -> None:
    """Replace a file as a whole, with mode 0600 from the start."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)
