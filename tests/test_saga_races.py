"""Each pair of steps that can come together, on two connections, in both orders: one wins, and the books add up.

The second step begins while the first one's transaction is open, and waits for it or passes it by. Then all that was
published is delivered.
"""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import partial
from itertools import combinations_with_replacement

import pytest
from django.utils import timezone

import orders.services
import payments.services
import stock.services
from orders import audit
from orders.models import Order
from outbox.registry import handlers_of
from payments.models import Wallet
from stock.models import Product, Reservation

pytestmark = pytest.mark.django_db(transaction=True)

GROUPS = ("stock", "orders", "payments")
# By what they do: the event that is delivered, and the group that applies it.
DELIVERIES = {
    "reserve": ("stock", "order.created"),
    "ask": ("orders", "stock.reserved"),
    "reject": ("orders", "stock.rejected"),
    "capture": ("payments", "order.reserved"),
    "complete": ("orders", "payment.succeeded"),
    "fail": ("orders", "payment.failed"),
    "sell": ("stock", "order.completed"),
    "release": ("stock", "order.cancelled"),
    "refund": ("payments", "order.cancelled"),
    "note the release": ("orders", "stock.released"),
    "note the refund": ("orders", "payment.refunded"),
}
# What must have been done before a step can be made.
NEEDS = {
    "cancel": set(),
    "sweep": set(),
    "reserve": set(),
    "ask": {"reserve"},
    "reject": {"reserve"},
    "capture": {"ask"},
    "complete": {"capture"},
    "fail": {"capture"},
    "sell": {"complete"},
    "release": {"cancel"},
    "refund": {"cancel"},
    "note the release": {"reserve", "release"},
    "note the refund": {"capture", "refund"},
}
# What leaves a step nothing to do.
ENDS = {"cancel": {"cancel"}, "sweep": {"cancel", "complete"}}
# No order sees both.
EITHER_OR = [{"ask", "reject"}, {"complete", "fail"}, {"reject", "note the release"}, {"fail", "note the refund"}]
TO_PAYMENT = ("reserve", "ask")
TO_ANSWER = (*TO_PAYMENT, "capture")
TO_SALE = (*TO_ANSWER, "complete")
CUSTOMER, TIMEOUT = ("CANCELLED", "CUSTOMER"), ("CANCELLED", "TIMEOUT")
OUT_OF_STOCK, PAYMENT_FAILED = ("CANCELLED", "OUT_OF_STOCK"), ("CANCELLED", "PAYMENT_FAILED")
COMPLETED = ("COMPLETED", None)


@dataclass(frozen=True)
class Race:
    """What came before, the two steps, and what the order is at the end if the first, or the second, goes ahead."""

    one: str
    other: str
    before: tuple[str, ...] = ()
    if_one: tuple[str, str | None] = CUSTOMER
    if_other: tuple[str, str | None] = CUSTOMER
    units: int = 2
    money: str = "100.00"


RACES = [
    Race("cancel", "cancel"),
    Race("cancel", "sweep", if_other=TIMEOUT),
    Race("cancel", "reserve"),
    Race("cancel", "ask", ("reserve",)),
    Race("cancel", "reject", ("reserve",), units=6, if_other=OUT_OF_STOCK),
    Race("cancel", "sweep", TO_PAYMENT, if_other=TIMEOUT),
    Race("cancel", "capture", TO_PAYMENT),
    Race("cancel", "complete", TO_ANSWER),
    Race("cancel", "fail", TO_ANSWER, money="1.00", if_other=PAYMENT_FAILED),
    Race("cancel", "sell", TO_SALE),
    Race("cancel", "cancel", TO_SALE),
    Race("sweep", "sweep", if_one=TIMEOUT, if_other=TIMEOUT),
    Race("sweep", "reserve", if_one=TIMEOUT, if_other=TIMEOUT),
    # A sweep passes over what another step holds, and by the next one the order has got further.
    Race("sweep", "ask", ("reserve",), if_one=TIMEOUT, if_other=COMPLETED),
    Race("sweep", "reject", ("reserve",), units=6, if_one=TIMEOUT, if_other=OUT_OF_STOCK),
    Race("sweep", "capture", TO_PAYMENT, if_one=TIMEOUT, if_other=TIMEOUT),
    Race("sweep", "complete", TO_ANSWER, if_one=TIMEOUT, if_other=COMPLETED),
    Race("sweep", "fail", TO_ANSWER, money="1.00", if_one=TIMEOUT, if_other=PAYMENT_FAILED),
    # An event that comes twice at once, to two consumers of which one was taken for dead.
    Race("reserve", "reserve", if_one=COMPLETED),
    Race("ask", "ask", ("reserve",), if_one=COMPLETED),
    Race("reject", "reject", ("reserve",), units=6, if_one=OUT_OF_STOCK),
    Race("capture", "capture", TO_PAYMENT, if_one=COMPLETED),
    Race("complete", "complete", TO_ANSWER, if_one=COMPLETED),
    Race("fail", "fail", TO_ANSWER, money="1.00", if_one=PAYMENT_FAILED),
    Race("sell", "sell", TO_SALE, if_one=COMPLETED),
    Race("refund", "refund", (*TO_SALE, "cancel")),
    Race("release", "release", (*TO_SALE, "sell", "cancel")),
    Race("note the release", "note the release", (*TO_SALE, "sell", "cancel", "release", "refund")),
    Race("note the refund", "note the refund", (*TO_SALE, "sell", "cancel", "release", "refund")),
    # What was on its way when the order was cancelled, and what follows the cancel.
    Race("reserve", "release", ("cancel",)),
    Race("reserve", "refund", ("cancel",)),
    Race("ask", "release", ("reserve", "cancel")),
    Race("ask", "refund", ("reserve", "cancel")),
    Race("ask", "note the release", ("reserve", "cancel", "release")),
    Race("reject", "release", ("reserve", "cancel"), units=6),
    Race("reject", "refund", ("reserve", "cancel"), units=6),
    Race("capture", "release", (*TO_PAYMENT, "cancel")),
    Race("capture", "refund", (*TO_PAYMENT, "cancel")),
    Race("capture", "note the release", (*TO_PAYMENT, "cancel", "release")),
    Race("complete", "release", (*TO_ANSWER, "cancel")),
    Race("complete", "refund", (*TO_ANSWER, "cancel")),
    Race("complete", "note the release", (*TO_ANSWER, "cancel", "release")),
    Race("complete", "note the refund", (*TO_ANSWER, "cancel", "refund")),
    Race("fail", "release", (*TO_ANSWER, "cancel"), money="1.00"),
    Race("fail", "refund", (*TO_ANSWER, "cancel"), money="1.00"),
    Race("fail", "note the release", (*TO_ANSWER, "cancel", "release"), money="1.00"),
    Race("sell", "release", (*TO_SALE, "cancel")),
    Race("sell", "refund", (*TO_SALE, "cancel")),
    Race("sell", "note the release", (*TO_SALE, "cancel", "release")),
    Race("sell", "note the refund", (*TO_SALE, "cancel", "refund")),
    Race("release", "refund", (*TO_SALE, "sell", "cancel")),
    Race("release", "note the refund", (*TO_SALE, "sell", "cancel", "refund")),
    Race("refund", "note the release", (*TO_SALE, "sell", "cancel", "release")),
    Race("note the release", "note the refund", (*TO_SALE, "sell", "cancel", "release", "refund")),
]


class Shop:
    """One order of A1, of which there are 5 units for 10.00 each."""

    def __init__(self, customer, outbox, *, units, money):
        self._outbox = outbox
        stock.services.add_product(sku="A1", name="The A1", price=Decimal("10.00"))
        stock.services.receive(sku="A1", quantity=5)
        payments.services.deposit(user_id=customer.id, amount=Decimal(money))
        self.order = orders.services.place(customer_id=customer.id, items={"A1": units})

    def step(self, name):
        """Return the step, to be made when it is called."""
        if name == "cancel":
            return partial(orders.services.cancel, order_id=self.order.id)
        if name == "sweep":
            return partial(orders.services.cancel_overdue, now=timezone.now() + timedelta(days=1))
        group, event_type = DELIVERIES[name]
        [event] = [event for event in self._outbox.events if event.type == event_type]
        return partial(self._outbox.deliver, group, event)

    def become(self):
        """Return the order's status and reason once all is delivered."""
        self._outbox.run_to_rest(groups=GROUPS)
        self.order.refresh_from_db()
        return self.order.status, self.order.cancel_reason


def in_both_orders(races):
    for race in races:
        name = f"{race.one}, {race.other}" + (f" after {race.before[-1]}" if race.before else "")
        yield pytest.param(race, race.one, race.other, race.if_one, id=f"{name}: {race.one} ahead")
        if race.one != race.other:
            yield pytest.param(race, race.other, race.one, race.if_other, id=f"{name}: {race.other} ahead")


@pytest.mark.parametrize(("race", "first", "second", "expected"), list(in_both_orders(RACES)))
def test_of_two_steps_at_once_one_wins_and_the_books_add_up(customer, outbox, overtake, race, first, second, expected):
    shop = Shop(customer, outbox, units=race.units, money=race.money)
    for name in race.before:
        shop.step(name)()
    first, second = shop.step(first), shop.step(second)

    outcome = overtake(first, second)

    assert (
        outcome is None or not isinstance(outcome, Exception) or isinstance(outcome, orders.services.AlreadyCancelled)
    )
    assert shop.become() == expected
    bought = expected == COMPLETED
    assert Product.objects.with_levels().get().available == (5 - race.units if bought else 5)
    assert Wallet.objects.get().balance == Decimal(race.money) - (10 * race.units if bought else 0)
    assert not Reservation.objects.filter(status="HELD").exists()
    assert len(set(outbox.types)) == len(outbox.types)
    assert audit.find(now=timezone.now(), grace=timedelta()) == []


def all_needs(name):
    return NEEDS[name].union(*map(all_needs, NEEDS[name]))


def can_meet(one, other):
    """Return whether there is an order of which both steps can be made next."""
    before = all_needs(one) | all_needs(other)
    comes_after = {one, other} & before
    is_over = (ENDS.get(one, set()) | ENDS.get(other, set())) & before
    return not (comes_after or is_over or any(both <= before | {one, other} for both in EITHER_OR))


def test_every_event_of_the_saga_is_a_step():
    assert set(DELIVERIES.values()) == {(group, event_type) for group in GROUPS for event_type in handlers_of(group)}
    assert NEEDS.keys() == {"cancel", "sweep", *DELIVERIES}


def test_each_pair_of_steps_that_can_meet_does():
    pairs = {frozenset(pair) for pair in combinations_with_replacement(NEEDS, 2) if can_meet(*pair)}
    assert {frozenset((race.one, race.other)) for race in RACES} == pairs


@pytest.mark.parametrize("first", [0, 1])
def test_an_order_that_meets_another_for_the_last_units_gets_all_its_lines_or_none(customer, outbox, overtake, first):
    shop = Shop(customer, outbox, units=1, money="1000.00")
    stock.services.add_product(sku="B2", name="The B2", price=Decimal("10.00"))
    stock.services.receive(sku="B2", quantity=5)
    rivals = [
        orders.services.place(customer_id=customer.id, items=items)
        for items in ({"A1": 3, "B2": 3}, {"B2": 3, "A1": 1})
    ]
    created = [event for event in outbox.events if event.order_id in {rival.id for rival in rivals}]
    reserve = [partial(outbox.deliver, "stock", event) for event in created]

    overtake(reserve[first], reserve[1 - first])

    shop.become()
    lines = [Reservation.objects.filter(order_id=rival.id).count() for rival in rivals]
    assert lines == ([2, 0] if first == 0 else [0, 2])
    assert {Order.objects.get(pk=rival.id).status for rival in rivals} == {"COMPLETED", "CANCELLED"}
    assert audit.find(now=timezone.now(), grace=timedelta()) == []
