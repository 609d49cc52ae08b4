"""How stock reacts to other apps. Run with: manage.py run_consumer stock"""

from orders.events import OrderCancelled, OrderCompleted, OrderCreated
from outbox import consumer_group, handles
from stock import services
from stock.services import ReserveRequest

consumer_group("stock", ordered=True)


@handles(OrderCreated, group="stock", bulk=True)
def reserve_for_orders(events: list[OrderCreated]) -> None:
    services.reserve(requests=[ReserveRequest(event.order_id, event.quantities) for event in events])


@handles(OrderCompleted, group="stock", bulk=True)
def sell_to_completed_orders(events: list[OrderCompleted]) -> None:
    services.sell(order_ids=[event.order_id for event in events])


@handles(OrderCancelled, group="stock", bulk=True)
def release_for_cancelled_orders(events: list[OrderCancelled]) -> None:
    services.release(order_ids=[event.order_id for event in events])
