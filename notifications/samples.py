"""What the texts name, made up, so that they can be looked at before anybody is told them."""

from dataclasses import replace
from uuid import UUID

from notifications.channels import Message
from notifications.kinds import Kind
from notifications.texts import ABOUT_ORDERS, write

NOTIFICATION_ID = UUID("0192d5a0-7d3c-7e7c-8b2a-5a3e6c1d9f00")
EVENT_ID = UUID("0192d5a0-7d3c-7e7c-8b2a-5a3e6c1d9f01")
SUBJECT_ID = UUID("0192d5a0-7d3c-7e7c-8b2a-5a3e6c1d9f02")

# Titles and names are what people write, whatever that is.
TITLE = "Tea & <coffee>: which is better?"
PAYMENT = {"amount": "37.80", "currency": "USD", "at": "2026-11-28T19:15:00+00:00"}
CONTEXTS = {
    Kind.WELCOME: {"username": "alice"},
    Kind.POST_PUBLISHED: {"title": TITLE},
    Kind.NEW_POST: {"author": "bob", "title": TITLE},
    Kind.ORDER_COMPLETED: {"total": "37.80", "currency": "USD"},
    Kind.ORDER_CANCELLED: {"reason": "OUT_OF_STOCK"},
    Kind.PAYMENT_SUCCEEDED: PAYMENT,
    Kind.PAYMENT_REFUNDED: {"amount": "37.80", "currency": "USD"},
    Kind.COUPON_ISSUED: {"code": "WELCOME", "name": "Welcome"},
    Kind.COUPON_REJECTED: {"code": "WELCOME", "reason": "OUT_OF_STOCK"},
}


def sample(kind: Kind, language: str) -> Message:
    """Return what a user would be told."""
    subject_id = SUBJECT_ID if kind in ABOUT_ORDERS else None
    text = write(kind, CONTEXTS[kind], subject_id=subject_id, language=language)
    return Message(NOTIFICATION_ID, EVENT_ID, "alice@example.com", language, text)


def sample_for_operators(language: str) -> Message:
    """Return what the operators would be told of a payment."""
    context = {**PAYMENT, "customer": "alice"}
    text = write(Kind.PAYMENT_SUCCEEDED, context, subject_id=SUBJECT_ID, language=language)
    return replace(sample(Kind.PAYMENT_SUCCEEDED, language), address="", text=text)
