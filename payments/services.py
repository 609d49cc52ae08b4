"""Everything that moves money. Each function is one transaction.

Events about one order are applied one after another, which the outbox sees to; a wallet's movements wait for each
other at its locked row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from outbox import publish
from payments.events import PaymentFailed, PaymentRefunded, PaymentSucceeded
from payments.models import Entry, Payment, Wallet


@dataclass(frozen=True)
class CaptureRequest:
    """What an order asks of its customer's wallet. The amount is above zero, in the wallet's currency."""

    order_id: UUID
    customer_id: UUID
    amount: Decimal


@dataclass(frozen=True)
class RefundRequest:
    """A cancelled order."""

    order_id: UUID
    customer_id: UUID


@transaction.atomic
def deposit(*, user_id: UUID, amount: Decimal) -> Entry:
    """Put an amount above zero, in settings.CURRENCY, into a user's wallet."""
    wallet = _lock_wallets([user_id])[user_id]
    wallet.balance += amount
    wallet.save(update_fields=["balance"])
    return Entry.objects.create(wallet=wallet, kind=Entry.Kind.DEPOSIT, amount=amount)


@transaction.atomic
def capture(*, requests: Sequence[CaptureRequest]) -> None:
    """Take from wallets what orders ask for, in the order given: all of an amount, or nothing.

    Publishes PaymentSucceeded, or PaymentFailed with the reason insufficient_funds. An order that asked before is
    left alone, and so is one that was cancelled before it asked.
    """
    decided = set(Payment.objects.lock(request.order_id for request in requests))
    wallets = _lock_wallets(request.customer_id for request in requests)
    payments: list[Payment] = []
    entries: list[Entry] = []
    events: list[PaymentSucceeded | PaymentFailed] = []
    for request in requests:
        if request.order_id in decided:
            continue
        decided.add(request.order_id)
        wallet = wallets[request.customer_id]
        payment = Payment(order_id=request.order_id, user_id=request.customer_id, amount=request.amount)
        payments.append(payment)
        told: dict[str, Any] = {
            "order_id": request.order_id,
            "customer_id": request.customer_id,
            "amount": request.amount,
            "currency": wallet.currency,
        }
        if wallet.balance < request.amount:
            payment.status = Payment.Status.FAILED
            events.append(PaymentFailed(**told, reason="insufficient_funds"))
            continue
        payment.status = Payment.Status.SUCCEEDED
        payment.captured = request.amount
        entries.append(_move(wallet, Entry.Kind.CAPTURE, -request.amount, request.order_id))
        events.append(PaymentSucceeded(**told))

    _save(wallets, entries)
    Payment.objects.bulk_create(payments)
    publish(*events)


@transaction.atomic
def refund(*, requests: Sequence[RefundRequest]) -> None:
    """Give back what cancelled orders took, and refuse to take anything for them from now on.

    Publishes PaymentRefunded, once, for each order from which something was taken.
    """
    payments = Payment.objects.lock(request.order_id for request in requests)
    captured = [payment for payment in payments.values() if payment.status == Payment.Status.SUCCEEDED]
    wallets = _lock_wallets(payment.user_id for payment in captured)
    entries: list[Entry] = []
    events: list[PaymentRefunded] = []
    for payment in captured:
        wallet = wallets[payment.user_id]
        payment.status = Payment.Status.REFUNDED
        payment.refunded = payment.captured
        payment.updated_at = timezone.now()
        entries.append(_move(wallet, Entry.Kind.REFUND, payment.captured, payment.order_id))
        events.append(
            PaymentRefunded(
                order_id=payment.order_id,
                customer_id=payment.user_id,
                amount=payment.captured,
                currency=wallet.currency,
            )
        )

    _save(wallets, entries)
    Payment.objects.bulk_update(captured, ["status", "refunded", "updated_at"])
    _refuse(request for request in requests if request.order_id not in payments)
    publish(*events)


def _lock_wallets(user_ids: Iterable[UUID]) -> dict[UUID, Wallet]:
    """Return the users' wallets by user, made where there were none, locked until the transaction ends."""
    wanted = sorted(set(user_ids))
    made = [Wallet(user_id=user_id, currency=settings.CURRENCY) for user_id in wanted]
    Wallet.objects.bulk_create(made, ignore_conflicts=True)
    return Wallet.objects.lock(wanted)


def _move(wallet: Wallet, kind: Entry.Kind, amount: Decimal, order_id: UUID) -> Entry:
    wallet.balance += amount
    return Entry(wallet=wallet, kind=kind, amount=amount, order_id=order_id)


def _save(wallets: dict[UUID, Wallet], entries: Sequence[Entry]) -> None:
    """Write the entries, and the balances that they changed."""
    changed = sorted({entry.wallet_id for entry in entries})
    Wallet.objects.bulk_update([wallets[user_id] for user_id in changed], ["balance"])
    Entry.objects.bulk_create(entries)


def _refuse(requests: Iterable[RefundRequest]) -> None:
    """Leave the mark by which a capture that comes later sees that its order was cancelled."""
    users = {request.order_id: request.customer_id for request in requests}
    Payment.objects.bulk_create(
        Payment(order_id=order_id, user_id=user_id, amount=Decimal("0.00"), status=Payment.Status.CANCELLED)
        for order_id, user_id in users.items()
    )
