"""Everything that moves money. Each function is one transaction.

Events about one order are applied one after another, which the outbox sees to. Whoever changes a payment holds its
row, so a refund, a provider's answer and its repeat find what the others made of it; a wallet's movements wait for each
other at its locked row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from outbox import publish
from payments import ledger, providers
from payments.events import PaymentFailed, PaymentRefunded, PaymentSucceeded
from payments.models import Entry, Payment, Wallet
from payments.providers import Declined

Status = Payment.Status

# Whoever takes a payment to ask its provider has it to himself for so long. Then it is due again: he may be dead.
LEASE_SECONDS = 60
# From one question whose outcome is not known to the next: doubled each time, from the first to the last of these.
FIRST_PAUSE_SECONDS = 1
LAST_PAUSE_SECONDS = 300
# So much of what went wrong is kept, in characters.
ERROR_LENGTH = 1000


class WrongCurrency(Exception):
    """The wallet holds another currency than the shop's, which was changed after the wallet was made."""


@dataclass(frozen=True)
class CaptureRequest:
    """What an order asks of its customer: zero where a coupon took off all of it."""

    order_id: UUID
    customer_id: UUID
    amount: Decimal
    currency: str


@dataclass(frozen=True)
class RefundRequest:
    """A cancelled order."""

    order_id: UUID
    customer_id: UUID
    currency: str


@transaction.atomic
def deposit(*, user_id: UUID, amount: Decimal) -> Entry:
    """Put an amount above zero, in settings.CURRENCY, into a user's wallet.

    Raises:
        WrongCurrency: the wallet holds another one.
    """
    Wallet.objects.bulk_create([Wallet(user_id=user_id, currency=settings.CURRENCY)], ignore_conflicts=True)
    wallet = Wallet.objects.lock([user_id])[user_id]
    if wallet.currency != settings.CURRENCY:
        raise WrongCurrency
    entry = ledger.move(wallet=wallet, kind=Entry.Kind.DEPOSIT, amount=amount)
    ledger.write([entry])
    return entry


@transaction.atomic
def capture(*, requests: Sequence[CaptureRequest]) -> None:
    """Take what orders ask for, in the order given: all of an amount, or nothing.

    Publishes PaymentSucceeded or PaymentFailed for what an inline provider settles. One that calls out is asked later.
    Nobody is asked for an amount of zero, which succeeds. An order that asked before is left alone, and so is one that
    was cancelled before it asked.
    """
    decided = set(Payment.objects.lock(request.order_id for request in requests))
    payments = []
    for request in requests:
        if request.order_id in decided:
            continue
        decided.add(request.order_id)
        payments.append(
            Payment(
                order_id=request.order_id,
                user_id=request.customer_id,
                amount=request.amount,
                currency=request.currency,
                provider=settings.PAYMENT_PROVIDER if request.amount else "",
                status=Status.PENDING,
                due_at=Now(),
            )
        )
    settled = [payment for payment in payments if not payment.amount]
    declined = {}
    provider = providers.load(settings.PAYMENT_PROVIDER)
    if isinstance(provider, providers.InlineProvider):
        settled = payments
        reasons = provider.capture([payment for payment in payments if payment.amount])
        # With a reason that says nothing, too, it is declined.
        declined = {order_id: Declined(reason).reason for order_id, reason in reasons.items()}
    events = [_settle(payment, declined.get(payment.order_id)) for payment in settled]
    Payment.objects.bulk_create(payments)
    publish(*events)


@transaction.atomic
def refund(*, requests: Sequence[RefundRequest]) -> None:
    """Give back what cancelled orders took, and refuse to take anything for them from now on.

    Publishes PaymentRefunded, once, for each order from which an inline provider took something. One that calls out
    is asked later; what it is being asked for meanwhile goes back when it is known to be captured.
    """
    payments = Payment.objects.lock(request.order_id for request in requests)
    changed = [payment for payment in payments.values() if payment.status in (Status.PENDING, Status.SUCCEEDED)]
    inline: dict[providers.InlineProvider, list[Payment]] = {}
    for payment in changed:
        payment.updated_at = timezone.now()
        if payment.status == Status.PENDING:
            _call_off(payment)
            continue
        if not payment.captured:
            # There is nothing to give back, nor to tell of.
            payment.status = Status.REFUNDED
            continue
        provider = providers.load(payment.provider)
        if isinstance(provider, providers.InlineProvider):
            inline.setdefault(provider, []).append(payment)
        else:
            payment.status, payment.due_at = Status.REFUNDING, Now()

    events = []
    for provider, captured in inline.items():
        provider.refund(captured)
        events += [_give_back(payment) for payment in captured]
    Payment.objects.bulk_update(changed, ["status", "refunded", "due_at", "updated_at"])
    _refuse(request for request in requests if request.order_id not in payments)
    publish(*events)


@transaction.atomic
def take_due(*, limit: int) -> list[Payment]:
    """Take payments whose provider is to be asked, up to a number of them, for LEASE_SECONDS.

    Nobody else takes them meanwhile. Each is to end in `record_capture`, `record_refund` or `put_off`.
    """
    due = Payment.objects.lock_due(limit)
    taken = Payment.objects.filter(pk__in=[payment.pk for payment in due])
    taken.update(due_at=Now() + timedelta(seconds=LEASE_SECONDS), attempts=F("attempts") + 1)
    for payment in due:
        payment.attempts += 1
    return due


@transaction.atomic
def record_capture(*, order_id: UUID, declined: str | None = None) -> None:
    """Record that a provider took a payment's amount, or, with a reason that is not None, that it declined.

    Publishes PaymentSucceeded or PaymentFailed, once. What was taken for an order that was cancelled meanwhile is to
    go back.
    """
    payment = Payment.objects.lock([order_id])[order_id]
    if payment.status in (Status.PENDING, Status.CANCELLING):
        event = _settle(payment, declined)
        payment.save()
        publish(event)


@transaction.atomic
def record_refund(*, order_id: UUID) -> None:
    """Record that a provider gave a payment's amount back. Publishes PaymentRefunded, once."""
    payment = Payment.objects.lock([order_id])[order_id]
    if payment.status == Status.REFUNDING:
        event = _give_back(payment)
        payment.save()
        publish(event)


def put_off(*, order_id: UUID, attempts: int, error: str) -> None:
    """Let a provider be asked again later, since the outcome of the last of so many attempts is not known."""
    pause = timedelta(seconds=min(FIRST_PAUSE_SECONDS * 2 ** (attempts - 1), LAST_PAUSE_SECONDS))
    open_payment = Payment.objects.filter(pk=order_id, due_at__isnull=False)
    open_payment.update(due_at=Now() + pause, error=error[:ERROR_LENGTH])


def _settle(payment: Payment, declined: str | None) -> PaymentSucceeded | PaymentFailed:
    """Let a payment have its provider's answer, and return the event that tells of it."""
    payment.due_at, payment.attempts, payment.error = None, 0, ""
    payment.updated_at = timezone.now()
    if declined is not None:
        payment.status = Status.FAILED
        return PaymentFailed(**_told(payment), reason=declined)
    payment.captured = payment.amount
    if payment.status == Status.CANCELLING:
        payment.status, payment.due_at = Status.REFUNDING, Now()
    else:
        payment.status = Status.SUCCEEDED
    return PaymentSucceeded(**_told(payment))


def _give_back(payment: Payment) -> PaymentRefunded:
    """Let a payment be refunded, and return the event that tells of it."""
    payment.status, payment.refunded = Status.REFUNDED, payment.captured
    payment.due_at, payment.error = None, ""
    payment.updated_at = timezone.now()
    return PaymentRefunded(**_told(payment))


def _call_off(payment: Payment) -> None:
    """Cancel a payment whose provider was not asked yet; if it was, what it takes goes back when that is known."""
    if payment.attempts:
        payment.status = Status.CANCELLING
    else:
        payment.status, payment.due_at = Status.CANCELLED, None


def _told(payment: Payment) -> dict[str, Any]:
    """Return what all events of a payment tell."""
    return {
        "order_id": payment.order_id,
        "customer_id": payment.user_id,
        "amount": payment.amount,
        "currency": payment.currency,
    }


def _refuse(requests: Iterable[RefundRequest]) -> None:
    """Leave the mark by which a capture that comes later sees that its order was cancelled."""
    marks = {
        request.order_id: Payment(
            order_id=request.order_id,
            user_id=request.customer_id,
            amount=Decimal("0.00"),
            currency=request.currency,
            status=Status.CANCELLED,
        )
        for request in requests
    }
    Payment.objects.bulk_create(marks.values())
