"""How two groups react to the same event: one with a handler for many, one with a handler for each.

And a third that does what the group `analytics` does, for one event at a time.
"""

from collections.abc import Callable

from django.db import connection

import analytics.consumers  # noqa: F401 - so that its handlers are known
from benchmarks.events import OrderCounted, OrderReserved
from benchmarks.tables import RESERVE_MANY, RESERVE_ONE, TAKE_ONE
from outbox import Event, consumer_group, handles, publish
from outbox.registry import Handler, handlers_of

BULK, SINGLE = "bench-bulk", "bench-single"
ONE_BY_ONE = "bench-analytics"

consumer_group(BULK, ordered=True)
consumer_group(SINGLE, ordered=True)


@handles(OrderCounted, group=BULK, bulk=True)
def reserve_for_orders(events: list[OrderCounted]) -> None:
    columns = (
        [event.order_id for event in events],
        [event.number for event in events],
        [event.sku for event in events],
        [event.quantity for event in events],
    )
    with connection.cursor() as cursor:
        cursor.execute(RESERVE_MANY, columns)
    publish(*(OrderReserved(order_id=event.order_id, number=event.number) for event in events))


@handles(OrderCounted, group=SINGLE)
def reserve_for_order(event: OrderCounted) -> None:
    with connection.cursor() as cursor:
        cursor.execute(TAKE_ONE, (event.quantity, event.sku))
        cursor.execute(RESERVE_ONE, (event.order_id, event.number, event.sku, event.quantity))
    publish(OrderReserved(order_id=event.order_id, number=event.number))


def one_by_one(handler: Handler) -> Callable[[Event], None]:
    """Return what does for one event what a handler does for many."""
    return lambda event: handler([event])


for counted in handlers_of("analytics").values():
    handles(counted.event_class, group=ONE_BY_ONE)(one_by_one(counted))
