"""The events of the benchmarks: with headers a record of about 450 bytes."""

from outbox import Event, Topic

ORDERS = Topic("bench-order-events", partitions=6)
RESERVATIONS = Topic("bench-reservation-events", partitions=6)


class OrderCounted(Event, topic=ORDERS, type="bench.order_counted", key="order_id"):
    order_id: str
    # Counts the events of this order from 1, so that a reader sees what is lost, doubled or out of order.
    number: int
    sku: str
    quantity: int
    note: str


class OrderReserved(Event, topic=RESERVATIONS, type="bench.order_reserved", key="order_id"):
    order_id: str
    number: int
