"""How a provider that calls out is asked: by rows, outside the consumers, and once in effect."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from functools import partial
from types import SimpleNamespace

import pytest
from django.db import connection
from django.utils import timezone
from uuid_utils.compat import uuid7

from orders.events import OrderCancelled, OrderReserved
from outbox.testing import STEPS
from payments import services, settling, tasks
from payments.models import Payment
from payments.tests.bank import PATH, TOO_MUCH, VARIABLE

pytestmark = pytest.mark.django_db

SETTLE = "import django; django.setup(); from payments.settling import settle_due; settle_due()"
WALLET = "payments.providers.WalletProvider"


def events_of(customer, amount="30.00"):
    """Return what orders tells of a new order, and its id."""
    order = {"order_id": uuid7(), "customer_id": customer.id, "currency": "USD"}
    return SimpleNamespace(
        order_id=order["order_id"],
        reserved=OrderReserved(**order, amount=Decimal(amount)),
        cancelled=OrderCancelled(**order, total=Decimal(amount), reason="CUSTOMER"),
    )


@pytest.fixture
def told(customer):
    return events_of(customer)


@pytest.fixture
def deliver(outbox):
    return partial(outbox.deliver, "payments")


def test_a_bank_is_not_asked_for_nothing(bank, customer, deliver, outbox):
    told = events_of(customer, "0.00")
    deliver(told.reserved)
    assert outbox.types == ["payment.succeeded"]
    deliver(told.cancelled)
    assert status(told) == "REFUNDED"
    assert settling.settle_due() == 0
    assert bank.asked == []


def payment_of(told):
    return Payment.objects.get(pk=told.order_id)


def status(told):
    return payment_of(told).status


def make_due():
    """Let time pass until all that waits is due."""
    Payment.objects.filter(due_at__isnull=False).update(due_at=timezone.now() - timedelta(seconds=1))


def settle_all():
    """Run the settler until nothing is due, and return how often a provider was asked."""
    return sum(iter(settling.settle_due, 0))


def wait_until(happened: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def long_pauses(monkeypatch):
    """Let what got no answer not be due again in a test, however slow the machine is."""
    monkeypatch.setattr(services, "FIRST_PAUSE_SECONDS", services.LAST_PAUSE_SECONDS)


@contextmanager
def settling_beside(settle_due=settling.settle_due):
    """Run the settler on a connection of its own; the block ends when it has returned."""

    def settle():
        try:
            return settle_due()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        settler = pool.submit(settle)
        yield
        settler.result()


def test_the_consumer_writes_a_row_and_asks_nobody(bank, told, deliver, outbox):
    deliver(told.reserved)
    assert (status(told), payment_of(told).captured) == ("PENDING", 0)
    assert bank.asked == []
    assert outbox.events == []


def test_the_settler_asks_and_tells(bank, told, deliver, outbox):
    deliver(told.reserved)
    tasks.settle_due()
    payment = payment_of(told)
    assert (payment.status, payment.captured, payment.due_at) == ("SUCCEEDED", Decimal("30.00"), None)
    assert bank.acts == [("capture", str(told.order_id))]
    [event] = outbox.events
    assert (event.type, event.amount, event.currency) == ("payment.succeeded", Decimal("30.00"), "USD")


def test_what_the_provider_declines_has_failed_with_its_reason(bank, customer, deliver, outbox):
    told = events_of(customer, amount=str(TOO_MUCH))
    deliver(told.reserved)
    assert settling.settle_due() == 1
    assert status(told) == "FAILED"
    assert outbox.events[0].reason == "card_declined"


@pytest.mark.parametrize(("reason", "told_reason"), [("", "declined"), (None, "declined"), (0, "declined"), (51, "51")])
def test_what_the_provider_declines_has_failed_whatever_it_says(bank, customer, deliver, outbox, reason, told_reason):
    bank.reason = reason
    told = events_of(customer, amount=str(TOO_MUCH))
    deliver(told.reserved)
    settling.settle_due()
    assert (status(told), payment_of(told).captured) == ("FAILED", 0)
    assert [event.reason for event in outbox.events] == [told_reason]


def test_asks_for_all_that_is_due_and_nothing_twice(bank, customer, deliver):
    deliver(*[events_of(customer).reserved for _ in range(2 * settling.CALLS_AT_ONCE)])
    # More than once where calls take so long that it gives way to Celery's other work.
    assert settle_all() == 2 * settling.CALLS_AT_ONCE
    assert len(bank.asked) == len(set(bank.acts)) == 2 * settling.CALLS_AT_ONCE


class TestCancel:
    def test_before_the_provider_was_asked_lets_nobody_ask(self, bank, told, deliver, outbox):
        deliver(told.reserved, told.cancelled)
        assert settling.settle_due() == 0
        assert status(told) == "CANCELLED"
        assert (bank.asked, outbox.events) == ([], [])

    def test_before_the_order_asked_leaves_a_mark(self, bank, told, deliver):
        deliver(told.cancelled, told.reserved)
        assert settling.settle_due() == 0
        assert status(told) == "CANCELLED"

    def test_after_the_capture_gives_back_once(self, bank, told, deliver, outbox):
        deliver(told.reserved)
        settling.settle_due()
        deliver(told.cancelled)
        assert status(told) == "REFUNDING"
        assert settling.settle_due() == 1
        assert (status(told), payment_of(told).refunded) == ("REFUNDED", Decimal("30.00"))
        assert [what for what, _ in bank.acts] == ["capture", "refund"]
        assert outbox.types == ["payment.succeeded", "payment.refunded"]

    @pytest.mark.django_db(transaction=True)
    def test_while_the_provider_is_asked_waits_for_nobody_and_gives_back_what_it_took(
        self, bank, told, deliver, outbox
    ):
        deliver(told.reserved)
        bank.answers.clear()
        with settling_beside():
            wait_until(lambda: bank.asked)
            # The consumer's transaction is over while the bank still thinks.
            deliver(told.cancelled)
            assert status(told) == "CANCELLING"
            bank.answers.set()
        settling.settle_due()
        assert status(told) == "REFUNDED"
        assert [what for what, _ in bank.asked] == ["capture", "refund"]
        assert outbox.types == ["payment.succeeded", "payment.refunded"]

    @pytest.mark.django_db(transaction=True)
    def test_while_the_provider_is_asked_gives_back_nothing_when_it_declines(self, bank, customer, deliver, outbox):
        told = events_of(customer, amount=str(TOO_MUCH))
        deliver(told.reserved)
        bank.answers.clear()
        with settling_beside():
            wait_until(lambda: bank.asked)
            deliver(told.cancelled)
            bank.answers.set()
        assert settling.settle_due() == 0
        assert status(told) == "FAILED"
        assert outbox.types == ["payment.failed"]

    @pytest.mark.parametrize("trouble", ["broken", "lost"])
    def test_while_nobody_knows_whether_it_took_asks_again_and_gives_back(self, bank, told, deliver, outbox, trouble):
        bank.troubles = [trouble]
        deliver(told.reserved)
        settling.settle_due()
        deliver(told.cancelled)
        make_due()
        settling.settle_due()
        assert status(told) == "REFUNDED"
        assert [what for what, _ in bank.acts] == ["capture", "refund"]
        assert outbox.types == ["payment.succeeded", "payment.refunded"]


class TestNoAnswer:
    @pytest.mark.parametrize("trouble", ["broken", "lost"])
    def test_is_asked_again_with_the_same_key_and_acts_once(self, bank, told, deliver, outbox, trouble):
        bank.troubles = [trouble]
        deliver(told.reserved)
        assert settling.settle_due() == 1
        payment = payment_of(told)
        assert (payment.status, payment.attempts) == ("PENDING", 1)
        assert payment.due_at > timezone.now()
        assert payment.error
        assert outbox.events == []

        make_due()
        settling.settle_due()
        payment = payment_of(told)
        assert (payment.status, payment.error) == ("SUCCEEDED", "")
        assert bank.asked == 2 * [("capture", str(told.order_id))]
        assert len(bank.acts) == len(outbox.events) == 1

    def test_to_a_refund_is_asked_again_and_gives_back_once(self, bank, told, deliver, outbox):
        deliver(told.reserved)
        settling.settle_due()
        deliver(told.cancelled)
        bank.troubles = ["lost", "broken"]
        for _ in range(3):
            make_due()
            settling.settle_due()
        assert status(told) == "REFUNDED"
        assert [what for what, _ in bank.asked] == ["capture", "refund", "refund", "refund"]
        assert outbox.types == ["payment.succeeded", "payment.refunded"]

    def test_of_a_provider_that_is_not_there_is_no_failure(self, bank, told, deliver, monkeypatch, outbox):
        deliver(told.reserved)
        monkeypatch.setenv(VARIABLE, "http://127.0.0.1:1")
        settling.settle_due()
        assert status(told) == "PENDING"
        assert "ConnectError" in payment_of(told).error
        assert outbox.events == []

    def test_is_not_waited_for_without_end(self, bank, told, deliver, monkeypatch, outbox):
        deliver(told.reserved)
        bank.answers.clear()
        with monkeypatch.context() as patched:
            patched.setattr(settling, "GIVE_UP_SECONDS", 0.1)
            assert settling.settle_due() == 1
        payment = payment_of(told)
        assert (payment.status, payment.attempts, outbox.events) == ("PENDING", 1, [])
        assert "TimeoutError" in payment.error
        bank.answers.set()
        make_due()
        settling.settle_due()
        assert (status(told), len(bank.acts)) == ("SUCCEEDED", 1)

    @pytest.mark.parametrize(("attempts", "seconds"), [(1, 1), (2, 2), (5, 16), (10, 300), (100, 300)])
    def test_is_asked_for_again_later_each_time(self, bank, told, deliver, monkeypatch, attempts, seconds):
        monkeypatch.setattr(services, "FIRST_PAUSE_SECONDS", 1)
        deliver(told.reserved)
        before = timezone.now()
        services.put_off(order_id=told.order_id, attempts=attempts, error="?")
        assert before <= payment_of(told).due_at - timedelta(seconds=seconds) <= timezone.now()

    def test_that_comes_when_it_is_settled_changes_nothing(self, bank, told, deliver):
        deliver(told.reserved)
        settling.settle_due()
        services.put_off(order_id=told.order_id, attempts=1, error="late")
        assert (payment_of(told).due_at, payment_of(told).error) == (None, "")


def test_an_answer_that_cannot_be_recorded_is_asked_for_again_and_stops_no_other(bank, customer, deliver, outbox):
    # Half of a character, which no event can tell.
    bank.reason = "\ud800"
    odd, good = events_of(customer, amount=str(TOO_MUCH)), events_of(customer)
    deliver(odd.reserved, good.reserved)
    assert settling.settle_due() == 2
    assert (status(good), outbox.types) == ("SUCCEEDED", ["payment.succeeded"])
    payment = payment_of(odd)
    assert (payment.status, payment.attempts) == ("PENDING", 1)
    assert payment.due_at > timezone.now()
    assert "InvalidEvent" in payment.error

    bank.reason = "card_declined"
    make_due()
    settling.settle_due()
    assert (status(odd), payment_of(odd).error) == ("FAILED", "")


class TestTwice:
    def test_an_answer_counts_once(self, bank, told, deliver, outbox, rows):
        deliver(told.reserved)
        services.record_capture(order_id=told.order_id)
        before = rows()
        services.record_capture(order_id=told.order_id)
        services.record_capture(order_id=told.order_id, declined="late")
        assert rows() == before
        deliver(told.cancelled)
        services.record_refund(order_id=told.order_id)
        before = rows()
        services.record_refund(order_id=told.order_id)
        services.record_capture(order_id=told.order_id)
        assert rows() == before
        assert outbox.types == ["payment.succeeded", "payment.refunded"]

    def test_an_event_changes_nothing_whatever_became_of_the_payment(self, bank, told, deliver, rows):
        deliver(told.reserved)
        settling.settle_due()
        before = rows()
        deliver(told.reserved, forget=True)
        assert rows() == before
        deliver(told.cancelled)
        settling.settle_due()
        before = rows()
        deliver(told.cancelled, told.reserved, forget=True)
        assert rows() == before

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("name", ["reserved", "cancelled"])
    def test_crashes_of_the_consumer_at_every_step_leave_the_effects_of_one_delivery(
        self, bank, told, deliver, outbox, name
    ):
        if name == "cancelled":
            deliver(told.reserved)
            settling.settle_due()
        deliver(getattr(told, name), crash_at=STEPS)
        settling.settle_due()
        assert status(told) == {"reserved": "SUCCEEDED", "cancelled": "REFUNDED"}[name]
        assert len(set(bank.acts)) == len(bank.acts) == len(outbox.types)


class TestProviderOfAPayment:
    def test_gives_back_what_it_took_whatever_the_setting_says_now(self, bank, told, deliver, settings):
        deliver(told.reserved)
        settling.settle_due()
        settings.PAYMENT_PROVIDER = WALLET
        deliver(told.cancelled)
        settling.settle_due()
        assert status(told) == "REFUNDED"
        assert [what for what, _ in bank.acts] == ["capture", "refund"]

    def test_is_the_wallet_for_what_the_wallet_paid(self, bank, told, customer, deliver, settings):
        settings.PAYMENT_PROVIDER = WALLET
        services.deposit(user_id=customer.id, amount=Decimal("100.00"))
        deliver(told.reserved)
        settings.PAYMENT_PROVIDER = PATH
        other = events_of(customer)
        deliver(other.reserved)
        settling.settle_due()
        deliver(told.cancelled, other.cancelled)
        assert (status(told), status(other)) == ("REFUNDED", "REFUNDING")
        assert bank.acts == [("capture", str(other.order_id))]


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    def test_two_settlers_ask_for_each_payment_once(self, bank, customer, deliver, at_once):
        deliver(*[events_of(customer).reserved for _ in range(50)])
        assert sum(at_once(settling.settle_due, settling.settle_due)) + settle_all() == 50
        assert len(bank.asked) == 50

    def test_celery_settles_in_one_process_and_leaves_the_others_to_other_work(
        self, bank, customer, deliver, monkeypatch
    ):
        monkeypatch.setattr(settling, "CALLS_AT_ONCE", 1)
        asked, other = events_of(customer), events_of(customer)
        deliver(asked.reserved)
        bank.answers.clear()
        with settling_beside(tasks.settle_due):
            wait_until(lambda: bank.asked)
            deliver(other.reserved)
            tasks.settle_due()
            assert bank.asked == [("capture", str(asked.order_id))]
            bank.answers.set()
        tasks.settle_due()
        assert (status(asked), status(other)) == ("SUCCEEDED", "SUCCEEDED")

    def test_nobody_takes_what_another_has_taken(self, bank, told, deliver):
        deliver(told.reserved)
        assert len(services.take_due(limit=10)) == 1
        assert settling.settle_due() == 0

    def test_what_a_dead_settler_took_is_asked_again_when_its_lease_is_over(self, bank, told, deliver, outbox):
        deliver(told.reserved)
        services.take_due(limit=10)
        make_due()
        assert settling.settle_due() == 1
        assert (status(told), outbox.types) == ("SUCCEEDED", ["payment.succeeded"])

    def test_a_settler_killed_in_the_middle_loses_and_doubles_nothing(self, bank, told, deliver, outbox):
        deliver(told.reserved)
        bank.answers.clear()
        database = connection.get_connection_params()
        url = "postgresql://{user}:{password}@{host}:{port}/{dbname}".format(**{"password": "", **database})
        settler = subprocess.Popen([sys.executable, "-c", SETTLE], env={**os.environ, "DATABASE_URL": url})
        try:
            wait_until(lambda: bank.asked)
        finally:
            settler.send_signal(signal.SIGKILL)
            settler.wait(10)
        bank.answers.set()
        wait_until(lambda: bank.acts)
        assert status(told) == "PENDING"

        make_due()
        settling.settle_due()
        assert status(told) == "SUCCEEDED"
        assert bank.acts == [("capture", str(told.order_id))]
        assert outbox.types == ["payment.succeeded"]

    def test_a_cancel_that_waits_for_an_answer_gives_back(self, bank, told, deliver, overtake, outbox):
        deliver(told.reserved)
        services.take_due(limit=1)
        overtake(partial(services.record_capture, order_id=told.order_id), partial(deliver, told.cancelled))
        assert status(told) == "REFUNDING"

    def test_an_answer_that_waits_for_a_cancel_is_given_back(self, bank, told, deliver, overtake, outbox):
        deliver(told.reserved)
        services.take_due(limit=1)
        overtake(partial(deliver, told.cancelled), partial(services.record_capture, order_id=told.order_id))
        assert (status(told), outbox.types) == ("REFUNDING", ["payment.succeeded"])

    def test_a_settler_passes_over_what_a_cancel_holds(self, bank, told, deliver, overtake):
        deliver(told.reserved)
        assert overtake(partial(deliver, told.cancelled), settling.settle_due) == 0
        assert settling.settle_due() == 0
        assert (status(told), bank.asked) == ("CANCELLED", [])

    def test_of_many_answers_one_is_told(self, bank, told, deliver, at_once, outbox):
        deliver(told.reserved)
        answers = [
            partial(services.record_capture, order_id=told.order_id),
            partial(services.record_capture, order_id=told.order_id, declined="no"),
        ]
        assert at_once(*answers * 3) == [None] * 6
        assert len(outbox.events) == 1


@pytest.mark.django_db(transaction=True)
class TestCrashBeforeCommit:
    @pytest.mark.parametrize(
        "write",
        [
            lambda order_id: services.take_due(limit=1),
            lambda order_id: services.record_capture(order_id=order_id),
            lambda order_id: services.record_capture(order_id=order_id, declined="no"),
        ],
        ids=["take", "capture", "decline"],
    )
    def test_leaves_nothing(self, bank, told, deliver, outbox, rows, write):
        deliver(told.reserved)
        before = rows()
        outbox.crash(partial(write, told.order_id))
        assert rows() == before

    def test_of_a_refund_leaves_nothing(self, bank, told, deliver, outbox, rows):
        deliver(told.reserved)
        settling.settle_due()
        deliver(told.cancelled)
        before = rows()
        outbox.crash(partial(services.record_refund, order_id=told.order_id))
        assert rows() == before
