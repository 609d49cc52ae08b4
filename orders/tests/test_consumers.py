"""How orders take events that come twice, late or in another order."""

from itertools import permutations

import pytest
from uuid_utils.compat import uuid7

from orders import services
from orders.models import Order
from orders.tests.conftest import Answers

pytestmark = pytest.mark.django_db


def state(order):
    order.refresh_from_db()
    return order.status, order.cancel_reason


@pytest.mark.parametrize(
    ("deliveries", "expected"),
    [
        (["reserved"], ("AWAITING_PAYMENT", None)),
        (["rejected"], ("CANCELLED", "OUT_OF_STOCK")),
        (["reserved", "succeeded"], ("COMPLETED", None)),
        (["reserved", "failed"], ("CANCELLED", "PAYMENT_FAILED")),
        (["rejected", "released"], ("CANCELLED", "OUT_OF_STOCK")),
        (["rejected", "refunded"], ("CANCELLED", "OUT_OF_STOCK")),
    ],
)
def test_delivered_twice_is_applied_once(order, answers, rows, deliveries, expected):
    answers.deliver(*deliveries)
    assert state(order) == expected
    before = rows()
    answers.deliver(*deliveries)
    assert rows() == before


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
def test_what_comes_after_the_cancel_only_enters_the_timeline(order, answers, published, late):
    services.cancel(order_id=order.id)
    told = published()
    answers.deliver(late)
    assert state(order) == ("CANCELLED", "CUSTOMER")
    assert published() == told
    assert order.steps.last().event_type == answers.events[late].type


@pytest.mark.parametrize("late", ["reserved", "rejected", "failed"])
def test_what_comes_after_the_completion_only_enters_the_timeline(order, answers, published, late):
    answers.deliver("reserved", "succeeded")
    told = published()
    Answers(order).deliver(late)
    assert state(order) == ("COMPLETED", None)
    assert published() == told


@pytest.mark.parametrize("arrivals", [*permutations(["succeeded", "released", "refunded"])])
def test_answers_to_a_cancelled_order_may_come_in_any_order(order, answers, published, arrivals):
    answers.deliver("reserved")
    services.cancel(order_id=order.id)
    answers.deliver(*arrivals)
    assert state(order) == ("CANCELLED", "CUSTOMER")
    assert [type for type, _ in published()] == ["order.created", "order.reserved", "order.cancelled"]


def test_the_same_event_twice_in_a_batch_is_applied_once(order, answers, published):
    services.ask_for_payment(facts=[services.Fact.of(answers.events["reserved"])] * 2)
    assert [type for type, _ in published()] == ["order.created", "order.reserved"]


@pytest.mark.parametrize("name", ["reserved", "rejected", "released", "succeeded", "failed", "refunded"])
def test_what_is_told_about_an_unknown_order_is_refused(order, rows, name):
    answers = Answers(Order(id=uuid7(), customer_id=order.customer_id, total=order.total, currency="USD"))
    before = rows()
    with pytest.raises(services.UnknownOrder):
        answers.deliver(name)
    assert rows() == before


def test_the_timeline_keeps_what_the_events_said(order, answers):
    answers.deliver("rejected")
    assert order.steps.get(event_type="stock.rejected").details == {"short_skus": ["B2"]}
    assert order.steps.get(event_type="stock.rejected").event_id == answers.events["rejected"].event_id
    assert order.steps.get(event_type="order.cancelled").details["reason"] == "OUT_OF_STOCK"


def test_a_payment_that_succeeds_asks_for_the_order_to_be_completed_with_its_lines(order, answers, published):
    answers.deliver("reserved", "succeeded")
    (_, created), (_, reserved), (_, completed) = published()
    assert (reserved["amount"], completed["total"]) == ("25.50", "25.50")
    assert completed == created
