"""Orders as their events tell of them, and what analytics makes of these."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import Sum
from uuid_utils.compat import uuid7

from accounts.events import UserCreated
from analytics.models import Activity, Funnel, OrderFact, ProductSales, Sales, counters_of
from orders.events import Line, OrderCancelled, OrderCompleted, OrderCreated, OrderReserved
from outbox import Event
from outbox.events import AnyEvent
from payments.events import PaymentFailed, PaymentRefunded, PaymentSucceeded
from stock.events import StockRejected, StockReleased, StockReserved

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SUMS = (Sales, Funnel, ProductSales, Activity)


def at(moment: datetime, event: AnyEvent) -> AnyEvent:
    """Let an event have occurred at a time."""
    event.__dict__["occurred_at"] = moment
    return event


class OrderStory:
    """The events of one order, each a minute after the one before it: two A1 for 10.00 each, and one B2 for 5.50."""

    def __init__(self, placed_at: datetime = NOON, *, currency: str = "USD") -> None:
        self.placed_at = placed_at
        self._order: dict[str, Any] = {"order_id": uuid7(), "customer_id": uuid7()}
        self._amount: dict[str, Any] = {"amount": Decimal("25.50"), "currency": currency}
        self._total: dict[str, Any] = {"total": Decimal("25.50"), "currency": currency}
        lines = [Line(sku="A1", quantity=2, unit_price=Decimal("10.00"))]
        self._lines: dict[str, Any] = {"lines": [*lines, Line(sku="B2", quantity=1, unit_price=Decimal("5.50"))]}

    def after(self, minutes: float, event: AnyEvent) -> AnyEvent:
        return at(self.placed_at + timedelta(minutes=minutes), event)

    @property
    def created(self) -> OrderCreated:
        return self.after(0, OrderCreated(**self._order, **self._lines, **self._total))

    @property
    def reserved(self) -> list[Event]:
        order_id = self._order["order_id"]
        return [
            self.after(1, StockReserved(order_id=order_id)),
            self.after(2, OrderReserved(**self._order, **self._amount)),
        ]

    @property
    def completed(self) -> list[Event]:
        return [
            self.after(3, PaymentSucceeded(**self._order, **self._amount)),
            self.after(4, OrderCompleted(**self._order, **self._lines, **self._total)),
        ]

    def cancelled(self, reason: str, *, minutes: float = 5) -> OrderCancelled:
        return self.after(minutes, OrderCancelled(**self._order, reason=reason, **self._total))

    @property
    def refunded(self) -> list[Event]:
        return [
            self.after(6, PaymentRefunded(**self._order, **self._amount)),
            self.after(7, StockReleased(order_id=self._order["order_id"])),
        ]

    @property
    def paid(self) -> list[Event]:
        """All events of an order that was paid."""
        return [self.created, *self.reserved, *self.completed]

    @property
    def returned(self) -> list[Event]:
        """… that was cancelled when it was paid, and given back."""
        return [*self.paid, self.cancelled("CUSTOMER"), *self.refunded]

    @property
    def paid_too_late(self) -> list[Event]:
        """… that was cancelled before it could be completed, and paid nevertheless."""
        paid, _ = self.completed
        return [self.created, *self.reserved, self.cancelled("TIMEOUT"), paid, *self.refunded]

    @property
    def rejected(self) -> list[Event]:
        """… for which there was too little in stock."""
        order_id = self._order["order_id"]
        return [
            self.created,
            self.after(1, StockRejected(order_id=order_id, short_skus=["B2"])),
            self.cancelled("OUT_OF_STOCK", minutes=2),
        ]

    @property
    def unpaid(self) -> list[Event]:
        """… for which there was too little money."""
        failed = PaymentFailed(**self._order, **self._amount, reason="insufficient_funds")
        return [self.created, *self.reserved, self.after(3, failed), self.cancelled("PAYMENT_FAILED", minutes=4)]


def welcome(moment: datetime = NOON) -> UserCreated:
    return at(moment, UserCreated(user_id=uuid7(), username="carol", email="carol@example.com", language="en"))


def sums() -> dict[str, dict[tuple, dict[str, Any]]]:
    """Return all sums over the shards: by table and keys, those counters that are not zero."""
    return {
        model.__name__: {
            tuple(row[key] for key in model.KEYS): {name: row[name] for name in counters_of(model) if row[name]}
            for row in model.objects.values(*model.KEYS).annotate(**{name: Sum(name) for name in counters_of(model)})
        }
        for model in SUMS
    }


@pytest.fixture
def made() -> Callable[[], dict[str, Any]]:
    """Return a function that lists all that analytics has made of events, to compare before and after."""

    def read() -> dict[str, Any]:
        return {**sums(), "facts": list(OrderFact.objects.order_by("pk").values())}

    return read
