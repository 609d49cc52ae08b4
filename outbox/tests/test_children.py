"""One command as several processes: the parent tends its children, and all end together."""

import os
import signal
import socket
from contextlib import closing

import psutil
import pytest
from django.core.management import CommandError, call_command

from outbox.models import ConsumerGroup, InboxEvent
from outbox.tests.members import as_put, events, in_order_once, members_of
from outbox.tests.processes import run, running, terminate, wait_until
from outbox.tests.sample import THING
from outbox.tests.test_standing import answer, halt


def children_of(process) -> list[psutil.Process]:
    return psutil.Process(process.pid).children()


def gone(processes: list[psutil.Process]) -> bool:
    return not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in processes)


def test_processes_are_members_of_one_group_and_one_killed_is_replaced(kafka, projection):
    with running("run_consumer", "shown", "--processes=2", "--batch-size=20") as parent:
        kafka.put(THING, *map(as_put, events(range(500))))
        wait_until(lambda: members_of("shown") == 2)
        killed, other = children_of(parent)
        killed.kill()
        wait_until(lambda: len(children_of(parent)) == 2 and other in children_of(parent) and gone([killed]))
        wait_until(lambda: members_of("shown") == 2)
        kafka.put(THING, *map(as_put, events(range(500, 1_000))))
        wait_until(lambda: len(projection()) == 1_000)
        children = children_of(parent)
        assert terminate(parent) == 0
        assert gone(children)
    in_order_once(projection(), range(1_000))


def test_children_of_a_killed_parent_end_too(kafka):
    with running("run_consumer", "shown", "--processes=2") as parent:
        wait_until(lambda: members_of("shown") == 2)
        children = children_of(parent)
        parent.kill()
        wait_until(lambda: gone(children), 10)
    wait_until(lambda: members_of("shown") == 0)


def test_the_parent_stops_in_time_though_a_child_stands_still(kafka):
    with running("run_consumer", "shown", "--processes=2") as parent:
        wait_until(lambda: members_of("shown") == 2)
        children = children_of(parent)
        os.kill(children[0].pid, signal.SIGSTOP)
        assert terminate(parent) == 0
        assert gone(children)


def test_until_idle_the_parent_ends_when_its_children_have(kafka, projection):
    kafka.put(THING, *map(as_put, events(range(300))))

    run("run_consumer", "shown", "--processes=2", "--until-idle", "--batch-size=20")

    in_order_once(projection(), range(300))
    assert kafka.committed("shown", THING) == 300


def test_the_parent_tells_how_its_children_are_and_what_they_did(kafka, projection):
    with closing(socket.create_server(("127.0.0.1", 0))) as place:
        port = place.getsockname()[1]
    with running("run_consumer", "shown", "--processes=2", f"--health-port={port}") as parent:
        wait_until(lambda: answer(port, "readyz") == (200, "ok\n"))
        kafka.put(THING, *map(as_put, events(range(50))))
        wait_until(lambda: InboxEvent.objects.count() == 50)
        assert 'outbox_consumer_records_total{group="shown",outcome="applied"} 50.0' in answer(port, "metrics")[1]
        halt()
        wait_until(lambda: answer(port, "readyz")[0] == 503)
        assert "halted since" in answer(port, "readyz")[1]
        ConsumerGroup.objects.update(halted_at=None)
        wait_until(lambda: answer(port, "readyz")[0] == 200)
        children_of(parent)[0].suspend()
        wait_until(lambda: answer(port, "healthz")[0] == 503)
        assert "has been silent for" in answer(port, "healthz")[1]
        assert terminate(parent) == 0


def test_a_child_does_not_lift_a_halt_that_came_after_the_start(kafka, projection):
    with running("run_consumer", "shown", "--processes=2", "--resume") as parent:
        wait_until(lambda: members_of("shown") == 2)
        halt()
        child = children_of(parent)[0]
        child.kill()
        wait_until(lambda: gone([child]) and len(children_of(parent)) == 2)
        wait_until(lambda: members_of("shown") == 2)
        assert ConsumerGroup.objects.get(name="shown").halted_at is not None
        assert terminate(parent) == 0


def test_processes_are_refused_where_there_is_no_command_line():
    with pytest.raises(CommandError, match="is for the command line"):
        call_command("run_consumer", "shown", "--processes=2")
