"""What happened to orders, as their events tell it: of ten orders eight are paid, one is returned, one is refused."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from uuid_utils.compat import uuid7

from outbox import Event
from outbox.publishing import rows_of
from outbox.relay.sender import Row

SKUS = 200
MOST_LINES = 3
# The orders are placed within so many hours, evenly, and end today.
HOURS = 7 * 24
SEED = 5
EVERY = 10


class Record(NamedTuple):
    """A record for Kafka. The topic is without the prefix."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, str | bytes | None]]


def records(number: int) -> list[Record]:
    """Return so many events as the relay would have written them, in the order in which they happened."""
    told: list[Event] = []
    chance = random.Random(SEED)
    # An order comes to five events, mostly.
    step = timedelta(hours=HOURS) / max(1, number // 5)
    placed_at = datetime.now(UTC) - timedelta(hours=HOURS)
    place = 0
    while len(told) < number:
        told += story(chance, place, placed_at)
        place, placed_at = place + 1, placed_at + step
    told = sorted(told[:number], key=lambda event: event.occurred_at)
    return [
        Record(
            row.topic,
            row.key,
            row.value,
            [*Row(0, str(row.event_id), row.event_type, str(row.event_version), *row[3:]).kafka_headers()],
        )
        for row in rows_of(told)
    ]


def story(chance: random.Random, place: int, placed_at: datetime) -> Iterator[Event]:
    """Tell what happened to the order of that place: something each tenth of a second."""
    for number, event in enumerate(events_of(chance, place)):
        event.__dict__["occurred_at"] = placed_at + number * timedelta(seconds=0.1)
        yield event


def events_of(chance: random.Random, place: int) -> Iterator[Event]:
    from accounts.events import UserCreated
    from orders.events import Line, OrderCancelled, OrderCompleted, OrderCreated, OrderReserved
    from payments.events import PaymentRefunded, PaymentSucceeded
    from stock.events import StockRejected, StockReleased, StockReserved

    customer_id, order_id = uuid7(), uuid7()
    lines = [
        Line(sku=f"SKU-{sku:04}", quantity=chance.randint(1, 3), unit_price=Decimal(chance.randint(100, 9_999)) / 100)
        for sku in chance.sample(range(SKUS), chance.randint(1, MOST_LINES))
    ]
    total = sum((line.quantity * line.unit_price for line in lines), Decimal("0.00"))
    whose = {"order_id": order_id, "customer_id": customer_id}

    if place % EVERY == 0:
        yield UserCreated(user_id=customer_id, username=f"c{place}", email=f"c{place}@example.com", language="en")
    yield OrderCreated(**whose, lines=lines, total=total, currency="USD")
    if place % EVERY == 1:
        yield StockRejected(order_id=order_id, short_skus=[lines[0].sku])
        yield OrderCancelled(**whose, reason="OUT_OF_STOCK", total=total, currency="USD")
        return
    yield StockReserved(order_id=order_id)
    yield OrderReserved(**whose, amount=total, currency="USD")
    yield PaymentSucceeded(**whose, amount=total, currency="USD")
    yield OrderCompleted(**whose, lines=lines, total=total, currency="USD")
    if place % EVERY == 2:
        yield OrderCancelled(**whose, reason="CUSTOMER", total=total, currency="USD")
        yield StockReleased(order_id=order_id)
        yield PaymentRefunded(**whose, amount=total, currency="USD")
