"""A shop in which the examples of the schema are true, and calls of the application as a server makes them."""

import pytest
from django.core import signals
from django.db import close_old_connections
from django.utils import timezone

import stock.services
from accounts.models import User
from config.schema import PATH_EXAMPLES
from coupons.models import Coupon, IssuedCoupon, Request
from notifications.models import Notification
from orders.models import Line, Order
from posts.models import Post


@pytest.fixture
def one_connection(db):
    """Keep the connection of the test's transaction when a request ends, as Django's test client does."""
    ends = [signals.request_started, signals.request_finished]
    for end in ends:
        end.disconnect(close_old_connections)
    yield
    for end in ends:
        end.connect(close_old_connections)


@pytest.fixture
def shop(db):
    """Return a member of the staff for whom the examples work."""
    alice = User.objects.create_user("alice", "alice@example.com", "orderbox-demo", is_staff=True)
    User.objects.create_user(PATH_EXAMPLES["username"], "bob@example.com", "orderbox-demo")
    stock.services.add_product(sku=PATH_EXAMPLES["sku"], name="Lamp", price="12.50")
    order = Order.objects.create(
        id=PATH_EXAMPLES["id"], customer=alice, total="25.00", currency="USD", deadline_at=timezone.now()
    )
    Line.objects.create(order=order, sku=PATH_EXAMPLES["sku"], name="Lamp", quantity=2, unit_price="12.50")
    order.steps.create(event_type="order.created", event_id=order.id, at=order.created_at, details={"total": "25.00"})
    Notification.objects.create(
        id=order.id,
        event_id=order.id,
        user=alice,
        kind="ORDER_COMPLETED",
        channel="IN_APP",
        context={"total": "25.00", "currency": "USD"},
        subject_id=order.id,
        status="SENT",
        sent_at=timezone.now(),
    )
    Coupon.objects.create(code=PATH_EXAMPLES["code"], name="Welcome", quantity=100, percent_off=10)
    thanks = Coupon.objects.create(code="THANKS", name="Thank you", quantity=1, issued=1, amount_off="5.00")
    asked = Request.objects.create(
        id=PATH_EXAMPLES["id"], code="THANKS", user=alice, queue="KAFKA", status="SUCCESS", finished_at=timezone.now()
    )
    IssuedCoupon.objects.create(coupon=thanks, user=alice, request=asked)
    Post.objects.create(id=PATH_EXAMPLES["id"], author=alice, title="Tea", body="It wants boiling water.")
    return alice
