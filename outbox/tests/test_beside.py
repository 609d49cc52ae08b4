"""What works beside the consumers of a group, in their processes: both work, and both end together."""

import socket
from contextlib import closing

import pytest

from outbox.models import ConsumerGroup, InboxEvent
from outbox.tests import paired
from outbox.tests.members import as_put, events, members_of
from outbox.tests.processes import run, running, terminate, wait_until
from outbox.tests.sample import THING
from outbox.tests.test_children import children_of
from outbox.tests.test_standing import answer


@pytest.fixture(autouse=True)
def tasks(effects):
    paired.make_table()


@pytest.fixture
def port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as place:
        return place.getsockname()[1]


def takers() -> set[int]:
    """Return the processes that took tasks."""
    return {process for _, process in paired.done()}


def test_both_work_in_one_process_and_stop_in_time(kafka, effects):
    with running("run_consumer", "paired") as process:
        kafka.put(THING, *map(as_put, events(range(50))))
        paired.add(*["write"] * 50)
        wait_until(lambda: len(effects()) == len(paired.done()) == 50)
        assert takers() == {process.pid}
        assert terminate(process) == 0


@pytest.mark.parametrize("count", [0, 300])
def test_until_idle_ends_when_nothing_is_left_for_either(kafka, effects, count):
    kafka.put(THING, *map(as_put, events(range(300 - count))))
    paired.add(*["write"] * count)

    run("run_consumer", "paired", "--until-idle")

    assert (len(effects()), len(paired.done())) == (300 - count, count)


def test_the_death_of_one_ends_the_process_with_an_error_and_the_other_one_in_order(kafka, effects):
    with running("run_consumer", "paired") as process:
        kafka.put(THING, *map(as_put, events(range(50))))
        wait_until(lambda: len(effects()) == 50)
        paired.add("raise")
        assert process.wait(10) == 1
    assert kafka.committed("paired", THING) == 50


def test_the_end_of_the_consumer_ends_the_other_one(kafka):
    ConsumerGroup.objects.create(name="paired", halted_at="2026-01-01T00:00:00Z")
    kafka.put(THING, *map(as_put, events(range(1))))
    paired.add("hang")

    with running("run_consumer", "paired", "--until-idle") as process:
        assert process.wait(30) == 1
    assert not InboxEvent.objects.exists()


def test_one_that_stands_still_does_not_keep_the_process(kafka):
    with running("run_consumer", "paired") as process:
        paired.add("stand still")
        wait_until(paired.done)
        assert terminate(process) == 0


def test_each_child_has_its_own_and_one_that_died_is_replaced(kafka):
    with running("run_consumer", "paired", "--processes=2") as parent:
        wait_until(lambda: members_of("paired") == 2)
        before = {child.pid for child in children_of(parent)}
        paired.add("raise")
        wait_until(lambda: len({child.pid for child in children_of(parent)} - before) == 1 and len(takers()) == 1)
        wait_until(lambda: members_of("paired") == 2)
        paired.add("hang", "hang")
        wait_until(lambda: len(paired.done()) == 3)
        assert {process for task, process in paired.done() if task == "hang"} == {
            child.pid for child in children_of(parent)
        }
        assert terminate(parent) == 0


def test_tells_how_both_are(kafka, port):
    with running("run_consumer", "paired", f"--health-port={port}") as process:
        wait_until(lambda: answer(port, "readyz") == (200, "ok\n"))
        paired.add("complain")
        wait_until(lambda: answer(port, "readyz") == (503, "there is no paper\n"))
        assert answer(port, "healthz") == (200, "ok\n")
        paired.add("hang")
        wait_until(lambda: answer(port, "healthz")[0] == 503)
        assert "silent" in answer(port, "healthz")[1]
        assert terminate(process) == 0
