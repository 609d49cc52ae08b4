"""The web's metrics: by route, never by what a client may choose; and served beside the web, not in it."""

import re
import socket
import subprocess
import sys
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from outbox.tests.processes import environment, wait_until

CHECKOUT = Path(__file__).resolve().parents[2]


def count(**labels) -> float:
    return REGISTRY.get_sample_value("http_requests_total", labels) or 0.0


def growth(client, verb, path, **labels) -> float:
    before = count(**labels)
    client.generic(verb, path)
    return count(**labels) - before


def test_counts_requests_by_the_pattern_of_their_route(client, db):
    route = r"/api/v1/products/(?P<sku>[^/\x00]{1,64})/$"
    for sku in ("A001", "A002"):
        assert growth(client, "GET", f"/api/v1/products/{sku}/", method="GET", route=route, status="404") == 1


@pytest.mark.parametrize("path", ["/nope", "/nope/2", "/%ff"])
def test_paths_that_there_are_not_are_one(client, db, path):
    assert growth(client, "GET", path, method="GET", route="none", status="404") == 1


def test_methods_that_nobody_knows_are_one(client):
    assert growth(client, "BREW", "/healthz", method="other", route="/healthz", status="200") == 1


def test_times_requests_and_counts_those_in_progress(client):
    labels = {"method": "GET", "route": "/healthz"}
    before = REGISTRY.get_sample_value("http_request_seconds_count", labels) or 0
    client.get("/healthz")
    assert REGISTRY.get_sample_value("http_request_seconds_count", labels) == before + 1
    assert REGISTRY.get_sample_value("http_requests_in_progress") == 0


def test_the_web_itself_shows_no_metrics(client, db):
    assert client.get("/metrics").status_code == 404


def free_ports(number: int) -> list[int]:
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    try:
        return [server.getsockname()[1] for server in servers]
    finally:
        for server in servers:
            server.close()


def get(port: int, path: str) -> str:
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as client:
        try:
            client.request("GET", path)
        except ConnectionRefusedError:
            return ""
        return client.getresponse().read().decode()


@contextmanager
def gunicorn(port: int, metrics_port: int, **env):
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
