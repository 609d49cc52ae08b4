"""A shop with two products, and the events by which the other apps answer an order."""

from decimal import Decimal
from typing import Any

import pytest

import stock.services
from accounts.models import User
from orders import services
from orders.models import Order
from outbox.testing.delivering import Outbox
from payments.events import PaymentFailed, PaymentRefunded, PaymentSucceeded
from stock.events import StockRejected, StockReleased, StockReserved


@pytest.fixture
def order(customer: User) -> Order:
    """2 of A1 for 10.00 each and 1 of B2 for 5.50, waiting for stock."""
    for sku, price in {"A1": "10.00", "B2": "5.50"}.items():
        stock.services.add_product(sku=sku, name=f"The {sku}", price=Decimal(price))
        stock.services.receive(sku=sku, quantity=5)
    return services.place(customer_id=customer.id, items={"A1": 2, "B2": 1})


class Answers:
    """What the other apps tell about one order. Each is a delivery that can be made again: the same event."""

    def __init__(self, order: Order, outbox: Outbox) -> None:
        self._outbox = outbox
        paid: dict[str, Any] = {
            "order_id": order.id,
            "customer_id": order.customer_id,
            "amount": order.total,
            "currency": order.currency,
        }
        self.events = {
            "reserved": StockReserved(order_id=order.id),
            "rejected": StockRejected(order_id=order.id, short_skus=["B2"]),
            "released": StockReleased(order_id=order.id),
            "succeeded": PaymentSucceeded(**paid),
            "failed": PaymentFailed(**paid, reason="insufficient_funds"),
            "refunded": PaymentRefunded(**paid),
        }

    def deliver(self, *names: str, **how: Any) -> None:
        """Deliver one after the other, each as `outbox.deliver` does."""
        for name in names:
            self._outbox.deliver("orders", self.events[name], **how)


@pytest.fixture
def answers(order: Order, outbox: Outbox) -> Answers:
    return Answers(order, outbox)
