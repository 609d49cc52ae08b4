"""How stock takes events that come twice, late or in another order."""

from decimal import Decimal

import pytest
from uuid_utils.compat import uuid7

from orders.events import Line, OrderCancelled, OrderCompleted, OrderCreated
from stock import consumers, services
from stock.models import Level, Reservation

pytestmark = pytest.mark.django_db

ORDER = {"order_id": uuid7(), "customer_id": uuid7(), "total": Decimal("20.00"), "currency": "USD"}
LINES = [Line(sku="A1", quantity=2, unit_price=Decimal("10.00"))]


def created(**changes):
    consumers.reserve_for_orders([OrderCreated(**{**ORDER, "lines": LINES, **changes})])


def completed():
    consumers.sell_to_completed_orders([OrderCompleted(**ORDER, lines=LINES)])


def cancelled():
    consumers.release_for_cancelled_orders([OrderCancelled(**ORDER, reason="CUSTOMER")])


def level():
    level = Level.objects.get(pk="A1")
    return level.on_hand, level.reserved


@pytest.mark.parametrize(
    ("deliveries", "expected"),
    [
        ([created], (5, 2)),
        ([created, completed], (3, 0)),
        ([created, cancelled], (5, 0)),
        ([created, completed, cancelled], (5, 0)),
        ([cancelled], (5, 0)),
    ],
)
def test_delivered_twice_is_applied_once(goods, rows, deliveries, expected):
    for deliver in deliveries:
        deliver()
    assert level() == expected
    before = rows()
    deliveries[-1]()
    assert rows() == before


def test_a_rejection_delivered_twice_is_told_once(goods, published):
    lines = [Line(sku="A1", quantity=6, unit_price=Decimal("10.00"))]
    created(lines=lines)
    services.receive(sku="A1", quantity=1)
    created(lines=lines)
    assert [type for type, _ in published()] == ["stock.rejected"]
    assert level() == (6, 0)


@pytest.mark.parametrize("late", [created, completed, cancelled])
def test_what_comes_after_the_cancel_changes_nothing(goods, rows, late):
    created()
    cancelled()
    before = rows()
    late()
    assert rows() == before


def test_a_cancel_before_the_reservation_leaves_nothing_to_take(goods, published):
    cancelled()
    created()
    completed()
    assert level() == (5, 0)
    assert not Reservation.objects.exists()
    assert published() == []


def test_a_completion_after_the_release_sells_nothing(goods):
    created()
    cancelled()
    completed()
    assert level() == (5, 0)
    assert Reservation.objects.get().status == Reservation.Status.RELEASED
