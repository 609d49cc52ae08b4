"""What people are told about. Run with: manage.py run_consumer notifications

A payment that failed is told by the cancelled order, which follows from it.
"""

from accounts.events import UserCreated
from coupons.events import CouponIssued, CouponRejected
from notifications import services
from notifications.kinds import Kind
from notifications.services import Notice, Paid, Posted
from orders.events import OrderCancelled, OrderCompleted
from outbox import handles
from payments.events import PaymentRefunded, PaymentSucceeded
from posts.events import PostCreated


@handles(UserCreated, group="notifications", bulk=True)
def welcome_new_users(events: list[UserCreated]) -> None:
    services.notify(
        notices=[Notice(e.event_id, e.user_id, Kind.WELCOME, None, {"username": e.username}) for e in events]
    )


@handles(PostCreated, group="notifications", bulk=True)
def tell_of_new_posts(events: list[PostCreated]) -> None:
    services.tell_of_posts(
        posts=[Posted(e.event_id, e.post_id, e.author_id, e.author, e.title, e.occurred_at) for e in events]
    )


@handles(OrderCompleted, group="notifications", bulk=True)
def tell_of_completed_orders(events: list[OrderCompleted]) -> None:
    services.notify(
        notices=[
            Notice(
                e.event_id,
                e.customer_id,
                Kind.ORDER_COMPLETED,
                e.order_id,
                {"total": f"{e.total:.2f}", "currency": e.currency},
            )
            for e in events
        ]
    )


@handles(OrderCancelled, group="notifications", bulk=True)
def tell_of_cancelled_orders(events: list[OrderCancelled]) -> None:
    services.notify(
        notices=[
            Notice(e.event_id, e.customer_id, Kind.ORDER_CANCELLED, e.order_id, {"reason": e.reason}) for e in events
        ]
    )


@handles(PaymentSucceeded, group="notifications", bulk=True)
def tell_of_payments(events: list[PaymentSucceeded]) -> None:
    services.tell_of_payments(
        payments=[
            Paid(e.event_id, e.order_id, e.customer_id, f"{e.amount:.2f}", e.currency, e.occurred_at)
            for e in events
            # Nobody has paid what a coupon took off.
            if e.amount
        ]
    )


@handles(PaymentRefunded, group="notifications", bulk=True)
def tell_of_refunded_payments(events: list[PaymentRefunded]) -> None:
    services.notify(
        notices=[
            Notice(
                e.event_id,
                e.customer_id,
                Kind.PAYMENT_REFUNDED,
                e.order_id,
                {"amount": f"{e.amount:.2f}", "currency": e.currency},
            )
            for e in events
        ]
    )


@handles(CouponIssued, group="notifications", bulk=True)
def tell_of_issued_coupons(events: list[CouponIssued]) -> None:
    services.notify(
        notices=[
            Notice(e.event_id, e.user_id, Kind.COUPON_ISSUED, None, {"code": e.code, "name": e.name}) for e in events
        ]
    )


@handles(CouponRejected, group="notifications", bulk=True)
def tell_of_rejected_requests(events: list[CouponRejected]) -> None:
    services.notify(
        notices=[
            Notice(e.event_id, e.user_id, Kind.COUPON_REJECTED, None, {"code": e.code, "reason": e.reason})
            for e in events
        ]
    )
