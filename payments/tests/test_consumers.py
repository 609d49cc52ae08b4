"""How payments takes events that come twice, late, in another order or around crashes."""

from decimal import Decimal

import pytest
from uuid_utils.compat import uuid7

from orders.events import OrderCancelled, OrderReserved
from outbox.testing import STEPS
from payments import services
from payments.models import Payment, Wallet

pytestmark = pytest.mark.django_db

# What comes, and what is then in the wallet, which held 100.00.
CASES = [
    (["reserved"], "70.00"),
    (["too_much"], "100.00"),
    (["reserved", "cancelled"], "100.00"),
    (["cancelled"], "100.00"),
]


@pytest.fixture
def told(customer):
    """Events about an order of 30.00 by a customer who has 100.00."""
    services.deposit(user_id=customer.id, amount=Decimal("100.00"))
    order = {"order_id": uuid7(), "customer_id": customer.id, "currency": "USD"}
    return {
        "reserved": OrderReserved(**order, amount=Decimal("30.00")),
        "too_much": OrderReserved(**order, amount=Decimal("100.01")),
        "cancelled": OrderCancelled(**order, total=Decimal("30.00"), reason="CUSTOMER"),
    }


@pytest.mark.parametrize(("names", "balance"), CASES)
def test_delivered_twice_is_applied_once(told, outbox, rows, names, balance):
    outbox.deliver("payments", *(told[name] for name in names))
    assert Wallet.objects.get().balance == Decimal(balance)
    before = rows()
    outbox.deliver("payments", told[names[-1]], forget=True)
    assert rows() == before


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("names", "balance"), CASES)
def test_crashes_at_every_step_leave_the_effects_of_one_delivery(told, outbox, names, balance):
    *earlier, last = (told[name] for name in names)
    outbox.deliver("payments", *earlier)
    outbox.deliver("payments", last, crash_at=STEPS)
    assert Wallet.objects.get().balance == Decimal(balance)
    assert len(set(outbox.types)) == len(outbox.types)


@pytest.mark.parametrize("late", ["reserved", "cancelled"])
def test_what_comes_after_the_refund_changes_nothing(told, outbox, rows, late):
    outbox.deliver("payments", told["reserved"], told["cancelled"])
    before = rows()
    outbox.deliver("payments", told[late], forget=True)
    assert rows() == before


def test_a_failure_stays_one_when_money_came_in_before_the_repeat(told, customer, outbox):
    outbox.deliver("payments", told["too_much"])
    services.deposit(user_id=customer.id, amount=Decimal("1.00"))
    outbox.deliver("payments", told["too_much"], forget=True)
    assert outbox.types == ["payment.failed"]


def test_a_capture_after_the_cancel_takes_nothing(told, outbox):
    outbox.deliver("payments", told["cancelled"], told["reserved"])
    assert Wallet.objects.get().balance == Decimal("100.00")
    assert Payment.objects.get().status == Payment.Status.CANCELLED
    assert outbox.events == []
