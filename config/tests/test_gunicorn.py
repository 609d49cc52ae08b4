"""gunicorn as gunicorn.conf.py has it: whom it believes, what it bears, and the metrics that it serves."""

import re
import socket
import subprocess
import sys
from contextlib import closing, contextmanager
from http.client import HTTPConnection

from django.http import HttpResponse

from outbox.tests.processes import environment, wait_until
from tests.settings_source import CHECKOUT


def free_ports(number: int) -> list[int]:
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    try:
        return [server.getsockname()[1] for server in servers]
    finally:
        for server in servers:
            server.close()


def ask(port: int, path: str, **headers: str) -> HttpResponse:
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as client:
        client.request("GET", path, headers=headers)
        answer = client.getresponse()
        return HttpResponse(answer.read(), status=answer.status, headers=dict(answer.getheaders()))


def get(port: int, path: str) -> str:
    try:
        return ask(port, path).content.decode()
    except ConnectionRefusedError:
        return ""


@contextmanager
def gunicorn(port: int, metrics_port: int = 0, **env):
    command = ["-m", "gunicorn", "config.wsgi", "--bind", f"127.0.0.1:{port}", "--workers", "2", "--no-control-socket"]
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=CHECKOUT,
        env={**environment(), "METRICS_PORT": str(metrics_port), **env},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=30)


@contextmanager
def serving(**env):
    """Serve until the block ends; give the port."""
    (port,) = free_ports(1)
    with gunicorn(port, **env):
        wait_until(lambda: get(port, "/healthz"))
        yield port


def test_believes_nobody_about_tls_but_by_the_header_that_is_set(transactional_db, problem):
    said = {"X-Forwarded-Proto": "https", "X-Forwarded-Protocol": "ssl", "X-Forwarded-Ssl": "on"}
    with serving(HTTPS="true") as port:
        assert ask(port, "/api/v1/nope/", **said).status_code == 301
    with serving(HTTPS="true", HTTPS_PROXY_HEADER="X-Forwarded-Proto") as port:
        assert ask(port, "/api/v1/nope/").status_code == 301
        assert problem(ask(port, "/api/v1/nope/", **said)) == (404, "not_found")


def test_believes_nobody_about_the_path_and_takes_long_ones(transactional_db, problem):
    with serving(HTTPS="false") as port:
        assert problem(ask(port, "/api/v1/nope/", SCRIPT_NAME="/api/v1/nope")) == (404, "not_found")
        assert problem(ask(port, "/api/v1/nope/", SCRIPT_NAME="/elsewhere")) == (404, "not_found")
        assert problem(ask(port, f"/api/v1/nope/?x={'x' * 8000}")) == (404, "not_found")


def test_gunicorn_serves_what_all_of_its_workers_counted(transactional_db, tmp_path):
    port, metrics_port = free_ports(2)
    with gunicorn(port, metrics_port, TMPDIR=str(tmp_path)):
        wait_until(lambda: get(port, "/healthz"))
        for _ in range(20):
            get(port, "/healthz")
        text = get(metrics_port, "/metrics")

    [counted] = re.findall(r'^http_requests_total\{method="GET",route="/healthz",status="200"\} (\S+)$', text, re.M)
    assert float(counted) == 21
    assert "http_requests_in_progress 0.0" in text
    # What it kept in files is gone.
    assert list(tmp_path.iterdir()) == []


def test_gunicorn_says_in_one_line_that_the_port_of_the_metrics_is_taken(transactional_db, tmp_path):
    (port,) = free_ports(1)
    with socket.create_server(("", 0)) as server:
        taken = server.getsockname()[1]
        with gunicorn(port, taken, TMPDIR=str(tmp_path)) as process:
            assert process.wait(30) == 1
            assert process.stderr.read().splitlines()[-1] == f"METRICS_PORT: port {taken}: Address already in use"
    assert list(tmp_path.iterdir()) == []
