"""What users are told of which event."""

from decimal import Decimal

import pytest
from uuid_utils.compat import uuid7

from accounts.events import UserCreated
from notifications.models import Notification
from orders.events import OrderCancelled, OrderCompleted
from outbox.registry import handlers_of
from outbox.testing import STEPS
from payments.events import PaymentRefunded

pytestmark = pytest.mark.django_db

ORDER_ID = uuid7()
CASES = [
    (
        lambda user: UserCreated(user_id=user.id, username="carol", email=user.email, language="en"),
        ("WELCOME", "Welcome, carol", "Fill your wallet and place your first order.", None),
    ),
    (
        lambda user: OrderCompleted(
            order_id=ORDER_ID, customer_id=user.id, lines=[], total=Decimal("12.50"), currency="USD"
        ),
        ("ORDER_COMPLETED", "Your order is paid", "We took 12.50 USD from your wallet.", ORDER_ID),
    ),
    (
        lambda user: OrderCancelled(
            order_id=ORDER_ID, customer_id=user.id, reason="TIMEOUT", total=Decimal("12.50"), currency="USD"
        ),
        ("ORDER_CANCELLED", "Your order was cancelled", "It could not be finished in time.", ORDER_ID),
    ),
    (
        lambda user: PaymentRefunded(order_id=ORDER_ID, customer_id=user.id, amount=Decimal("12.50"), currency="USD"),
        ("PAYMENT_REFUNDED", "Your money is back", "12.50 USD are in your wallet again.", ORDER_ID),
    ),
]


@pytest.mark.parametrize(("event_for", "told"), CASES)
def test_tells_a_user_once_of_an_event_that_is_delivered_twice(customer, outbox, event_for, told):
    event = event_for(customer)
    outbox.deliver("notifications", event, times=2, forget=True)
    notification = Notification.objects.get()
    assert notification.user == customer
    assert notification.event_id == event.event_id
    assert (notification.kind, notification.title, notification.body, notification.subject_id) == told


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("event_for", "told"), CASES)
def test_tells_a_user_once_around_crashes_at_every_step(customer, outbox, event_for, told):
    outbox.deliver("notifications", event_for(customer), crash_at=STEPS)
    assert Notification.objects.get().kind == told[0]


def test_hears_of_no_failed_payment_beside_the_cancelled_order():
    assert handlers_of("notifications").keys() == {
        "user.created",
        "order.completed",
        "order.cancelled",
        "payment.refunded",
    }
