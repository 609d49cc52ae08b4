"""Facts that payments publishes. Amounts are in units of `currency`, with two decimals."""

from decimal import Decimal
from uuid import UUID

from outbox import Event, Topic

PAYMENT = Topic("payment-events")


class PaymentSucceeded(Event, topic=PAYMENT, type="payment.succeeded", key="order_id"):
    """The amount was taken from the customer."""

    order_id: UUID
    customer_id: UUID
    amount: Decimal
    currency: str


class PaymentFailed(Event, topic=PAYMENT, type="payment.failed", key="order_id"):
    """Nothing was taken. The reason is a code: insufficient_funds, currency_mismatch, or one of the provider's own."""

    order_id: UUID
    customer_id: UUID
    amount: Decimal
    currency: str
    reason: str


class PaymentRefunded(Event, topic=PAYMENT, type="payment.refunded", key="order_id"):
    """What had been taken went back to the customer."""

    order_id: UUID
    customer_id: UUID
    amount: Decimal
    currency: str
