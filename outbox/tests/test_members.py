"""Members that come, go, are slow, or stand still: each event once, each key in order, offsets never back."""

import os
import signal
from contextlib import ExitStack
from threading import Event, Thread

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from django.db import connections

from outbox import conf
from outbox.kafka import admin_client, topic_name
from outbox.models import FailedMessage, InboxEvent
from outbox.tests.members import as_put, consume, events, in_order_once, member, members_of
from outbox.tests.processes import running, terminate, wait_until
from outbox.tests.sample import THING
from outbox.tests.shown import delays


class Load:
    """Puts events into Kafka all the while."""

    def __init__(self, kafka) -> None:
        self._kafka = kafka
        self._enough = Event()
        self.put = 0
        self._thread = Thread(target=self._run)

    def _run(self) -> None:
        while not self._enough.wait(0.05):
            self._kafka.put(THING, *map(as_put, events(range(self.put, self.put + 20))))
            self.put += 20
        connections.close_all()

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._enough.set()
        self._thread.join()


class Commits:
    """Looks at a group's committed offsets all the while, whether one goes back."""

    def __init__(self, group: str) -> None:
        self._group = conf.get("PREFIX") + group
        self._enough = Event()
        self.went_back: list[str] = []
        self._thread = Thread(target=self._run)

    def _run(self) -> None:
        client = admin_client()
        parts = [TopicPartition(topic_name(THING), number) for number in range(THING.partitions)]
        last: dict[int, int] = {}
        while not self._enough.wait(0.02):
            asked = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(self._group, parts)])
            for part in asked[self._group].result().topic_partitions:
                if part.offset < last.get(part.partition, -1001):
                    self.went_back.append(f"{part.partition}: {last[part.partition]} to {part.offset}")
                last[part.partition] = part.offset

    def __enter__(self) -> "Commits":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._enough.set()
        self._thread.join()


def test_three_members_that_come_and_go_under_load(kafka, projection):
    with Load(kafka) as load, Commits("shown") as commits, ExitStack() as left:
        command = ("run_consumer", "shown", "--batch-size=30")
        members = [left.enter_context(running(*command)) for _ in range(3)]
        wait_until(InboxEvent.objects.exists)
        for _ in range(3):
            wait_until(lambda: members_of("shown") == 3)
            applied = load.put
            assert terminate(members.pop(0)) == 0
            wait_until(lambda applied=applied: len(projection()) > applied)
            members.append(left.enter_context(running(*command)))
            applied = load.put + 500
            wait_until(lambda applied=applied: len(projection()) > applied)
        wait_until(lambda: members_of("shown") == 3)
        for one in members:
            assert terminate(one) == 0
    assert commits.went_back == []
    consume("shown")
    in_order_once(projection(), range(load.put))


def test_a_member_that_stood_still_while_another_took_over_doubles_nothing(kafka, projection):
    with Load(kafka) as load, running("run_consumer", "shown", "--batch-size=30") as zombie:
        wait_until(lambda: len(projection()) > 100)
        os.kill(zombie.pid, signal.SIGSTOP)
        with running("run_consumer", "shown", "--batch-size=30") as heir:
            applied = load.put
            wait_until(lambda: len(projection()) > applied, 60)
            os.kill(zombie.pid, signal.SIGCONT)
            applied = load.put + 500
            wait_until(lambda: len(projection()) > applied, 60)
            assert terminate(heir) == 0
            assert terminate(zombie) == 0
    consume("shown")
    in_order_once(projection(), range(load.put))
    assert not FailedMessage.objects.exists()


def test_a_member_that_was_slow_beyond_the_poll_interval_comes_back(kafka, projection, settings, caplog):
    intervals = {"max.poll.interval.ms": 6_000, "session.timeout.ms": 6_000}
    settings.OUTBOX = {**settings.OUTBOX, "CONSUMER": {**conf.get("CONSUMER"), **intervals}}
    kafka.put(THING, *map(as_put, events(range(40))))
    delays["t3"] = 3
    with member("shown", batch_size=100) as slow:
        # Four events of 3 s each are in a batch, which is about twice the interval.
        wait_until(lambda: "without this member" in caplog.text, 60)
        delays.clear()
        with member("shown", batch_size=100) as other:
            kafka.put(THING, *map(as_put, events(range(40, 80))))
            wait_until(lambda: len(projection()) == 80 and kafka.committed("shown", THING) == 80, 60)
            wait_until(lambda: slow.not_ready() is None and other.not_ready() is None)
    in_order_once(projection(), range(80))
    assert not FailedMessage.objects.exists()
