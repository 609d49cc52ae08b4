"""What users are told about. Run with: manage.py run_consumer notifications

A payment that failed is told by the cancelled order, which follows from it.
"""

from accounts.events import UserCreated
from notifications import services
from notifications.models import Notification
from notifications.services import Notice
from orders.events import OrderCancelled, OrderCompleted
from outbox import handles
from payments.events import PaymentRefunded

Kind = Notification.Kind


@handles(UserCreated, group="notifications", bulk=True)
def welcome_new_users(events: list[UserCreated]) -> None:
    services.notify(
        notices=[Notice(e.event_id, e.user_id, Kind.WELCOME, facts={"username": e.username}) for e in events]
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
                {"total": str(e.total), "currency": e.currency},
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


@handles(PaymentRefunded, group="notifications", bulk=True)
def tell_of_refunded_payments(events: list[PaymentRefunded]) -> None:
    services.notify(
        notices=[
            Notice(
                e.event_id,
                e.customer_id,
                Kind.PAYMENT_REFUNDED,
                e.order_id,
                {"amount": str(e.amount), "currency": e.currency},
            )
            for e in events
        ]
    )
