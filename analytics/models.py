"""What is known of each order, and what all orders come to by the hour.

Hours are those of UTC in which something happened, not those in which it was heard of, so a late event is counted where
it belongs. Nothing here has a retention: late events need the facts of their orders, and the sums of an hour are few.
"""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar, Self
from uuid import UUID

from django.conf import settings
from django.db import models
from django.db.models.functions import Trunc

# Of a sum: its row's keys without the shard, and what is added to its counters.
Part = tuple[tuple[Any, ...], dict[str, Any]]

MICROSECOND = timedelta(microseconds=1)
NO_MONEY = Decimal("0.00")


def hour_of(moment: datetime) -> datetime:
    """Return the begin of the hour of a time in UTC."""
    return moment.replace(minute=0, second=0, microsecond=0)


class CancelReason(models.TextChoices):
    """Why orders are cancelled. Each has a counter in Funnel."""

    OUT_OF_STOCK = "OUT_OF_STOCK"
    PAYMENT_FAILED = "PAYMENT_FAILED"
    CUSTOMER = "CUSTOMER"
    TIMEOUT = "TIMEOUT"

    @property
    def counter(self) -> str:
        return f"cancelled_{self.lower()}"


class OrderFactQuerySet(models.QuerySet["OrderFact"]):
    def lock(self, order_ids: Collection[UUID]) -> dict[UUID, "OrderFact"]:
        """Return the facts of orders by id, locked until the transaction ends.

        In the order of their ids, so that two batches cannot deadlock.
        """
        return {fact.pk: fact for fact in self.filter(pk__in=order_ids).order_by("pk").select_for_update(no_key=True)}


class OrderFact(models.Model):
    """What the events have told of an order so far. Any of them may come first, so each fact may be missing."""

    order_id = models.UUIDField(primary_key=True)
    created_at = models.DateTimeField(null=True)
    reserved_at = models.DateTimeField(null=True)
    completed_at = models.DateTimeField(null=True)
    units = models.BigIntegerField(null=True)
    total = models.DecimalField(max_digits=20, decimal_places=2, null=True)
    currency = models.CharField(max_length=3, null=True)
    cancelled_at = models.DateTimeField(null=True)
    cancel_reason = models.CharField(max_length=16, choices=CancelReason, null=True)
    refunded_at = models.DateTimeField(null=True)
    refunded = models.DecimalField(max_digits=20, decimal_places=2, null=True)

    objects = OrderFactQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        constraints = [
            models.CheckConstraint(
                condition=models.Q(completed_at__isnull=True)
                | models.Q(units__isnull=False, total__isnull=False, currency__isnull=False),
                name="order_fact_completed_with_its_amount",
            ),
            models.CheckConstraint(
                condition=models.Q(cancelled_at__isnull=True, cancel_reason__isnull=True)
                | models.Q(
                    cancelled_at__isnull=False,
                    # Said aloud, since for NULL the list is neither true nor false, and a CHECK lets that pass.
                    cancel_reason__isnull=False,
                    cancel_reason__in=CancelReason.values,
                ),
                name="order_fact_cancelled_with_its_reason",
            ),
            models.CheckConstraint(
                condition=models.Q(refunded_at__isnull=True, refunded__isnull=True)
                | models.Q(refunded_at__isnull=False, refunded__isnull=False),
                name="order_fact_refunded_with_its_amount",
            ),
        ]

    def __str__(self) -> str:
        return str(self.order_id)

    def learn(self, told: Mapping[str, Any]) -> None:
        """Take over what is told and not known yet, by the names of the fields."""
        for name, value in told.items():
            if getattr(self, name) is None:
                setattr(self, name, value)

    def sales(self) -> list[Part]:
        """Return what the order adds to Sales.

        What was captured only after the cancel, and so given back, was no sale and is no refund.
        """
        if self.completed_at is None:
            return []
        sold = {"orders": 1, "units": self.units, "revenue": self.total}
        parts: list[Part] = [((hour_of(self.completed_at), self.currency), sold)]
        if self.refunded_at is not None:
            parts.append(((hour_of(self.refunded_at), self.currency), {"refunds": self.refunded}))
        return parts

    def funnel(self) -> list[Part]:
        """Return what the order adds to Funnel, in the hour in which it was placed, however late it gets further."""
        if self.created_at is None:
            return []
        counters: dict[str, Any] = {"created": 1}
        if self.reserved_at is not None:
            counters["reserved"] = 1
            counters["created_to_reserved_us"] = (self.reserved_at - self.created_at) // MICROSECOND
        if self.completed_at is not None:
            counters["completed"] = 1
            counters["created_to_completed_us"] = (self.completed_at - self.created_at) // MICROSECOND
        if self.reserved_at is not None and self.completed_at is not None:
            counters["reserved_and_completed"] = 1
            counters["reserved_to_completed_us"] = (self.completed_at - self.reserved_at) // MICROSECOND
        if self.cancelled_at is not None and self.cancel_reason is not None:
            counters[CancelReason(self.cancel_reason).counter] = 1
            counters["created_to_cancelled_us"] = (self.cancelled_at - self.created_at) // MICROSECOND
        return [((hour_of(self.created_at),), counters)]


class SumQuerySet(models.QuerySet[Any]):
    def between(self, start: datetime, end: datetime) -> Self:
        """Keep the hours from `start` on and before `end`."""
        return self.filter(hour__gte=start, hour__lt=end)


class Sum(models.Model):
    """Counters by the hour, to which services.py adds.

    Readers add up the shards: each connection has rows of its own, so that members of the group do not wait for each
    other at the rows of the current hour.
    """

    # What tells a row from all others, together with the shard. All other columns are counters.
    KEYS: ClassVar[tuple[str, ...]]

    hour = models.DateTimeField()
    shard = models.PositiveSmallIntegerField()

    class Meta:
        abstract = True
        default_permissions: ClassVar[tuple[str, ...]] = ()

    def __str__(self) -> str:
        return " ".join(str(getattr(self, key)) for key in self.KEYS)


class MoneyQuerySet(SumQuerySet):
    def in_our_currency(self) -> Self:
        """Keep what was sold in settings.CURRENCY. What was sold in others is kept, but can not be added to it."""
        return self.filter(currency=settings.CURRENCY)


class SalesQuerySet(MoneyQuerySet):
    def by(self, bucket: str) -> Self:
        """Return rows {bucket, orders, units, revenue, refunds} of the hours or days that have any."""
        return (
            self.in_our_currency()
            .values(bucket=Trunc("hour", bucket, tzinfo=UTC))
            .annotate(
                orders=models.Sum("orders"),
                units=models.Sum("units"),
                revenue=models.Sum("revenue"),
                refunds=models.Sum("refunds"),
            )
            .order_by("bucket")
        )


class Sales(Sum):
    """Orders in the hour in which they were paid, and what was given back in the hour in which it was."""

    KEYS = ("hour", "currency")

    currency = models.CharField(max_length=3)
    orders = models.BigIntegerField(default=0)
    units = models.BigIntegerField(default=0)
    revenue = models.DecimalField(max_digits=20, decimal_places=2, default=NO_MONEY)
    refunds = models.DecimalField(max_digits=20, decimal_places=2, default=NO_MONEY)

    objects = SalesQuerySet.as_manager()

    class Meta(Sum.Meta):
        verbose_name_plural = "sales"
        # Of all that this app counts: the charts are the page of this model in the admin.
        default_permissions: ClassVar[tuple[str, ...]] = ("view",)
        constraints = [models.UniqueConstraint(fields=["hour", "currency", "shard"], name="sales_once")]


class FunnelQuerySet(SumQuerySet):
    def totals(self) -> dict[str, int]:
        """Return the sum of each counter."""
        return self.aggregate(**{name: models.Sum(name, default=0) for name in counters_of(Funnel)})


class Funnel(Sum):
    """How far the orders got that were placed in an hour.

    Between two steps there is the sum of the microseconds, so that it is exact in whatever order it is added up.
    """

    KEYS = ("hour",)

    created = models.BigIntegerField(default=0)
    reserved = models.BigIntegerField(default=0)
    completed = models.BigIntegerField(default=0)
    # Of how many there is a time between the two.
    reserved_and_completed = models.BigIntegerField(default=0)
    cancelled_out_of_stock = models.BigIntegerField(default=0)
    cancelled_payment_failed = models.BigIntegerField(default=0)
    cancelled_customer = models.BigIntegerField(default=0)
    cancelled_timeout = models.BigIntegerField(default=0)
    created_to_reserved_us = models.BigIntegerField(default=0)
    reserved_to_completed_us = models.BigIntegerField(default=0)
    created_to_completed_us = models.BigIntegerField(default=0)
    created_to_cancelled_us = models.BigIntegerField(default=0)

    objects = FunnelQuerySet.as_manager()

    class Meta(Sum.Meta):
        constraints = [models.UniqueConstraint(fields=["hour", "shard"], name="funnel_once")]


class ProductSalesQuerySet(MoneyQuerySet):
    def top(self, limit: int | None) -> Self:
        """Return rows {sku, units, revenue} of the products that brought most; None: of all."""
        totals = self.in_our_currency().values("sku")
        totals = totals.annotate(units=models.Sum("units"), revenue=models.Sum("revenue"))
        return totals.order_by("-revenue", "-units", "sku")[:limit]


class ProductSales(Sum):
    """Products in the hour in which they were paid, at their prices: what is taken off an order is not divided."""

    KEYS = ("hour", "sku", "currency")

    sku = models.CharField(max_length=64)
    currency = models.CharField(max_length=3)
    units = models.BigIntegerField(default=0)
    revenue = models.DecimalField(max_digits=20, decimal_places=2, default=NO_MONEY)

    objects = ProductSalesQuerySet.as_manager()

    class Meta(Sum.Meta):
        constraints = [models.UniqueConstraint(fields=["hour", "sku", "currency", "shard"], name="product_sales_once")]


class ActivityQuerySet(SumQuerySet):
    def by_type(self) -> Self:
        """Return rows {event_type, count}, the most frequent first."""
        return self.values("event_type").annotate(count=models.Sum("count")).order_by("-count", "event_type")


class Activity(Sum):
    """How many events of each type happened in an hour."""

    KEYS = ("hour", "event_type")

    event_type = models.CharField(max_length=100)
    count = models.BigIntegerField(default=0)

    objects = ActivityQuerySet.as_manager()

    class Meta(Sum.Meta):
        constraints = [models.UniqueConstraint(fields=["hour", "event_type", "shard"], name="activity_once")]


def counters_of(model: type[Sum]) -> list[str]:
    """Return the names of the columns that are added to."""
    return [field.name for field in model._meta.local_fields if field.name not in (*model.KEYS, "id", "shard")]
