"""Wallets, the ledger of what went in and out of them, and what each order took."""

from collections.abc import Iterable
from decimal import Decimal
from uuid import UUID

from django.conf import settings
from django.db import models
from django.utils import timezone
from uuid_utils.compat import uuid7


class WalletQuerySet(models.QuerySet["Wallet"]):
    def of(self, user_id: UUID) -> "Wallet":
        """Return a user's wallet; one that is not saved where none was needed yet."""
        return self.filter(pk=user_id).first() or Wallet(pk=user_id, currency=settings.CURRENCY)

    def lock(self, user_ids: Iterable[UUID]) -> dict[UUID, "Wallet"]:
        """Return the users' wallets by user, locked until the transaction ends.

        In the order of the users' ids, so that two batches cannot deadlock.
        """
        wallets = self.filter(pk__in=set(user_ids)).order_by("pk").select_for_update(no_key=True)
        return {wallet.pk: wallet for wallet in wallets}


class Wallet(models.Model):
    """A user's money here. Made when it is first needed."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, primary_key=True, related_name="wallet"
    )
    balance = models.DecimalField(max_digits=20, decimal_places=2, default=Decimal("0.00"))
    currency = models.CharField(max_length=3)

    objects = WalletQuerySet.as_manager()

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(balance__gte=0), name="wallet_balance_not_negative")]

    def __str__(self) -> str:
        return f"{self.balance} {self.currency}"


class EntryQuerySet(models.QuerySet["Entry"]):
    def of(self, user_id: UUID) -> "EntryQuerySet":
        """Keep those of a user's wallet."""
        return self.filter(wallet_id=user_id)


class Entry(models.Model):
    """A movement of a wallet's balance. Only added, never changed."""

    class Kind(models.TextChoices):
        DEPOSIT = "DEPOSIT"
        CAPTURE = "CAPTURE"  # taken for an order
        REFUND = "REFUND"  # given back for an order

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    wallet = models.ForeignKey(Wallet, on_delete=models.PROTECT, related_name="entries")
    kind = models.CharField(max_length=10, choices=Kind)
    # As the balance sees it: below zero for a capture. In the wallet's currency.
    amount = models.DecimalField(max_digits=20, decimal_places=2)
    order_id = models.UUIDField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = EntryQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "entries"
        indexes = [models.Index(fields=["wallet", "-created_at"], name="entry_newest_of_wallet")]
        constraints = [
            models.UniqueConstraint(
                fields=["order_id", "kind"], condition=models.Q(order_id__isnull=False), name="entry_once_for_order"
            ),
            models.CheckConstraint(
                condition=models.Q(kind="DEPOSIT", amount__gt=0, order_id__isnull=True)
                | models.Q(kind="CAPTURE", amount__lt=0, order_id__isnull=False)
                | models.Q(kind="REFUND", amount__gt=0, order_id__isnull=False),
                name="entry_fits_its_kind",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.amount}"


class PaymentQuerySet(models.QuerySet["Payment"]):
    def lock(self, order_ids: Iterable[UUID]) -> dict[UUID, "Payment"]:
        """Return the orders' payments by order, locked until the transaction ends. Lock payments before wallets."""
        payments = self.filter(pk__in=set(order_ids)).order_by("pk").select_for_update(no_key=True)
        return {payment.pk: payment for payment in payments}


class Payment(models.Model):
    """What an order asked for, and what became of it."""

    class Status(models.TextChoices):
        SUCCEEDED = "SUCCEEDED"
        FAILED = "FAILED"
        REFUNDED = "REFUNDED"
        CANCELLED = "CANCELLED"  # the order was cancelled before it asked: nothing will be captured

    order_id = models.UUIDField(primary_key=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="payments")
    amount = models.DecimalField(max_digits=20, decimal_places=2)
    captured = models.DecimalField(max_digits=20, decimal_places=2, default=Decimal("0.00"))
    refunded = models.DecimalField(max_digits=20, decimal_places=2, default=Decimal("0.00"))
    status = models.CharField(max_length=10, choices=Status)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = PaymentQuerySet.as_manager()

    class Meta:
        ordering = ["-order_id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(status="SUCCEEDED", captured=models.F("amount"), refunded=0)
                | models.Q(status="REFUNDED", captured=models.F("amount"), refunded=models.F("captured"))
                | models.Q(status__in=["FAILED", "CANCELLED"], captured=0, refunded=0),
                name="payment_amounts_fit_status",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.status} {self.amount} for {self.order_id}"
