"""What analytics makes of events. Run with: manage.py run_consumer analytics

A projection: it publishes nothing, so it can be made again from what Kafka holds, `replay_events analytics --rebuild`.
"""

from accounts.events import UserCreated
from analytics import services
from analytics.models import CancelReason
from analytics.services import News, Sold
from orders.events import OrderCancelled, OrderCompleted, OrderCreated, OrderReserved
from outbox import Event, consumer_group, handles
from payments.events import PaymentFailed, PaymentRefunded, PaymentSucceeded
from stock.events import StockRejected, StockReleased, StockReserved

consumer_group("analytics", clear=services.clear)


@handles(UserCreated, group="analytics", bulk=True)
@handles(StockReserved, group="analytics", bulk=True)
@handles(StockRejected, group="analytics", bulk=True)
@handles(StockReleased, group="analytics", bulk=True)
@handles(PaymentSucceeded, group="analytics", bulk=True)
@handles(PaymentFailed, group="analytics", bulk=True)
def count_events(events: list[Event]) -> None:
    services.record(news=[News(e.type, e.occurred_at) for e in events])


@handles(OrderCreated, group="analytics", bulk=True)
def follow_created_orders(events: list[OrderCreated]) -> None:
    services.record(news=[News(e.type, e.occurred_at, e.order_id, {"created_at": e.occurred_at}) for e in events])


@handles(OrderReserved, group="analytics", bulk=True)
def follow_reserved_orders(events: list[OrderReserved]) -> None:
    services.record(news=[News(e.type, e.occurred_at, e.order_id, {"reserved_at": e.occurred_at}) for e in events])


@handles(OrderCompleted, group="analytics", bulk=True)
def follow_completed_orders(events: list[OrderCompleted]) -> None:
    services.record(
        news=[
            News(
                e.type,
                e.occurred_at,
                e.order_id,
                {
                    "completed_at": e.occurred_at,
                    "units": sum(line.quantity for line in e.lines),
                    "total": e.total,
                    "currency": e.currency,
                },
                [Sold(line.sku, line.quantity, line.quantity * line.unit_price) for line in e.lines],
            )
            for e in events
        ]
    )


@handles(OrderCancelled, group="analytics", bulk=True)
def follow_cancelled_orders(events: list[OrderCancelled]) -> None:
    services.record(
        news=[
            News(
                e.type,
                e.occurred_at,
                e.order_id,
                {"cancelled_at": e.occurred_at, "cancel_reason": CancelReason(e.reason)},
            )
            for e in events
        ]
    )


@handles(PaymentRefunded, group="analytics", bulk=True)
def follow_refunded_payments(events: list[PaymentRefunded]) -> None:
    services.record(
        news=[
            News(
                e.type,
                e.occurred_at,
                e.order_id,
                {"refunded_at": e.occurred_at, "refunded": e.amount, "currency": e.currency},
            )
            for e in events
        ]
    )
