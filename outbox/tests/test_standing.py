"""A consumer that cannot work: it stays, says why, and goes on where it was."""

import signal
import socket
from contextlib import closing, contextmanager
from io import StringIO
from threading import Thread
from urllib.error import HTTPError
from urllib.request import urlopen

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from psycopg import sql

from outbox import conf
from outbox.consuming import group_state
from outbox.models import ConsumerGroup, FailedMessage, InboxEvent
from outbox.tests.members import as_put, consume, events, in_order_once, member
from outbox.tests.processes import running, terminate, wait_until
from outbox.tests.sample import THING
from outbox.tests.shown import delays


def halt(group: str = "shown") -> None:
    ConsumerGroup.objects.update_or_create(name=group, defaults={"halted_at": timezone.now()})


def test_members_of_a_halted_group_wait_until_it_is_resumed_and_lose_nothing(kafka, projection):
    halt()
    kafka.put(THING, *map(as_put, events(range(30))))
    with member("shown", batch_size=4) as first, member("shown", batch_size=4) as second:
        wait_until(lambda: all("halted since" in (m.not_ready() or "") for m in (first, second)))
        kafka.put(THING, *map(as_put, events(range(30, 60))))
        assert projection() == []

        group_state.resume("shown")

        wait_until(lambda: len(projection()) == 60)
        wait_until(lambda: first.not_ready() is None and second.not_ready() is None)
    in_order_once(projection(), range(60))


def test_a_halt_under_load_stops_all_and_a_resume_lets_them_go_on(kafka, projection):
    kafka.put(THING, *map(as_put, events(range(1_000))))
    delays.update({f"t{n}": 0.005 for n in range(10)})
    with member("shown", batch_size=10) as first, member("shown", batch_size=10) as second:
        wait_until(lambda: len(projection()) > 100)
        halt()
        wait_until(lambda: first.not_ready() is not None and second.not_ready() is not None)
        applied = len(projection())
        assert applied < 1_000

        delays.clear()
        group_state.resume("shown")

        wait_until(lambda: len(projection()) == 1_000)
    in_order_once(projection(), range(1_000))


def test_until_idle_a_halted_group_is_an_error(kafka):
    halt()
    kafka.put(THING, *map(as_put, events(range(3))))

    with pytest.raises(CommandError, match=r"shown is halted since .*; --resume lifts the halt"):
        call_command("run_consumer", "shown", "--until-idle")


def test_resume_lifts_the_halt_says_so_and_goes_on(kafka, projection):
    halt()
    kafka.put(THING, *map(as_put, events(range(3))))
    out = StringIO()

    call_command("run_consumer", "shown", "--resume", "--until-idle", stdout=out)
    call_command("run_consumer", "shown", "--resume", "--until-idle", stdout=out)

    assert out.getvalue() == "shown is resumed\nshown was not halted\n"
    assert len(projection()) == 3


@contextmanager
def database_closed():
    """Let nobody into the test's database, and throw out who is in it, but for the test itself."""
    name = connection.settings_dict["NAME"]
    ours = connection.connection.info.backend_pid
    # From another database, since nobody can close the one in which he is.
    with psycopg.connect(**{**parameters(), "dbname": "postgres"}, autocommit=True) as db:
        allow(db, name, False)
        db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> %s", (name, ours)
        )
        try:
            yield lambda: allow(db, name, True)
        finally:
            allow(db, name, True)


def allow(db: psycopg.Connection, name: str, allowed: bool) -> None:
    db.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(sql.Identifier(name), sql.Literal(allowed)))


def test_without_postgresql_a_member_is_not_ready_and_takes_up_its_work_after_it(kafka, projection):
    kafka.put(THING, *map(as_put, events(range(30))))
    with member("shown") as one:
        wait_until(lambda: len(projection()) == 30)
        with database_closed():
            wait_until(lambda: one.not_ready() == "PostgreSQL does not answer")
            kafka.put(THING, *map(as_put, events(range(30, 60))))
        wait_until(lambda: one.not_ready() is None and len(projection()) == 60)
    in_order_once(projection(), range(60))
    assert not FailedMessage.objects.exists()


def test_an_idle_member_notices_that_postgresql_is_back(kafka):
    with member("shown") as one:
        wait_until(lambda: one.not_ready() is None)
        with database_closed():
            wait_until(lambda: one.not_ready() == "PostgreSQL does not answer")
        wait_until(lambda: one.not_ready() is None)


def test_a_member_that_starts_without_postgresql_waits_for_it(kafka, projection):
    kafka.put(THING, *map(as_put, events(range(30))))
    with database_closed() as open_it, member("shown") as one:
        wait_until(lambda: one.not_ready() == "PostgreSQL does not answer")
        open_it()
        wait_until(lambda: len(projection()) == 30)


def test_a_member_that_starts_without_kafka_waits_for_it(kafka, projection, settings):
    kafka.put(THING, *map(as_put, events(range(30))))
    with closing(socket.create_server(("127.0.0.1", 0))) as place:
        address = "{}:{}".format(*place.getsockname())
    real = conf.get("KAFKA")["bootstrap.servers"]
    settings.OUTBOX = {**settings.OUTBOX, "KAFKA": {**conf.get("KAFKA"), "bootstrap.servers": address}}
    with member("shown") as one:
        wait_until(lambda: one.not_ready() == "Kafka does not answer")
        with forwarding(address, real):
            wait_until(lambda: one.not_ready() is None)
            wait_until(lambda: len(projection()) == 30)


@contextmanager
def forwarding(address: str, server: str):
    """Let connections to an address lead to a server."""

    def copy(source: socket.socket, sink: socket.socket) -> None:
        with source, sink:
            try:
                while data := source.recv(65_536):
                    sink.sendall(data)
            except OSError:
                pass

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            host, port = server.rsplit(":", 1)
            beyond = socket.create_connection((host, int(port)))
            for pair in ((client, beyond), (beyond, client)):
                Thread(target=copy, args=pair, daemon=True).start()

    host, port = address.rsplit(":", 1)
    with closing(socket.create_server((host, int(port)))) as listener:
        Thread(target=accept, daemon=True).start()
        yield


def test_a_member_without_partitions_is_ready(kafka):
    with member("shown") as a, member("shown") as b, member("shown") as c, member("shown") as d:
        wait_until(lambda: all(one.not_ready() is None for one in (a, b, c, d)))


def test_says_over_http_that_its_group_is_halted(kafka):
    with closing(socket.create_server(("127.0.0.1", 0))) as place:
        port = place.getsockname()[1]
    with running("run_consumer", "shown", f"--health-port={port}") as consumer:
        wait_until(lambda: answer(port, "readyz") == (200, "ok\n"))
        halt()
        wait_until(lambda: answer(port, "readyz")[0] == 503)
        assert "halted since" in answer(port, "readyz")[1]
        assert answer(port, "healthz") == (200, "ok\n")
        assert "outbox_consumer_lag_records" in answer(port, "metrics")[1]
        assert terminate(consumer) == 0


def answer(port: int, path: str) -> tuple[int, str]:
    try:
        with urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as response:
            return response.status, response.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def test_stops_in_time_while_postgresql_does_not_answer(kafka, projection):
    with psycopg.connect(**parameters()) as db:
        db.execute("LOCK TABLE sample_shown")
        with running("run_consumer", "shown") as consumer:
            kafka.put(THING, *map(as_put, events(range(10))))
            wait_until(lambda: blocked(db))
            consumer.send_signal(signal.SIGTERM)
            assert consumer.wait(10) == 0
    consume("shown")
    in_order_once(projection(), range(10))
    assert InboxEvent.objects.count() == 10


def parameters() -> dict:
    names = ("host", "port", "user", "password", "dbname")
    return {name: value for name, value in connection.get_connection_params().items() if name in names}


def blocked(db: psycopg.Connection) -> bool:
    return bool(db.execute("SELECT FROM pg_locks WHERE NOT granted AND relation = 'sample_shown'::regclass").fetchall())
