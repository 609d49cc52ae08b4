"""The whole of Orderbox, running: what `make run` starts, with engines and a database of its own."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Error, sync_playwright

from outbox import registry
from tests.shop import Shop

CHECKOUT = Path(__file__).resolve().parent.parent
# What the tests' own engines and settings are: the stack has others.
NOT_THE_STACKS = (
    "DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL", "KAFKA_PREFIX", "PORT", "SECRET_KEY", "ENV_FILE",
    "DJANGO_SETTINGS_MODULE",
)  # fmt: skip


class Stack:
    """A running stack: where it listens, what its processes are, and its manage.py."""

    def __init__(self, state: Path, environment: dict[str, str]) -> None:
        self.state = state
        self.environment = {**environment, "ENV_FILE": str(state / "env")}
        self.settings = dict(line.split("=", 1) for line in (state / "env").read_text().splitlines())
        self.address = f"http://127.0.0.1:{self.settings['PORT']}"

    def pid(self, process: str) -> int | None:
        """Return a process's pid, or None while it is down."""
        try:
            return int((self.state / "pids" / process).read_text())
        except (FileNotFoundError, ValueError):
            return None

    def processes(self) -> list[str]:
        return sorted(path.name for path in (self.state / "pids").iterdir())

    def kill(self, process: str) -> None:
        """Kill a process as a crash would, and wait until another has taken its place."""
        killed = self.pid(process)
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: self.pid(process) not in (None, killed))

    @contextmanager
    def frozen(self, process: str) -> Iterator[None]:
        """Let a process hang, as a machine that swaps or a network that drops would, until the block ends."""
        pid = self.pid(process)
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def log(self, process: str) -> str:
        """Return what a process has printed, and the one whose place it took."""
        files = [self.state / "log" / f"{process}.log{suffix}" for suffix in (".1", "")]
        return "".join(file.read_text() for file in files if file.exists())

    @contextmanager
    def beside(self, *arguments: str) -> Iterator[subprocess.Popen]:
        """Run a management command beside the stack's processes until the block ends."""
        process = subprocess.Popen([sys.executable, "manage.py", *arguments], cwd=CHECKOUT, env=self.environment)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(15)

    def manage(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run a management command as a person would in a second terminal."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=CHECKOUT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def wait_until_the_books_add_up(self, seconds: float = 60) -> None:
        """Return when the audit finds nothing, not even in flight; fail with what it finds after that time."""
        end = time.monotonic() + seconds
        while (audit := self.manage("audit", "--strict")).returncode:
            assert time.monotonic() < end, audit.stdout + audit.stderr


def wait_until(happened, seconds: float = 60) -> None:
    """Return when something has happened; fail when it has not within that time."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)


def serves(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz", timeout=5).is_success
    except httpx.HTTPError:
        return False


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let one process run all tests of the stack, so that there is one. Begin with what takes longest."""
    items.sort(key=lambda item: ("stack" not in getattr(item, "fixturenames", ()), item.path.name != "test_chaos.py"))
    for item in items:
        if "stack" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("stack"))


@pytest.fixture
def groups() -> list[str]:
    """The project's consumer groups: not those of other tests' samples."""
    return [
        group
        for group in registry.groups()
        if all(handler.call.__module__.endswith(".consumers") for handler in registry.handlers_of(group).values())
    ]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    state = tmp_path_factory.mktemp("stack")
    environment = {name: value for name, value in os.environ.items() if name not in NOT_THE_STACKS}
    with (state / "output").open("w") as output:
        runner = subprocess.Popen(
            [sys.executable, "-m", "devstack", "run", "--state", str(state), "--no-demo"],
            cwd=CHECKOUT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until(lambda: (state / "pids" / "celery-beat").exists() or runner.poll() is not None, 120)
            assert runner.poll() is None, (state / "output").read_text()[-3000:]
            running = Stack(state, environment)
            wait_until(lambda: serves(running.address))
            yield running
        finally:
            runner.send_signal(signal.SIGTERM)
            assert runner.wait(40) == 0


@pytest.fixture(scope="session")
def open_shop(stack: Stack) -> Shop:
    return Shop(stack.address)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. Not for the whole session: as long as it runs, the thread has an event loop, which Django refuses."""
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(
                # Of the system, if it has one; else that of `playwright install chromium`.
                executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
                # Chromium has no sandbox for root.
                args=["--no-sandbox"] if os.geteuid() == 0 else [],
            )
        except Error as error:
            pytest.skip(f"no Chromium: {error}")
        yield browser
        browser.close()


@pytest.fixture
def shop(open_shop: Shop, stack: Stack) -> Iterator[Shop]:
    """A shop whose books must add up when the test is over."""
    yield open_shop
    open_shop.wait_until_all_is_final()
    stack.wait_until_the_books_add_up()
