"""A shop with two products, and the events by which the other apps answer an order."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction

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


@pytest.fixture
def overtake() -> Callable[..., Any]:
    """Return a function that makes a first call in a transaction, and a second one beside it on another connection.

    The first one commits when the second has ended or waits for it. Returns what the second returned, or raised.
    """

    def run(first: Callable[[], Any], second: Callable[[], Any]) -> Any:
        def beside() -> Any:
            try:
                return second()
            except Exception as error:
                return error
            finally:
                connection.close()

        with ThreadPoolExecutor(1) as pool:
            with transaction.atomic(), connection.cursor() as cursor:
                first()
                outcome = pool.submit(beside)
                waits = False
                while not (waits or outcome.done()):
                    cursor.execute(
                        "SELECT EXISTS (SELECT FROM pg_locks WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid)))"
                    )
                    [waits] = cursor.fetchone() or [False]
            return outcome.result()

    return run
