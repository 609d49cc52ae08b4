"""How two groups react to the same event: one with a handler for many, one with a handler for each."""

from django.db import connection

from benchmarks.events import OrderCounted, OrderReserved
from benchmarks.tables import RESERVE_MANY, RESERVE_ONE, TAKE_ONE
from outbox import consumer_group, handles, publish

BULK, SINGLE = "bench-bulk", "bench-single"

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
