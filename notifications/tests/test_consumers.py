"""Who is told of which event."""

from decimal import Decimal
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from accounts.events import UserCreated
from coupons.events import CouponIssued, CouponRejected
from notifications.models import Notification
from orders.events import OrderCancelled, OrderCompleted
from outbox.registry import handlers_of
from outbox.testing import STEPS
from payments.events import PaymentRefunded, PaymentSucceeded
from posts.events import PostCreated

pytestmark = pytest.mark.django_db

SUBJECT_ID = uuid7()
MONEY: dict[str, Any] = {"order_id": SUBJECT_ID, "amount": Decimal("12.50"), "currency": "USD"}
ORDER: dict[str, Any] = {"order_id": SUBJECT_ID, "total": Decimal("12.50"), "currency": "USD"}
# Events, with what their user reads of them in the app: kind, context and subject.
CASES = {
    "user.created": (
        lambda user: UserCreated(user_id=user.id, username="carol", email=user.email, language="en"),
        ("WELCOME", {"username": "carol"}, None),
    ),
    "post.created": (
        lambda user: PostCreated(post_id=SUBJECT_ID, author_id=user.id, author="carol", title="Tea"),
        ("POST_PUBLISHED", {"title": "Tea"}, SUBJECT_ID),
    ),
    "order.completed": (
        lambda user: OrderCompleted(**ORDER, customer_id=user.id, lines=[]),
        ("ORDER_COMPLETED", {"total": "12.50", "currency": "USD"}, SUBJECT_ID),
    ),
    "order.cancelled": (
        lambda user: OrderCancelled(**ORDER, customer_id=user.id, reason="TIMEOUT"),
        ("ORDER_CANCELLED", {"reason": "TIMEOUT"}, SUBJECT_ID),
    ),
    "payment.succeeded": (
        lambda user: PaymentSucceeded(**MONEY, customer_id=user.id),
        ("PAYMENT_SUCCEEDED", {"amount": "12.50", "currency": "USD"}, SUBJECT_ID),
    ),
    "payment.refunded": (
        lambda user: PaymentRefunded(**MONEY, customer_id=user.id),
        ("PAYMENT_REFUNDED", {"amount": "12.50", "currency": "USD"}, SUBJECT_ID),
    ),
    "coupon.issued": (
        lambda user: CouponIssued(code="TEN", name="Ten off", request_id=SUBJECT_ID, user_id=user.id),
        ("COUPON_ISSUED", {"code": "TEN", "name": "Ten off"}, None),
    ),
    "coupon.rejected": (
        lambda user: CouponRejected(code="TEN", request_id=SUBJECT_ID, user_id=user.id, reason="OUT_OF_STOCK"),
        ("COUPON_REJECTED", {"code": "TEN", "reason": "OUT_OF_STOCK"}, None),
    ),
}


def channels(event):
    """Return who is told of an event where; None are the operators."""
    rows = Notification.objects.filter(event_id=event.event_id).values_list("user__username", "channel")
    return sorted((name or "", channel) for name, channel in rows)


def expected(event):
    operators = [("", "TELEGRAM")] if event.type == "payment.succeeded" else []
    return [*operators, ("carol", "EMAIL"), ("carol", "IN_APP"), ("carol", "TELEGRAM")]


@pytest.mark.parametrize(("event_for", "told"), CASES.values(), ids=CASES)
def test_tells_once_of_an_event_that_is_delivered_twice(chatting, outbox, event_for, told):
    event = event_for(chatting)
    outbox.deliver("notifications", event, times=2, forget=True)
    assert channels(event) == expected(event)
    shown = Notification.objects.inbox(chatting.pk).get()
    shown.context.pop("at", None)
    assert (shown.kind, shown.context, shown.subject_id) == told


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("event_for", "told"), CASES.values(), ids=CASES)
def test_tells_once_around_crashes_at_every_step(chatting, outbox, event_for, told):
    event = event_for(chatting)
    outbox.deliver("notifications", event, crash_at=STEPS)
    assert channels(event) == expected(event)


def test_tells_of_all_events_of_a_batch(chatting, staff, outbox):
    events = [event_for(user) for event_for, _ in CASES.values() for user in (chatting, staff) for _ in range(3)]
    outbox.deliver("notifications", *events)
    assert Notification.objects.inbox(chatting.pk).count() == 3 * len(CASES)
    assert Notification.objects.inbox(staff.pk).count() == 3 * len(CASES)


def test_does_not_tell_that_nothing_was_paid(chatting, outbox):
    outbox.deliver("notifications", PaymentSucceeded(**{**MONEY, "amount": Decimal("0.00")}, customer_id=chatting.id))
    assert not Notification.objects.exists()


def test_hears_of_no_failed_payment_beside_the_cancelled_order():
    assert handlers_of("notifications").keys() == CASES.keys()
