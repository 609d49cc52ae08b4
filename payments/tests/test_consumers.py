"""How payments takes events that come twice, late or in another order."""

from decimal import Decimal

import pytest
from uuid_utils.compat import uuid7

from orders.events import OrderCancelled, OrderReserved
from payments import consumers, services
from payments.models import Payment, Wallet

pytestmark = pytest.mark.django_db


@pytest.fixture
def order(customer):
    """An order of 30.00 by a customer who has 100.00."""
    services.deposit(user_id=customer.id, amount=Decimal("100.00"))
    return {"order_id": uuid7(), "customer_id": customer.id, "currency": "USD"}


def reserved(order, amount="30.00"):
    consumers.capture_for_reserved_orders([OrderReserved(**order, amount=Decimal(amount))])


def cancelled(order):
    consumers.refund_cancelled_orders([OrderCancelled(**order, total=Decimal("30.00"), reason="CUSTOMER")])


@pytest.mark.parametrize(
    ("deliveries", "balance"),
    [([reserved], "70.00"), ([reserved, cancelled], "100.00"), ([cancelled], "100.00")],
)
def test_delivered_twice_is_applied_once(order, rows, deliveries, balance):
    for deliver in deliveries:
        deliver(order)
    assert Wallet.objects.get().balance == Decimal(balance)
    before = rows()
    deliveries[-1](order)
    assert rows() == before


@pytest.mark.parametrize("late", [reserved, cancelled])
def test_what_comes_after_the_refund_changes_nothing(order, rows, late):
    reserved(order)
    cancelled(order)
    before = rows()
    late(order)
    assert rows() == before


def test_a_failure_delivered_twice_is_told_once(order, published):
    reserved(order, "100.01")
    services.deposit(user_id=order["customer_id"], amount=Decimal("1.00"))
    reserved(order, "100.01")
    assert [type for type, _ in published()] == ["payment.failed"]


def test_a_capture_after_the_cancel_takes_nothing(order, published):
    cancelled(order)
    reserved(order)
    assert Wallet.objects.get().balance == Decimal("100.00")
    assert Payment.objects.get().status == Payment.Status.CANCELLED
    assert published() == []
