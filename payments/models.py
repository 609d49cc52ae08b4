"""Wallets, the ledger of what went in and out of them, and what each order took."""

from collections.abc import Iterable
from decimal import Decimal
from uuid import UUID

import pgtrigger
from django.conf import settings
from django.db import models
from django.db.models.functions import Now
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
        permissions = [("deposit_wallet", "Can pay into wallets")]
        constraints = [models.CheckConstraint(condition=models.Q(balance__gte=0), name="wallet_balance_not_negative")]
        # All entries are in it.
        triggers = [pgtrigger.ReadOnly(name="keep_currency", fields=["currency"])]

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
        triggers = [pgtrigger.Protect(name="append_only", operation=pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"{self.kind} {self.amount}"


class PaymentQuerySet(models.QuerySet["Payment"]):
    def lock(self, order_ids: Iterable[UUID]) -> dict[UUID, "Payment"]:
        """Return the orders' payments by order, locked until the transaction ends. Lock payments before wallets."""
        payments = self.filter(pk__in=set(order_ids)).order_by("pk").select_for_update(no_key=True)
        return {payment.pk: payment for payment in payments}

    def lock_due(self, limit: int) -> list["Payment"]:
        """Return payments whose provider is to be asked now, the longest due first, locked until the transaction ends.

        Those that somebody else holds are left out: they are being taken or decided.
        """
        due = self.filter(due_at__lte=Now()).order_by("due_at")
        return list(due.select_for_update(no_key=True, skip_locked=True)[:limit])


class Payment(models.Model):
    """What an order asked for, and what became of it."""

    class Status(models.TextChoices):
        PENDING = "PENDING"  # the provider is to be asked for the amount, or its answer is not known
        CANCELLING = "CANCELLING"  # likewise, but the order was cancelled: what is captured goes back at once
        SUCCEEDED = "SUCCEEDED"
        FAILED = "FAILED"
        REFUNDING = "REFUNDING"  # captured, and the provider is to be asked to give it back
        REFUNDED = "REFUNDED"
        CANCELLED = "CANCELLED"  # the order was cancelled before the provider was asked: nothing will be captured

    order_id = models.UUIDField(primary_key=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="payments")
    # Zero where the order was cancelled before it asked.
    amount = models.DecimalField(max_digits=20, decimal_places=2)
    currency = models.CharField(max_length=3)
    captured = models.DecimalField(max_digits=20, decimal_places=2, default=Decimal("0.00"))
    refunded = models.DecimalField(max_digits=20, decimal_places=2, default=Decimal("0.00"))
    status = models.CharField(max_length=10, choices=Status)
    # The dotted path of the class that takes the amount, and gives it back, whatever the setting is by then. Blank:
    # nobody was to be asked.
    provider = models.CharField(max_length=200, blank=True)
    # When the provider is asked, or asked again unless it has answered until then. Null: there is nothing to ask.
    due_at = models.DateTimeField(null=True, blank=True)
    # How often it was asked for what it is to do now, and what went wrong the last time.
    attempts = models.PositiveIntegerField(default=0)
    error = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = PaymentQuerySet.as_manager()

    class Meta:
        ordering = ["-order_id"]
        indexes = [
            models.Index(fields=["due_at"], condition=models.Q(due_at__isnull=False), name="payment_due"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(status__in=["SUCCEEDED", "REFUNDING"], captured=models.F("amount"), refunded=0)
                | models.Q(status="REFUNDED", captured=models.F("amount"), refunded=models.F("captured"))
                | models.Q(status__in=["PENDING", "CANCELLING", "FAILED", "CANCELLED"], captured=0, refunded=0),
                name="payment_amounts_fit_status",
            ),
            models.CheckConstraint(
                condition=models.Q(status__in=["PENDING", "CANCELLING", "REFUNDING"], due_at__isnull=False)
                | models.Q(status__in=["SUCCEEDED", "FAILED", "REFUNDED", "CANCELLED"], due_at__isnull=True),
                name="payment_due_unless_settled",
            ),
        ]
        triggers = [
            # A payment goes one way, so that nothing is captured or given back a second time.
            pgtrigger.FSM(
                name="one_way",
                field="status",
                condition=pgtrigger.AnyChange("status"),
                transitions=[
                    ("PENDING", "SUCCEEDED"),
                    ("PENDING", "FAILED"),
                    ("PENDING", "CANCELLING"),
                    ("PENDING", "CANCELLED"),
                    ("CANCELLING", "REFUNDING"),
                    ("CANCELLING", "FAILED"),
                    ("SUCCEEDED", "REFUNDING"),
                    ("SUCCEEDED", "REFUNDED"),
                    ("REFUNDING", "REFUNDED"),
                ],
            ),
            # What was asked for, of whom and by whom, stays.
            pgtrigger.ReadOnly(name="keep_terms", fields=["user", "amount", "currency", "provider"]),
            pgtrigger.Protect(name="never_deleted", operation=pgtrigger.Delete),
        ]

    def __str__(self) -> str:
        return f"{self.status} {self.amount} for {self.order_id}"
