"""How orders take events that come twice, late, in another order or around crashes."""

from decimal import Decimal
from itertools import permutations

import msgspec
import pytest
from uuid_utils.compat import uuid7

from orders import services
from orders.models import Order
from orders.tests.conftest import Answers
from outbox.testing import STEPS

pytestmark = pytest.mark.django_db

# What comes, and what the order is then, with the reason if it is cancelled.
CASES = [
    (["reserved"], ("AWAITING_PAYMENT", None)),
    (["rejected"], ("CANCELLED", "OUT_OF_STOCK")),
    (["reserved", "succeeded"], ("COMPLETED", None)),
    (["reserved", "failed"], ("CANCELLED", "PAYMENT_FAILED")),
    (["rejected", "released"], ("CANCELLED", "OUT_OF_STOCK")),
    (["rejected", "refunded"], ("CANCELLED", "OUT_OF_STOCK")),
]


def state(order):
    order.refresh_from_db()
    return order.status, order.cancel_reason


@pytest.mark.parametrize(("deliveries", "expected"), CASES)
def test_delivered_twice_is_applied_once(order, answers, rows, deliveries, expected):
    answers.deliver(*deliveries)
    assert state(order) == expected
    before = rows()
    answers.deliver(*deliveries, forget=True)
    assert rows() == before


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("deliveries", "expected"), CASES)
def test_crashes_at_every_step_leave_the_effects_of_one_delivery(order, answers, outbox, deliveries, expected):
    answers.deliver(*deliveries[:-1])
    answers.deliver(deliveries[-1], crash_at=STEPS)
    assert state(order) == expected
    assert len(set(outbox.types)) == len(outbox.types)
    assert order.steps.filter(event_type=answers.events[deliveries[-1]].type).count() == 1


@pytest.mark.parametrize(
    ("deliveries", "steps"),
    [
        (
            ["reserved", "succeeded"],
            ["stock.reserved", "order.reserved", "payment.succeeded", "order.completed"],
        ),
        (["reserved", "failed"], ["stock.reserved", "order.reserved", "payment.failed", "order.cancelled"]),
        (["rejected", "released"], ["stock.rejected", "order.cancelled", "stock.released"]),
    ],
)
def test_the_timeline_has_every_step_in_order(order, answers, deliveries, steps):
    answers.deliver(*deliveries)
    assert [step.event_type for step in order.steps.all()] == ["order.created", *steps]


@pytest.mark.parametrize("late", ["reserved", "rejected", "released", "succeeded", "failed", "refunded"])
def test_what_comes_after_the_cancel_only_enters_the_timeline(order, answers, outbox, late):
    services.cancel(order_id=order.id)
    told = outbox.events
    answers.deliver(late)
    assert state(order) == ("CANCELLED", "CUSTOMER")
    assert outbox.events == told
    assert order.steps.last().event_type == answers.events[late].type


@pytest.mark.parametrize("late", ["reserved", "rejected", "failed"])
def test_what_comes_after_the_completion_only_enters_the_timeline(order, answers, outbox, late):
    answers.deliver("reserved", "succeeded")
    told = outbox.events
    Answers(order, outbox).deliver(late)
    assert state(order) == ("COMPLETED", None)
    assert outbox.events == told


@pytest.mark.parametrize("arrivals", [*permutations(["succeeded", "released", "refunded"])])
def test_answers_to_a_cancelled_order_may_come_in_any_order(order, answers, outbox, arrivals):
    answers.deliver("reserved")
    services.cancel(order_id=order.id)
    answers.deliver(*arrivals)
    assert state(order) == ("CANCELLED", "CUSTOMER")
    assert outbox.types == ["order.created", "order.reserved", "order.cancelled"]


def test_the_same_event_twice_in_a_batch_is_applied_once(order, answers, outbox):
    services.ask_for_payment(facts=[services.Fact.of(answers.events["reserved"])] * 2)
    assert outbox.types == ["order.created", "order.reserved"]


@pytest.mark.parametrize("name", ["reserved", "rejected", "released", "succeeded", "failed", "refunded"])
def test_what_is_told_about_an_unknown_order_is_refused(order, outbox, rows, name):
    answers = Answers(Order(id=uuid7(), customer_id=order.customer_id, total=order.total, currency="USD"), outbox)
    before = rows()
    with pytest.raises(services.UnknownOrder):
        answers.deliver(name)
    assert rows() == before


def test_the_timeline_keeps_what_the_events_said(order, answers):
    answers.deliver("rejected")
    assert order.steps.get(event_type="stock.rejected").details == {"short_skus": ["B2"]}
    assert order.steps.get(event_type="stock.rejected").event_id == answers.events["rejected"].event_id
    assert order.steps.get(event_type="order.cancelled").details["reason"] == "OUT_OF_STOCK"


def test_a_payment_that_succeeds_asks_for_the_order_to_be_completed_with_its_lines(order, answers, outbox):
    answers.deliver("reserved", "succeeded")
    created, reserved, completed = outbox.events
    assert (reserved.amount, completed.total) == (Decimal("25.50"), Decimal("25.50"))
    assert msgspec.structs.asdict(completed) == msgspec.structs.asdict(created)
