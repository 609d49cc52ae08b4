"""How coupons react to events. Run with: manage.py run_consumer coupons"""

from coupons import services
from coupons.events import CouponIssueRequested
from coupons.reading import StreamReader
from orders.events import OrderCancelled
from outbox import consumer_group, handles

# What waits in Redis is decided by the same processes.
consumer_group("coupons", beside=StreamReader)


def give_up_request(event: CouponIssueRequested) -> None:
    services.give_up(request_ids=[event.request_id])


@handles(CouponIssueRequested, group="coupons", bulk=True, given_up=give_up_request)
def decide_requests(events: list[CouponIssueRequested]) -> None:
    services.decide(request_ids=[event.request_id for event in events])


@handles(OrderCancelled, group="coupons", bulk=True)
def give_back_of_cancelled_orders(events: list[OrderCancelled]) -> None:
    services.give_back(order_ids=[event.order_id for event in events])
