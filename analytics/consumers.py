"""What analytics makes of events. Run with: manage.py run_consumer analytics

A projection: it publishes nothing, so it can be made again from what Kafka holds, `replay_events analytics --rebuild`.
"""

from accounts.events import UserCreated
from analytics import services
from analytics.models import CancelReason
from analytics.services import News, Sold
from coupons.events import CouponIssued, CouponIssueRequested, CouponRejected
from orders.events import OrderCancelled, OrderCompleted, OrderCreated, OrderReserved
from outbox import Event, consumer_group, handles
from payments.events import PaymentFailed, PaymentRefunded, PaymentSucceeded
from posts.events import PostCreated
from stock.events import StockRejected, StockReleased, StockReserved

consumer_group("analytics", clear=services.clear)


# One for all types, so that a batch is one call: no order of events matters.
@handles(UserCreated, group="analytics", bulk=True)
@handles(PostCreated, group="analytics", bulk=True)
@handles(OrderCreated, group="analytics", bulk=True)
@handles(OrderReserved, group="analytics", bulk=True)
@handles(OrderCompleted, group="analytics", bulk=True)
@handles(OrderCancelled, group="analytics", bulk=True)
@handles(StockReserved, group="analytics", bulk=True)
@handles(StockRejected, group="analytics", bulk=True)
@handles(StockReleased, group="analytics", bulk=True)
@handles(PaymentSucceeded, group="analytics", bulk=True)
@handles(PaymentFailed, group="analytics", bulk=True)
@handles(PaymentRefunded, group="analytics", bulk=True)
@handles(CouponIssueRequested, group="analytics", bulk=True)
@handles(CouponIssued, group="analytics", bulk=True)
@handles(CouponRejected, group="analytics", bulk=True)
def count_events(events: list[Event]) -> None:
    services.record(news=[news_of(event) for event in events])


def news_of(e: Event) -> News:
    """Return that an event happened, and what it tells of an order that is counted beyond that."""
    match e:
        case OrderCreated():
            return News(e.type, e.occurred_at, e.order_id, {"created_at": e.occurred_at})
        case OrderReserved():
            return News(e.type, e.occurred_at, e.order_id, {"reserved_at": e.occurred_at})
        case OrderCompleted():
            sold = [Sold(line.sku, line.quantity, line.quantity * line.unit_price) for line in e.lines]
            units = sum(line.quantity for line in e.lines)
            told = {"completed_at": e.occurred_at, "units": units, "total": e.total, "currency": e.currency}
            return News(e.type, e.occurred_at, e.order_id, told, sold)
        case OrderCancelled():
            reason = CancelReason(e.reason).value
            return News(e.type, e.occurred_at, e.order_id, {"cancelled_at": e.occurred_at, "cancel_reason": reason})
        case PaymentRefunded():
            told = {"refunded_at": e.occurred_at, "refunded": e.amount}
            return News(e.type, e.occurred_at, e.order_id, told)
        case _:
            return News(e.type, e.occurred_at)
