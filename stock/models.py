"""Products, their levels, and every unit that came, went or was set aside."""

from collections.abc import Iterable
from uuid import UUID

import pgtrigger
from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models
from django.utils import timezone
from uuid_utils.compat import uuid7

# What needs no escape in a path.
plain = RegexValidator(
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z", "Write up to 64 letters A to Z, digits, '.', '_' and '-', no mark first."
)


class ProductQuerySet(models.QuerySet["Product"]):
    def active(self) -> "ProductQuerySet":
        """Keep those that can be ordered."""
        return self.filter(active=True)

    def available(self) -> "ProductQuerySet":
        """Keep those of which units are left."""
        return self.filter(level__on_hand__gt=models.F("level__reserved"))

    def sold_out(self) -> "ProductQuerySet":
        """Keep those of which no unit is left."""
        return self.filter(level__on_hand=models.F("level__reserved"))

    def with_levels(self) -> "ProductQuerySet":
        """Fetch the levels along, for `available`."""
        return self.select_related("level")


class Product(models.Model):
    """What customers can order."""

    sku = models.CharField("SKU", max_length=64, primary_key=True, validators=[plain])
    name = models.CharField(max_length=200)
    # In settings.CURRENCY, for one unit.
    price = models.DecimalField(max_digits=12, decimal_places=2)
    active = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = ProductQuerySet.as_manager()

    class Meta:
        ordering = ["sku"]
        permissions = [("receive_product", "Can take in goods")]
        constraints = [
            models.CheckConstraint(condition=~models.Q(sku=""), name="product_has_sku"),
            models.CheckConstraint(condition=models.Q(price__gt=0), name="product_price_above_zero"),
        ]

    def __str__(self) -> str:
        return f"{self.sku} {self.name}"

    @property
    def available(self) -> int:
        return self.level.available


class LevelQuerySet(models.QuerySet["Level"]):
    def lock(self, skus: Iterable[str]) -> dict[str, "Level"]:
        """Return the levels of these SKUs by SKU, locked until the transaction ends.

        In SKU order, so that two batches for the same goods cannot deadlock.
        """
        levels = self.filter(pk__in=set(skus)).order_by("pk").select_for_update(no_key=True)
        return {level.pk: level for level in levels}


class Level(models.Model):
    """How many units of a product there are: on hand, and of these, reserved for orders."""

    product = models.OneToOneField(Product, on_delete=models.PROTECT, primary_key=True, related_name="level")
    on_hand = models.BigIntegerField(default=0)
    reserved = models.BigIntegerField(default=0)
    # Grows by one with each change of the level or the product, so that an old page of it is known to be old.
    version = models.BigIntegerField(default=1)

    objects = LevelQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(on_hand__gte=0), name="level_on_hand_not_negative"),
            models.CheckConstraint(condition=models.Q(reserved__gte=0), name="level_reserved_not_negative"),
            models.CheckConstraint(
                condition=models.Q(reserved__lte=models.F("on_hand")), name="level_reserved_within_on_hand"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.pk}: {self.available} available"

    @property
    def available(self) -> int:
        return self.on_hand - self.reserved


class Movement(models.Model):
    """Units that came, went or were set aside: the ledger. Only added, never changed, together with the level.

    Of a product, on hand = RECEIVED - SOLD + RETURNED and reserved = RESERVED - RELEASED - SOLD.
    """

    class Kind(models.TextChoices):
        RECEIVED = "RECEIVED"  # came in
        RESERVED = "RESERVED"  # set aside for an order
        RELEASED = "RELEASED"  # set aside no longer
        SOLD = "SOLD"  # left, out of what was set aside
        RETURNED = "RETURNED"  # sold, and back on hand

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    product = models.ForeignKey(Product, on_delete=models.PROTECT, related_name="movements", db_index=False)
    kind = models.CharField(max_length=10, choices=Kind)
    quantity = models.PositiveIntegerField()
    order_id = models.UUIDField(null=True, blank=True)
    # Who took in the units. Null for what orders did, and where nobody said.
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-id"]
        indexes = [
            # A product's movements, the newest first.
            models.Index(fields=["product", "-id"], name="movement_of_product"),
            models.Index(fields=["by"], condition=models.Q(by__isnull=False), name="movement_by"),
        ]
        constraints = [
            # No line of an order is reserved, sold, released or returned twice. Null, a receipt, equals no other.
            models.UniqueConstraint(fields=["order_id", "product", "kind"], name="movement_once"),
            models.CheckConstraint(condition=models.Q(quantity__gt=0), name="movement_quantity_above_zero"),
            models.CheckConstraint(
                condition=models.Q(kind="RECEIVED", order_id=None)
                | models.Q(kind__in=["RESERVED", "RELEASED", "SOLD", "RETURNED"], order_id__isnull=False, by=None),
                name="movement_fits_its_kind",
            ),
        ]
        triggers = [pgtrigger.Protect(name="append_only", operation=pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"{self.kind} {self.quantity} of {self.product_id}"


class ReservationQuerySet(models.QuerySet["Reservation"]):
    def for_orders(self, order_ids: Iterable[UUID]) -> "ReservationQuerySet":
        return self.filter(order_id__in=set(order_ids))

    def held(self) -> "ReservationQuerySet":
        """Keep those that wait for payment."""
        return self.filter(status=Reservation.Status.HELD)

    def taken(self) -> "ReservationQuerySet":
        """Keep those whose units nobody else can buy: held or sold."""
        return self.exclude(status=Reservation.Status.RELEASED)

    def lock(self) -> list["Reservation"]:
        """Return them locked until the transaction ends. Lock reservations before levels."""
        return list(self.order_by("order_id", "product_id").select_for_update(no_key=True))


class Reservation(models.Model):
    """One line of an order, as stock sees it."""

    class Status(models.TextChoices):
        HELD = "HELD"  # set aside, waits for payment
        SOLD = "SOLD"  # paid, no longer on hand
        RELEASED = "RELEASED"  # given back

    order_id = models.UUIDField()
    product = models.ForeignKey(Product, on_delete=models.PROTECT, related_name="reservations")
    quantity = models.PositiveIntegerField()
    status = models.CharField(max_length=10, choices=Status, default=Status.HELD)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = ReservationQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["order_id", "product"], name="reservation_once"),
            models.CheckConstraint(condition=models.Q(quantity__gt=0), name="reservation_quantity_above_zero"),
            models.CheckConstraint(
                condition=models.Q(status__in=["HELD", "SOLD", "RELEASED"]), name="reservation_status_known"
            ),
        ]
        triggers = [
            pgtrigger.FSM(
                name="one_way",
                field="status",
                condition=pgtrigger.AnyChange("status"),
                transitions=[("HELD", "SOLD"), ("HELD", "RELEASED"), ("SOLD", "RELEASED")],
            ),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} of {self.product_id} for {self.order_id}"


class ReleaseQuerySet(models.QuerySet["Release"]):
    def for_orders(self, order_ids: Iterable[UUID]) -> set[UUID]:
        """Return those of the orders that get no stock any more."""
        return set(self.filter(pk__in=set(order_ids)).values_list("pk", flat=True))


class Release(models.Model):
    """The mark that an order gets no stock any more: it was cancelled, even before it came here, or rejected."""

    order_id = models.UUIDField(primary_key=True)
    at = models.DateTimeField(default=timezone.now, editable=False)

    objects = ReleaseQuerySet.as_manager()

    class Meta:
        ordering = ["-at"]

    def __str__(self) -> str:
        return str(self.order_id)
