"""How stock takes events that come twice, late, in another order or around crashes."""

from decimal import Decimal
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from orders.events import Line, OrderCancelled, OrderCompleted, OrderCreated
from outbox.testing import STEPS
from stock import services
from stock.events import StockRejected
from stock.models import Level, Reservation

pytestmark = pytest.mark.django_db

ORDER: dict[str, Any] = {"order_id": uuid7(), "customer_id": uuid7(), "total": Decimal("20.00"), "currency": "USD"}
LINES = [Line(sku="A1", quantity=2, unit_price=Decimal("10.00"))]
CREATED = OrderCreated(**ORDER, lines=LINES)
TOO_MANY = OrderCreated(**ORDER, lines=[Line(sku="A1", quantity=6, unit_price=Decimal("10.00"))])
COMPLETED = OrderCompleted(**ORDER, lines=LINES)
CANCELLED = OrderCancelled(**ORDER, reason="CUSTOMER")

# What comes, and what is then on hand and reserved.
CASES = [
    ([CREATED], (5, 2)),
    ([TOO_MANY], (5, 0)),
    ([CREATED, COMPLETED], (3, 0)),
    ([CREATED, CANCELLED], (5, 0)),
    ([CREATED, COMPLETED, CANCELLED], (5, 0)),
    ([CANCELLED], (5, 0)),
]


def level():
    level = Level.objects.get(pk="A1")
    return level.on_hand, level.reserved


@pytest.mark.parametrize(("events", "expected"), CASES)
def test_delivered_twice_is_applied_once(goods, outbox, rows, events, expected):
    outbox.deliver("stock", *events)
    assert level() == expected
    before = rows()
    outbox.deliver("stock", events[-1], forget=True)
    assert rows() == before


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("events", "expected"), CASES[:4])
def test_crashes_at_every_step_leave_the_effects_of_one_delivery(goods, outbox, events, expected):
    *earlier, last = events
    outbox.deliver("stock", *earlier)
    outbox.deliver("stock", last, crash_at=STEPS)
    assert level() == expected
    assert len(set(outbox.types)) == len(outbox.types)


def test_a_rejection_stays_one_when_stock_came_in_before_the_repeat(goods, outbox):
    outbox.deliver("stock", TOO_MANY)
    services.receive(sku="A1", quantity=1)
    outbox.deliver("stock", TOO_MANY, forget=True)
    assert outbox.events == [StockRejected(order_id=ORDER["order_id"], short_skus=["A1"])]
    assert level() == (6, 0)


@pytest.mark.parametrize("late", [CREATED, COMPLETED, CANCELLED])
def test_what_comes_after_the_cancel_changes_nothing(goods, outbox, rows, late):
    outbox.deliver("stock", CREATED, CANCELLED)
    before = rows()
    outbox.deliver("stock", late, forget=True)
    assert rows() == before


def test_a_cancel_before_the_reservation_leaves_nothing_to_take(goods, outbox):
    outbox.deliver("stock", CANCELLED, CREATED, COMPLETED)
    assert level() == (5, 0)
    assert not Reservation.objects.exists()
    assert outbox.events == []


def test_a_completion_after_the_release_sells_nothing(goods, outbox):
    outbox.deliver("stock", CREATED, CANCELLED, COMPLETED)
    assert level() == (5, 0)
    assert Reservation.objects.get().status == Reservation.Status.RELEASED
