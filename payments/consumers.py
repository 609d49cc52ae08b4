"""How payments reacts to other apps. Run with: manage.py run_consumer payments"""

from orders.events import OrderCancelled, OrderReserved
from outbox import consumer_group, handles
from payments import services
from payments.services import CaptureRequest, RefundRequest

consumer_group("payments", ordered=True)


@handles(OrderReserved, group="payments", bulk=True)
def capture_for_reserved_orders(events: list[OrderReserved]) -> None:
    services.capture(
        requests=[CaptureRequest(event.order_id, event.customer_id, event.amount, event.currency) for event in events]
    )


@handles(OrderCancelled, group="payments", bulk=True)
def refund_cancelled_orders(events: list[OrderCancelled]) -> None:
    services.refund(requests=[RefundRequest(event.order_id, event.customer_id, event.currency) for event in events])
