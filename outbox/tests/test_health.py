"""What a worker answers over HTTP."""

import socket
import time
from contextlib import ExitStack, closing
from http.client import HTTPConnection

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from prometheus_client import CollectorRegistry, Counter

from outbox import publish
from outbox.kafka import topic_name
from outbox.tests.processes import running, terminate, wait_until
from outbox.tests.sample import THING, ThingClosed
from outbox.watching.health import Health, serve


class Worker:
    """What is served is what its attributes say, at each moment."""

    def __init__(self):
        self.hung, self.reason = None, None
        self.registry = CollectorRegistry()
        self.stack = ExitStack()
        self.port = self.stack.enter_context(
            serve(0, hung=lambda: self.hung, not_ready=lambda: self.reason, metrics=[self.registry])
        )

    def ask(self, path, method="GET", **headers):
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=10)) as client:
            client.request(method, path, headers=headers)
            response = client.getresponse()
            return response.status, response.read().decode(), response.headers


@pytest.fixture
def worker():
    worker = Worker()
    with worker.stack:
        yield worker


def test_is_alive_and_ready_while_nothing_is_wrong(worker):
    assert worker.ask("/healthz")[:2] == (200, "ok\n")
    assert worker.ask("/readyz")[:2] == (200, "ok\n")


def test_a_worker_that_cannot_work_is_alive_but_not_ready_and_says_why(worker):
    worker.reason = "Kafka does not answer"

    assert worker.ask("/healthz")[0] == 200
    assert worker.ask("/readyz")[:2] == (503, "Kafka does not answer\n")


def test_a_worker_that_hangs_is_neither_alive_nor_ready(worker):
    worker.hung = "silent"

    assert worker.ask("/healthz")[:2] == (503, "silent\n")
    assert worker.ask("/readyz")[:2] == (503, "silent\n")


def test_a_loop_that_is_silent_for_too_long_hangs_until_it_beats_again():
    health = Health(silence_seconds=0.05)
    assert health.hung() is None
    time.sleep(0.1)
    assert "silent" in health.hung()
    health.beat()
    assert health.hung() is None


def test_serves_metrics_as_prometheus_reads_them(worker):
    Counter("things", "Things that were counted", ["kind"], registry=worker.registry).labels("a").inc(3)

    status, text, headers = worker.ask("/metrics?x=1")

    assert status == 200
    assert 'things_total{kind="a"} 3.0' in text
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    accept = "application/openmetrics-text; version=1.0.0"
    assert worker.ask("/metrics", Accept=accept)[1].endswith("# EOF\n")


def test_serves_the_metrics_of_all_processes_that_share_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    with serve(0, hung=lambda: None) as port, closing(HTTPConnection("127.0.0.1", port, timeout=10)) as client:
        client.request("GET", "/metrics")
        assert client.getresponse().read() == b""


def test_a_page_that_fails_is_an_error_and_the_others_go_on(worker):
    class Broken:
        def describe(self):
            return []

        def collect(self):
            raise RuntimeError

    worker.registry.register(Broken())

    assert worker.ask("/metrics")[:2] == (500, "RuntimeError\n")
    assert worker.ask("/healthz")[0] == 200


def test_answers_head_without_a_body_and_knows_no_other_path_or_method(worker):
    status, body, headers = worker.ask("/readyz", "HEAD")
    assert (status, body, headers["Content-Length"]) == (200, "", "3")
    assert worker.ask("/")[0] == 404
    assert worker.ask("/metrics/")[0] == 404
    assert worker.ask("/healthz", "POST")[0] == 501


def test_a_client_that_says_nothing_holds_up_neither_the_others_nor_the_end(worker):
    with socket.create_connection(("127.0.0.1", worker.port)):
        assert worker.ask("/healthz")[0] == 200
        worker.stack.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", worker.port))


def test_serves_nothing_without_a_port():
    with serve(None, hung=lambda: None) as port:
        assert port is None


def test_says_in_one_line_that_the_port_is_taken(worker):
    with pytest.raises(CommandError, match=rf"^port {worker.port}: Address already in use$"):
        call_command("relay_outbox", "--once", "--health-port", str(worker.port))


@pytest.mark.parametrize("port", ["0", "65536", "-1", "x", "²"])
def test_a_port_must_be_one(port):
    with pytest.raises(CommandError, match="is not a port"):
        call_command("relay_outbox", "--health-port", port)


def page(port, path) -> tuple[int, str]:
    """Return status and body of a page; (0, "") while nobody answers."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as client:
        try:
            client.request("GET", path)
        except ConnectionRefusedError:
            return 0, ""
        response = client.getresponse()
        return response.status, response.read().decode()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_a_relay_tells_of_itself_and_of_what_waits(kafka):
    port = free_port()
    sent = f'outbox_relay_published_total{{topic="{topic_name(THING)}"}} 1.0'
    with running("relay_outbox", "--health-port", str(port)) as relay:
        wait_until(lambda: page(port, "/readyz") == (200, "ok\n"))
        with transaction.atomic():
            publish(ThingClosed(thing="a"))
        wait_until(lambda: sent in page(port, "/metrics")[1])
        assert page(port, "/healthz") == (200, "ok\n")
        wait_until(lambda: "outbox_relay_buckets 32.0" in page(port, "/metrics")[1])
        assert "outbox_unpublished_events 0.0" in page(port, "/metrics")[1]
        assert terminate(relay) == 0


def test_a_relay_without_kafka_is_alive_but_not_ready(prefix, transactional_db):
    port = free_port()
    with running("relay_outbox", "--health-port", str(port), KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1"):
        wait_until(lambda: page(port, "/readyz")[0] == 503)
        assert page(port, "/healthz")[0] == 200
