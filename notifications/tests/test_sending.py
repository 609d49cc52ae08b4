"""The sender: what it takes, what others take meanwhile, and what is left when it dies."""

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial

import psycopg
import pytest
from django.db import connection

from notifications import sending, services, tasks
from notifications.kinds import Channel, Kind
from notifications.models import Notification, Outage
from notifications.sending import send_due
from notifications.services import LEASE_SECONDS, Results, Trouble
from outbox.tests.processes import environment, wait_until

EMAIL = Notification.objects.filter(channel=Channel.EMAIL)
# A sender that is called without a pause, until it is killed.
SENDER = """
import django
django.setup()
from notifications.kinds import Channel
from notifications.sending import send_due
while True:
    send_due(Channel.EMAIL)
"""
KILLS = 4


def has_taken(office, letters):
    return len(office.letters) >= letters


def kill_when(happened, command, env):
    """Start a process, and kill it when something has happened."""
    process = subprocess.Popen(command, env=env)
    try:
        wait_until(lambda: process.poll() is not None or happened())
    finally:
        process.send_signal(signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    def test_senders_beside_each_other_send_each_message_once(self, customer, welcome, post_office, at_once):
        welcome(customer, 200)
        assert sum(at_once(*[partial(send_due, Channel.EMAIL)] * 4)) + send_due(Channel.EMAIL) == 200
        assert len(set(post_office.ids)) == len(post_office.ids) == 200

    def test_celery_gives_a_channel_no_more_processes_than_it_bears(self, chatting, welcome, bot, at_once):
        welcome(chatting, 1)
        bot.troubles = ["hang"]

        def meanwhile():
            wait_until(lambda: bot.asked)
            welcome(chatting, 5)
            tasks.send_due("TELEGRAM")
            asked = bot.asked
            bot.lets_go.set()
            return asked

        _, asked = at_once(partial(tasks.send_due, "TELEGRAM"), meanwhile)
        assert asked == 1

    def test_nobody_takes_what_another_has_taken(self, customer, welcome, post_office):
        welcome(customer)
        assert len(services.take_due(channel=Channel.EMAIL, limit=10)) == 1
        assert send_due(Channel.EMAIL) == 0

    def test_what_a_dead_sender_took_is_sent_when_its_lease_is_over(self, customer, welcome, post_office, time_passes):
        welcome(customer)
        services.take_due(channel=Channel.EMAIL, limit=10)
        time_passes(LEASE_SECONDS)
        assert send_due(Channel.EMAIL) == 1

    def test_a_sender_killed_again_and_again_loses_and_doubles_nothing(
        self, customer, welcome, post_office, time_passes
    ):
        chance = random.Random(6)
        welcome(customer, 1500)
        rows = set(EMAIL.values_list("pk", flat=True))
        env = {**environment(), "EMAIL_URL": f"smtp://127.0.0.1:{post_office.port}", "EMAIL_FROM": "a@shop.example"}
        for kill in range(KILLS):
            enough = len(post_office.letters) + chance.randint(1, 200)
            kill_when(partial(has_taken, post_office, enough), [sys.executable, "-c", SENDER], env)
            assert EMAIL.filter(status="PENDING").exists(), f"all was sent before kill {kill}"
            time_passes(LEASE_SECONDS)
        while EMAIL.filter(status="PENDING").exists():
            assert send_due(Channel.EMAIL)

        assert set(EMAIL.filter(status="SENT").values_list("pk", flat=True)) == rows
        times = Counter(post_office.ids)
        assert times.keys() == {f"<{pk}@shop.example>" for pk in rows}
        # Sent and not yet recorded: at most one batch each time it was killed.
        assert times.total() - len(times) <= KILLS * sending.BATCH


@pytest.mark.django_db(transaction=True)
def test_what_was_sent_while_postgresql_went_away_is_not_sent_again(customer, welcome, post_office, monkeypatch):
    welcome(customer, 20)
    pid = connection.connection.info.backend_pid

    def cut_at_the_tenth():
        if len(post_office.letters) == 9:
            with psycopg.connect(**connection.get_connection_params()) as other:
                other.execute("SELECT pg_terminate_backend(%s)", [pid])

    post_office.looks = cut_at_the_tenth
    monkeypatch.setattr(sending, "RECORD_SECONDS", 0.01)
    sent = send_due(Channel.EMAIL)
    assert 10 <= sent + send_due(Channel.EMAIL) == 20
    assert len(set(post_office.ids)) == len(post_office.ids) == 20
    assert set(EMAIL.values_list("status", flat=True)) == {"SENT"}


@pytest.mark.django_db
class TestRecord:
    def test_a_sender_that_was_thought_dead_changes_nothing_of_what_another_has_taken(
        self, customer, welcome, post_office, time_passes
    ):
        welcome(customer, 3)
        late = services.take_due(channel=Channel.EMAIL, limit=3)
        time_passes(LEASE_SECONDS)
        taken = services.take_due(channel=Channel.EMAIL, limit=3)
        before = list(EMAIL.order_by("pk").values())
        first, second, third = (row.pk for row in late)
        services.record(
            channel=Channel.EMAIL,
            taken=late,
            results=Results(refused={first: "no"}, unsent={second: "later"}, untried=[third]),
        )
        assert list(EMAIL.order_by("pk").values()) == before
        # But what it has sent, is sent.
        services.record(channel=Channel.EMAIL, taken=late, results=Results(sent=[first]))
        services.record(
            channel=Channel.EMAIL, taken=taken, results=Results(refused={first: "no"}, sent=[second, third])
        )
        assert set(EMAIL.values_list("status", flat=True)) == {"SENT"}

    def test_is_made_while_the_batch_is_sent(self, customer, welcome, post_office, monkeypatch):
        monkeypatch.setattr(sending, "RECORD_SECONDS", -1)
        welcome(customer, 3)
        recorded = []
        handle = post_office.handle_DATA

        async def look(*args):
            recorded.append(len(post_office.letters))
            return await handle(*args)

        monkeypatch.setattr(services, "record", counting := Counting(services.record))
        monkeypatch.setattr(post_office, "handle_DATA", look)
        send_due(Channel.EMAIL)
        assert recorded == [0, 1, 2]
        assert [len(results.sent) for results in counting.seen] == [1, 1, 1, 0]

    def test_waits_longer_each_time_and_not_for_ever(self):
        def longest(attempt):
            return max(services.backoff_seconds(attempt, 10, 3600) for _ in range(200))

        def shortest(attempt):
            return min(services.backoff_seconds(attempt, 10, 3600) for _ in range(200))

        assert 5 <= shortest(1) < longest(1) <= 10
        assert 10 <= shortest(2) < longest(2) <= 20
        assert 1800 <= shortest(1000) < longest(1000) <= 3600


class Counting:
    """Calls a function, and keeps the results that it was called with."""

    def __init__(self, function):
        self._function, self.seen = function, []

    def __call__(self, **arguments):
        self.seen.append(arguments["results"])
        return self._function(**arguments)


@pytest.mark.django_db
def test_ends_in_time_and_leaves_the_rest_to_the_next(customer, welcome, post_office, monkeypatch):
    monkeypatch.setattr(sending, "SEND_SECONDS", -1)
    welcome(customer, 3)
    assert send_due(Channel.EMAIL) == 0
    monkeypatch.setattr(sending, "SEND_SECONDS", 5)
    moments = iter([0, 0, 0, 0, 0, 0, 100])
    monkeypatch.setattr(sending, "monotonic", lambda: next(moments, 100))
    sent = send_due(Channel.EMAIL)
    assert 1 <= sent < 3
    assert sorted(EMAIL.values_list("status", "attempts")) == [("PENDING", 0)] * (3 - sent) + [("SENT", 1)] * sent
    monkeypatch.setattr(sending, "monotonic", time.monotonic)
    assert send_due(Channel.EMAIL) == 3 - sent


@pytest.mark.django_db
def test_one_that_cannot_be_written_keeps_no_other_waiting(customer, welcome, post_office, caplog):
    welcome(customer)
    # As by a later version, whose texts name more.
    [broken] = [row for row in welcome(customer) if row.channel == Channel.EMAIL]
    EMAIL.filter(pk=broken.pk).update(kind=Kind.ORDER_COMPLETED)
    assert send_due(Channel.EMAIL) == 1
    assert (EMAIL.get(kind="ORDER_COMPLETED").status, EMAIL.get(kind="WELCOME").status) == ("PENDING", "SENT")
    assert "KeyError" in EMAIL.get(kind="ORDER_COMPLETED").error
    assert "a message could not be made" in caplog.text


@pytest.mark.django_db
def test_what_failed_is_sent_again_when_a_person_says_so(customer, welcome, post_office):
    welcome(customer, 2)
    post_office.of_address["carol@example.com"] = "550 gone"
    send_due(Channel.EMAIL)
    ids = list(EMAIL.values_list("pk", flat=True))
    post_office.of_address.clear()
    assert services.send_again(ids=ids[:1]) == 1
    assert services.send_again(ids=ids[:1]) == 0
    assert send_due(Channel.EMAIL) == 1
    assert Counter(EMAIL.values_list("status", flat=True)) == {"SENT": 1, "FAILED": 1}
    # What was sent is not sent again, even so.
    assert services.send_again(ids=ids) == 1


@pytest.mark.django_db
def test_an_outage_of_one_channel_is_none_of_another(chatting, welcome, post_office, bot):
    welcome(chatting)
    post_office.close()
    assert send_due(Channel.EMAIL) == 0
    assert send_due(Channel.TELEGRAM) == 1


@pytest.mark.django_db
def test_an_outage_that_a_person_ends_is_over_at_once(customer, welcome, post_office):
    welcome(customer)
    post_office.close()
    send_due(Channel.EMAIL)
    post_office.open()
    assert services.end_outage(channel=Channel.EMAIL)
    assert not services.end_outage(channel=Channel.EMAIL)
    assert send_due(Channel.EMAIL) == 1


@pytest.mark.django_db
def test_a_pause_is_not_made_shorter_by_another(customer):
    nothing = {"channel": Channel.TELEGRAM, "taken": [], "results": Results()}
    services.record(**nothing, trouble=Trouble("429", seconds=300))
    until = Outage.objects.get().paused_until
    services.record(**nothing, trouble=Trouble("502"))
    assert (Outage.objects.get().paused_until, Outage.objects.get().failures) == (until, 2)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "write",
    [
        lambda taken: services.take_due(channel=Channel.EMAIL, limit=1),
        lambda taken: services.record(
            channel=Channel.EMAIL, taken=taken, results=Results(sent=[row.pk for row in taken])
        ),
        lambda taken: services.record(
            channel=Channel.EMAIL, taken=taken, results=Results(refused={row.pk: "no" for row in taken})
        ),
        lambda taken: services.record(
            channel=Channel.EMAIL,
            taken=taken,
            results=Results(unsent={row.pk: "hm" for row in taken}),
            trouble=Trouble("away"),
        ),
        lambda taken: services.send_again(ids=EMAIL.values_list("pk", flat=True)),
    ],
    ids=["take", "record sent", "record refused", "pause", "send again"],
)
def test_a_crash_before_the_commit_leaves_nothing(customer, welcome, outbox, write):
    welcome(customer, 3)
    first, *_ = services.take_due(channel=Channel.EMAIL, limit=1)
    services.record(channel=Channel.EMAIL, taken=[first], results=Results(refused={first.pk: "no"}))
    taken = services.take_due(channel=Channel.EMAIL, limit=1)
    before = list(EMAIL.order_by("pk").values())
    outbox.crash(partial(write, taken))
    assert list(EMAIL.order_by("pk").values()) == before
    assert not Outage.objects.exists()
