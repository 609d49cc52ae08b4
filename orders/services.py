"""Everything that changes orders. Each function is one transaction.

Whoever changes an order holds its row: when a cancel, a payment and a deadline come together, one of them wins and the
others see what it made of the order.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from django.conf import settings
from django.db import transaction
from django.db.models import prefetch_related_objects
from django.utils import timezone

import coupons.services
import stock.services
from orders import events
from orders.models import Line, Order, Step
from outbox import Event, publish

# How many orders one sweep cancels. What is left waits for the next one, a few seconds later.
SWEEP_LIMIT = 2000


class AlreadyCancelled(Exception):
    """The order was cancelled before."""


class CancelWindowClosed(Exception):
    """The order was completed longer ago than a completed order can be cancelled."""


class UnknownOrder(LookupError):
    """Something is told about orders that are not there."""


@dataclass(frozen=True)
class Fact:
    """An event about an order, as its timeline keeps it."""

    order_id: UUID
    event_type: str
    event_id: UUID
    at: datetime
    details: dict[str, Any]

    @classmethod
    def of(cls, event: Event) -> "Fact":
        """Take over an event, which has an `order_id`. The customer and the lines stand with the order already."""
        fields = msgspec.structs.asdict(event)
        order_id = fields.pop("order_id")
        details = {name: value for name, value in fields.items() if name not in ("customer_id", "lines")}
        return cls(order_id, event.type, event.event_id, event.occurred_at, msgspec.to_builtins(details))


@transaction.atomic
def place(*, customer_id: UUID, items: Mapping[str, int], coupon_code: str | None = None) -> Order:
    """Place an order for units by SKU, at today's prices, less what a coupon takes off. Publishes OrderCreated.

    Raises:
        stock.services.UnknownSku: one or more SKUs are no active products.
        coupons.services.UnknownCoupon, CouponSpent, CouponDisabled, CouponEnded, BelowMinimumTotal: see `redeem`.
    """
    now = timezone.now()
    quotes = stock.services.quote(skus=items)
    order = Order(
        customer_id=customer_id,
        total=sum((quotes[sku].unit_price * quantity for sku, quantity in items.items()), Decimal("0.00")),
        currency=settings.CURRENCY,
        created_at=now,
        updated_at=now,
        deadline_at=now + timedelta(seconds=settings.ORDER_STOCK_TIMEOUT_SECONDS),
    )
    if coupon_code is not None:
        order.discount = coupons.services.redeem(
            user_id=customer_id, code=coupon_code, order_id=order.id, total=order.total, now=now
        )
        order.total -= order.discount
    order.save(force_insert=True)
    lines = Line.objects.bulk_create(
        Line(order=order, sku=sku, name=quotes[sku].name, quantity=quantity, unit_price=quotes[sku].unit_price)
        for sku, quantity in items.items()
    )
    _tell(
        [
            events.OrderCreated(
                order_id=order.id,
                customer_id=customer_id,
                lines=_told_lines(lines),
                total=order.total,
                currency=order.currency,
            )
        ]
    )
    return order


@transaction.atomic
def cancel(
    *, order_id: UUID, reason: Order.CancelReason = Order.CancelReason.CUSTOMER, now: datetime | None = None
) -> Order:
    """Cancel an order; stock and money come back by the events that follow. Publishes OrderCancelled.

    Raises:
        Order.DoesNotExist: there is no such order.
        AlreadyCancelled: it was cancelled before, for whatever reason.
        CancelWindowClosed: it was completed more than ORDER_CANCEL_WINDOW_HOURS ago.
    """
    now = now or timezone.now()
    order = Order.objects.select_for_update(no_key=True).get(pk=order_id)
    if order.status == Order.Status.CANCELLED:
        raise AlreadyCancelled
    if order.cancellable_until and order.cancellable_until < now:
        raise CancelWindowClosed
    _cancel([order], reason, now)
    return order


@transaction.atomic
def cancel_overdue(*, now: datetime) -> int:
    """Cancel orders whose deadline has passed, up to SWEEP_LIMIT of them, and return how many.

    Publishes OrderCancelled with the reason TIMEOUT.
    """
    overdue = Order.objects.lock_overdue(now, SWEEP_LIMIT)
    _cancel(overdue, Order.CancelReason.TIMEOUT, now)
    return len(overdue)


@transaction.atomic
def ask_for_payment(*, facts: Sequence[Fact]) -> None:
    """Let orders whose stock is held ask for payment. Publishes OrderReserved.

    Raises:
        UnknownOrder: there is no such order. Nothing was written.
    """
    now = timezone.now()
    reserved = [order for order in _record(facts) if order.status == Order.Status.PENDING]
    _change(
        reserved,
        status=Order.Status.AWAITING_PAYMENT,
        deadline_at=now + timedelta(seconds=settings.ORDER_PAYMENT_TIMEOUT_SECONDS),
        updated_at=now,
    )
    _tell(
        [
            events.OrderReserved(
                order_id=order.id, customer_id=order.customer_id, amount=order.total, currency=order.currency
            )
            for order in reserved
        ]
    )


@transaction.atomic
def reject(*, facts: Sequence[Fact]) -> None:
    """Cancel orders for which there was not enough stock. Publishes OrderCancelled.

    Raises:
        UnknownOrder: there is no such order. Nothing was written.
    """
    rejected = [order for order in _record(facts) if order.status == Order.Status.PENDING]
    _cancel(rejected, Order.CancelReason.OUT_OF_STOCK, timezone.now())


@transaction.atomic
def complete(*, facts: Sequence[Fact]) -> None:
    """Complete orders that were paid. Publishes OrderCompleted.

    One that was cancelled meanwhile stays so: payments gives the money back.

    Raises:
        UnknownOrder: there is no such order. Nothing was written.
    """
    now = timezone.now()
    paid = [order for order in _record(facts) if order.status == Order.Status.AWAITING_PAYMENT]
    _change(paid, status=Order.Status.COMPLETED, completed_at=now, deadline_at=None, updated_at=now)
    prefetch_related_objects(paid, "lines")
    _tell(
        [
            events.OrderCompleted(
                order_id=order.id,
                customer_id=order.customer_id,
                lines=_told_lines(order.lines.all()),
                total=order.total,
                currency=order.currency,
            )
            for order in paid
        ]
    )


@transaction.atomic
def fail(*, facts: Sequence[Fact]) -> None:
    """Cancel orders that could not be paid. Publishes OrderCancelled.

    Raises:
        UnknownOrder: there is no such order. Nothing was written.
    """
    unpaid = [order for order in _record(facts) if order.status == Order.Status.AWAITING_PAYMENT]
    _cancel(unpaid, Order.CancelReason.PAYMENT_FAILED, timezone.now())


@transaction.atomic
def note(*, facts: Sequence[Fact]) -> None:
    """Put events into the timelines that change nothing else.

    Raises:
        UnknownOrder: there is no such order. Nothing was written.
    """
    _record(facts)


def _record(facts: Sequence[Fact]) -> list[Order]:
    """Lock the orders, put the facts into their timelines unless they stand there, and return the orders."""
    wanted = {fact.order_id for fact in facts}
    orders = Order.objects.lock(wanted)
    if unknown := wanted - {order.pk for order in orders}:
        raise UnknownOrder(", ".join(sorted(str(order_id) for order_id in unknown)))
    _add_steps(facts)
    return orders


def _cancel(orders: Sequence[Order], reason: Order.CancelReason, now: datetime) -> None:
    _change(orders, status=Order.Status.CANCELLED, cancel_reason=reason, deadline_at=None, updated_at=now)
    _tell(
        [
            events.OrderCancelled(
                order_id=order.id,
                customer_id=order.customer_id,
                reason=reason.value,
                total=order.total,
                currency=order.currency,
            )
            for order in orders
        ]
    )


def _change(orders: Sequence[Order], **values: Any) -> None:
    """Give locked orders the same new values, in one statement."""
    Order.objects.filter(pk__in=[order.pk for order in orders]).update(**values)
    for order in orders:
        for field, value in values.items():
            setattr(order, field, value)


def _tell(told: Sequence[Event]) -> None:
    """Publish events of orders that are locked or new, and put them into their timelines."""
    _add_steps([Fact.of(event) for event in told])
    publish(*told)


def _add_steps(facts: Sequence[Fact]) -> None:
    Step.objects.bulk_create(
        [
            Step(
                order_id=fact.order_id,
                event_type=fact.event_type,
                event_id=fact.event_id,
                at=fact.at,
                details=fact.details,
            )
            for fact in facts
        ],
        ignore_conflicts=True,
    )


def _told_lines(lines: Iterable[Line]) -> list[events.Line]:
    return [events.Line(sku=line.sku, quantity=line.quantity, unit_price=line.unit_price) for line in lines]
