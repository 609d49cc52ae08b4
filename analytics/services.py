"""Everything that changes analytics. Each function is one transaction.

What an order adds to the sums follows from what is known of it. So each event adds the difference between what its
order comes to now and what it came to before, and the sums are right whichever comes first. That each event comes once
is the inbox' part.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Model

from analytics.models import Activity, Funnel, OrderFact, Part, ProductSales, Sales, Sum, counters_of, hour_of
from outbox.database import binary_cursor

# More than a group has members, mostly. Two of them that share a shard wait for each other, and no more.
SHARDS = 16
# Sorted, so that two members that hear of the same new orders do not deadlock.
GET_TO_KNOW = """
    INSERT INTO analytics_orderfact (order_id) SELECT * FROM unnest(%b::uuid[]) AS told (order_id) ORDER BY order_id
    ON CONFLICT (order_id) DO NOTHING
"""


class Sold(NamedTuple):
    """What an order sold of one product."""

    sku: str
    units: int
    revenue: Decimal


@dataclass(frozen=True)
class News:
    """That an event happened, and what it tells of an order: `told` are fields of OrderFact."""

    event_type: str
    at: datetime
    order_id: UUID | None = None
    told: dict[str, Any] = field(default_factory=dict)
    sold: Sequence[Sold] = ()


class Changes:
    """What is to be added to the rows of a sum, by their keys."""

    def __init__(self) -> None:
        self._by_key: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)

    def add(self, parts: Iterable[Part]) -> None:
        for key, counters in parts:
            self._by_key[key].update(counters)

    def subtract(self, parts: Iterable[Part]) -> None:
        for key, counters in parts:
            self._by_key[key].subtract(counters)

    def rows(self, counters: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return the keys and the changes of the counters, where there are any."""
        found = ((*key, *(change[name] for name in counters)) for key, change in self._by_key.items())
        return [row for row in found if any(row[-len(counters) :])]


@transaction.atomic
def record(*, news: Sequence[News]) -> None:
    """Count events, and take over what they tell of orders."""
    activity, sales, funnel, products = Changes(), Changes(), Changes(), Changes()
    facts = _lock({item.order_id for item in news if item.order_id})
    for item in news:
        activity.add([((hour_of(item.at), item.event_type), {"count": 1})])
        if item.order_id is None:
            continue
        fact = facts[item.order_id]
        if fact.completed_at is None:
            products.add(_products(item))
        sales.subtract(fact.sales())
        funnel.subtract(fact.funnel())
        fact.learn(item.told)
        sales.add(fact.sales())
        funnel.add(fact.funnel())

    _save(facts.values())
    _add(Sales, sales)
    _add(Funnel, funnel)
    _add(ProductSales, products)
    _add(Activity, activity)


@transaction.atomic
def clear() -> None:
    """Forget everything, so that it can be made again from what Kafka holds."""
    for model in (OrderFact, Sales, Funnel, ProductSales, Activity):
        model._default_manager.all().delete()


def _lock(order_ids: Collection[UUID]) -> dict[UUID, OrderFact]:
    """Return the facts of orders, locked; of orders that were unknown, none are known yet."""
    if not order_ids:
        return {}
    with binary_cursor(connection) as cursor:
        cursor.execute(GET_TO_KNOW, [list(order_ids)])
    return OrderFact.objects.lock(order_ids)


def _save(facts: Collection[OrderFact]) -> None:
    """Write the facts of locked orders."""
    if facts:
        with binary_cursor(connection) as cursor:
            cursor.execute(_update(), [[getattr(fact, name) for fact in facts] for name in _columns(OrderFact)])


@cache
def _update() -> str:
    """Return the statement that writes all facts of orders."""
    order_id, *facts = _columns(OrderFact)
    return f"""
        UPDATE analytics_orderfact AS fact SET {", ".join(f"{name} = told.{name}" for name in facts)}
        FROM {_unnested(OrderFact, [order_id, *facts])} AS told ({order_id}, {", ".join(facts)})
        WHERE fact.{order_id} = told.{order_id}
    """


def _products(item: News) -> list[Part]:
    currency = item.told.get("currency")
    return [
        ((hour_of(item.at), sold.sku, currency), {"units": sold.units, "revenue": sold.revenue}) for sold in item.sold
    ]


def _add(model: type[Sum], changes: Changes) -> None:
    """Add to the rows of this connection's shard."""
    counters = counters_of(model)
    if rows := changes.rows(counters):
        fields = {column.name: column for column in model._meta.local_fields}
        columns = [
            # What was not counted is a plain 0, also of money.
            [fields[name].to_python(value) for value in values]
            for name, values in zip((*model.KEYS, *counters), zip(*rows, strict=True), strict=True)
        ]
        with binary_cursor(connection) as cursor:
            cursor.execute(_addition(model), columns)


@cache
def _addition(model: type[Sum]) -> str:
    """Return the statement that adds to rows of a sum, in the order of their keys, so that batches do not deadlock."""
    counters = counters_of(model)
    keys, columns = ", ".join(model.KEYS), ", ".join((*model.KEYS, *counters))
    return f"""
        INSERT INTO {model._meta.db_table} AS kept ({columns}, shard)
        SELECT *, pg_backend_pid() %% {SHARDS} FROM {_unnested(model, [*model.KEYS, *counters])} AS added ({columns})
        ORDER BY {keys}
        ON CONFLICT ({keys}, shard)
        DO UPDATE SET {", ".join(f"{name} = kept.{name} + excluded.{name}" for name in counters)}
    """


def _columns(model: type[Model]) -> list[str]:
    return [column.name for column in model._meta.local_fields]


def _unnested(model: type[Model], names: Iterable[str]) -> str:
    """Return the rows that are made of an array for each of these columns."""
    # Without their limits: a cast would cut what is too long, where the column refuses it.
    types = {column.name: (column.db_type(connection) or "").split("(")[0] for column in model._meta.local_fields}
    return f"unnest({', '.join(f'%b::{types[name]}[]' for name in names)})"
