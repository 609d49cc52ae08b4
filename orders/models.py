"""Orders, their lines, and the history of each."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pgtrigger
from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils import timezone
from uuid_utils.compat import uuid7

MAX_LINES = 100
MAX_QUANTITY = 1000


class OrderQuerySet(models.QuerySet["Order"]):
    def of(self, customer_id: UUID) -> "OrderQuerySet":
        """Keep a customer's own."""
        return self.filter(customer_id=customer_id)

    def with_lines(self) -> "OrderQuerySet":
        """Fetch all lines along, in one more query."""
        return self.prefetch_related("lines")

    def lock(self, order_ids: Iterable[UUID]) -> list["Order"]:
        """Return the orders, locked until the transaction ends.

        In the order of their ids, so that two batches cannot deadlock.
        """
        return list(self.filter(pk__in=set(order_ids)).order_by("pk").select_for_update(no_key=True))

    def lock_overdue(self, now: datetime, limit: int) -> list["Order"]:
        """Return orders whose deadline has passed, the longest overdue first, locked until the transaction ends.

        Those that somebody else holds are left out: they are being decided.
        """
        overdue = self.filter(deadline_at__lt=now).order_by("deadline_at")
        return list(overdue.select_for_update(no_key=True, skip_locked=True)[:limit])


class Order(models.Model):
    """What a customer wants to buy. Its row is locked by whoever changes its status."""

    class Status(models.TextChoices):
        PENDING = "PENDING"  # waits for stock
        AWAITING_PAYMENT = "AWAITING_PAYMENT"  # stock held, waits for payment
        COMPLETED = "COMPLETED"  # paid
        CANCELLED = "CANCELLED"

    class CancelReason(models.TextChoices):
        OUT_OF_STOCK = "OUT_OF_STOCK"
        PAYMENT_FAILED = "PAYMENT_FAILED"
        CUSTOMER = "CUSTOMER"
        TIMEOUT = "TIMEOUT"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    customer = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="orders")
    status = models.CharField(max_length=16, choices=Status, default=Status.PENDING)
    cancel_reason = models.CharField(max_length=16, choices=CancelReason, null=True, blank=True)
    # What is to be paid, the discount already taken off.
    total = models.DecimalField(max_digits=20, decimal_places=2)
    discount = models.DecimalField(max_digits=20, decimal_places=2, default=Decimal("0.00"))
    currency = models.CharField(max_length=3)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # The last change of status.
    updated_at = models.DateTimeField(default=timezone.now, editable=False)
    completed_at = models.DateTimeField(null=True, blank=True)
    # When the order is cancelled unless it got further. Null when it can get no further.
    deadline_at = models.DateTimeField(null=True, blank=True)

    objects = OrderQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        permissions = [("cancel_order", "Can cancel orders")]
        indexes = [
            models.Index(fields=["customer", "-created_at"], name="order_newest_of_customer"),
            models.Index(fields=["deadline_at"], condition=models.Q(deadline_at__isnull=False), name="order_deadline"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(status__in=["PENDING", "AWAITING_PAYMENT"], deadline_at__isnull=False)
                | models.Q(status__in=["COMPLETED", "CANCELLED"], deadline_at__isnull=True),
                name="order_deadline_unless_final",
            ),
            models.CheckConstraint(
                condition=models.Q(
                    status="CANCELLED",
                    # Said aloud, since for NULL the list is neither true nor false, and a CHECK lets that pass.
                    cancel_reason__isnull=False,
                    cancel_reason__in=["OUT_OF_STOCK", "PAYMENT_FAILED", "CUSTOMER", "TIMEOUT"],
                )
                | models.Q(~models.Q(status="CANCELLED"), cancel_reason__isnull=True),
                name="order_cancel_reason_iff_cancelled",
            ),
            models.CheckConstraint(
                condition=~models.Q(status="COMPLETED") | models.Q(completed_at__isnull=False),
                name="order_completed_at_if_completed",
            ),
            models.CheckConstraint(
                condition=models.Q(total__gte=0, discount__gte=0), name="order_amounts_not_negative"
            ),
        ]
        triggers = [
            pgtrigger.FSM(
                name="one_way",
                field="status",
                condition=pgtrigger.AnyChange("status"),
                transitions=[
                    ("PENDING", "AWAITING_PAYMENT"),
                    ("PENDING", "CANCELLED"),
                    ("AWAITING_PAYMENT", "COMPLETED"),
                    ("AWAITING_PAYMENT", "CANCELLED"),
                    ("COMPLETED", "CANCELLED"),
                ],
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)

    @property
    def cancellable_until(self) -> datetime | None:
        """When a completed order's cancel window closes. None: it was not completed, no window applies."""
        return self.completed_at and self.completed_at + timedelta(hours=settings.ORDER_CANCEL_WINDOW_HOURS)


class Line(models.Model):
    """A product of an order, at the price when it was placed."""

    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="lines")
    sku = models.CharField("SKU", max_length=64)
    name = models.CharField(max_length=200)
    quantity = models.PositiveIntegerField(validators=[MinValueValidator(1), MaxValueValidator(MAX_QUANTITY)])
    unit_price = models.DecimalField(max_digits=12, decimal_places=2)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["order", "sku"], name="line_sku_once"),
            models.CheckConstraint(
                condition=models.Q(quantity__range=(1, MAX_QUANTITY)), name="line_quantity_in_range"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} × {self.sku}"


class Step(models.Model):
    """An event in an order's history, written in the transaction that published or applied it."""

    # Drawn from a sequence while the order is locked, so it tells the order of the steps.
    id = models.BigAutoField(primary_key=True)
    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="steps")
    event_type = models.CharField(max_length=100)
    event_id = models.UUIDField()
    at = models.DateTimeField()
    # What the event said beside the ids and lines, in snake_case: {"reason": "TIMEOUT", …}.
    details = models.JSONField(default=dict)

    class Meta:
        ordering = ["id"]
        # The event first, so that this finds the orders of an event too.
        constraints = [models.UniqueConstraint(fields=["event_id", "order"], name="step_once")]

    def __str__(self) -> str:
        return self.event_type
