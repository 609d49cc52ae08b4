"""python -m devstack, as a person starts it."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from devstack import CHECKOUT, ports
from devstack.tests.waiting import alive, family, until

DEVSTACK = [sys.executable, "-m", "devstack"]


def environment(**changes: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(CHECKOUT)} | changes


def test_exec_uses_the_engines_that_are_given_and_returns_the_exit_code() -> None:
    script = 'ls "$DEVSTACK_STATE/pids"; echo $DATABASE_URL $ENV_FILE; exit 3'

    done = subprocess.run(
        [*DEVSTACK, "exec", "--", "sh", "-c", script],
        env=environment(),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 3
    assert done.stdout == f"{os.environ['DATABASE_URL']} /dev/null\n"


def test_exec_says_in_one_line_that_there_is_no_such_command() -> None:
    done = subprocess.run(
        [*DEVSTACK, "exec", "no-such-command"],
        env=environment(),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (1, "devstack: no-such-command: No such file or directory\n")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_exec_leaves_nothing_when_it_is_stopped(tmp_path: Path, number: int, code: int) -> None:
    """With an engine of its own (Valkey), and a command that left a process in another session behind."""
    note = tmp_path / "note"
    script = f'setsid sleep 1000 & echo "$DEVSTACK_STATE" > {note}.new; mv {note}.new {note}; sleep 1000'
    process = subprocess.Popen(
        [*DEVSTACK, "exec", "--", "sh", "-c", script], env=environment(REDIS_URL=""), cwd=CHECKOUT
    )
    until(note.exists)
    state = Path(note.read_text().strip())
    processes = family(process.pid)
    assert "valkey-server" in [member.name() for member in processes]

    process.send_signal(number)

    assert process.wait(timeout=20) == code
    until(lambda: not alive(processes))
    until(lambda: not state.exists())


@pytest.fixture
def own_database() -> Iterator[str]:
    """A database beside that of the tests, for a whole stack."""
    url = os.environ["DATABASE_URL"]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS devstack_run WITH (FORCE)")
        connection.execute("CREATE DATABASE devstack_run")
        yield url.rpartition("/")[0] + "/devstack_run"
        connection.execute("DROP DATABASE devstack_run WITH (FORCE)")


def test_run_serves_until_it_is_stopped(tmp_path: Path, own_database: str) -> None:
    port = str(ports.choose(taken=set()))
    redis_url = os.environ["REDIS_URL"].rpartition("/")[0] + "/9"
    # What .env has for a web behind a proxy is not for one on loopback.
    behind_a_proxy = {"HTTPS": "true", "HTTPS_PROXY_HEADER": "X-Forwarded-Proto"}
    given = environment(
        DATABASE_URL=own_database, REDIS_URL=redis_url, KAFKA_PREFIX="devstack-run-", PORT=port, **behind_a_proxy
    )
    del given["ENV_FILE"]
    state, printed = tmp_path / "state", tmp_path / "printed"
    command = [*DEVSTACK, "run", "--state", str(state)]
    with printed.open("w") as output:
        process = subprocess.Popen(command, env=given, cwd=CHECKOUT, stdout=output, stderr=output)
    try:
        until(lambda: "Serving until Ctrl-C." in printed.read_text() or process.poll() is not None, 60)
        assert "COMPLETED" in printed.read_text()
        assert {f"DATABASE_URL={own_database}", "HTTPS=false"} <= set((state / "env").read_text().splitlines())
        assert stat.S_IMODE((state / "env").stat().st_mode) == 0o600
        assert httpx.get(f"http://127.0.0.1:{port}/readyz").is_success

        second = subprocess.run(command, env=given, cwd=CHECKOUT, capture_output=True, text=True, check=False)
        assert second.returncode == 1
        assert second.stderr.startswith(f"devstack: already running: process {process.pid}, http://127.0.0.1:{port} ")

        processes = family(process.pid)
        process.terminate()
        assert process.wait(timeout=25) == 0
        assert alive(processes) == []
        assert not (state / "env").exists()
    finally:
        process.kill()
        process.wait()


def test_run_says_that_a_given_port_is_taken(tmp_path: Path) -> None:
    taken = os.environ["KAFKA_BOOTSTRAP_SERVERS"].rpartition(":")[2]

    done = subprocess.run(
        [*DEVSTACK, "run", "--state", str(tmp_path)],
        env=environment(PORT=taken),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (1, f"devstack: PORT={taken} is taken by another process\n")
