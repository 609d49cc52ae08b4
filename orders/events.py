"""Facts that orders publishes. Amounts are in units of `currency`, with two decimals."""

from decimal import Decimal
from uuid import UUID

import msgspec

from outbox import Event, Topic

ORDER = Topic("order-events")


class Line(msgspec.Struct, frozen=True, rename="camel"):
    """How many units of a product were ordered, at which price for one."""

    sku: str
    quantity: int
    unit_price: Decimal


class OrderCreated(Event, topic=ORDER, type="order.created", key="order_id"):
    """A customer placed an order; it waits for stock."""

    order_id: UUID
    customer_id: UUID
    lines: list[Line]
    total: Decimal
    currency: str

    @property
    def quantities(self) -> dict[str, int]:
        """Units by SKU."""
        return {line.sku: line.quantity for line in self.lines}


class OrderReserved(Event, topic=ORDER, type="order.reserved", key="order_id"):
    """Stock is held for the order; it asks for payment of the amount."""

    order_id: UUID
    customer_id: UUID
    amount: Decimal
    currency: str


class OrderCompleted(Event, topic=ORDER, type="order.completed", key="order_id"):
    """The order is paid."""

    order_id: UUID
    customer_id: UUID
    lines: list[Line]
    total: Decimal
    currency: str


class OrderCancelled(Event, topic=ORDER, type="order.cancelled", key="order_id"):
    """The order came to nothing: OUT_OF_STOCK, PAYMENT_FAILED, CUSTOMER or TIMEOUT.

    What it held or had bought, and what was paid, goes back.
    """

    order_id: UUID
    customer_id: UUID
    reason: str
    total: Decimal
    currency: str
