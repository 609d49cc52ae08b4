"""What notifications say, in the language of who is told: words for TEXTS are in locale/, by gettext.

The names in %(…)s are of a notification's context. CONTRIBUTING.md says how a text is added and translated.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from django.utils import translation
from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

from notifications.kinds import Kind

ABOUT_ORDERS = {Kind.ORDER_COMPLETED, Kind.ORDER_CANCELLED, Kind.PAYMENT_SUCCEEDED, Kind.PAYMENT_REFUNDED}

# Title and body.
TEXTS = {
    Kind.WELCOME: (_("Welcome, %(username)s"), _("Fill your wallet and place your first order.")),
    Kind.POST_PUBLISHED: (_("Your post is published"), _("Your followers are told of “%(title)s”.")),
    Kind.NEW_POST: (_("%(author)s has published a post"), "%(title)s"),
    Kind.ORDER_COMPLETED: (_("Your order is complete"), _("It is paid: %(total)s %(currency)s in all.")),
    Kind.ORDER_CANCELLED: (_("Your order was cancelled"), "%(reason)s"),
    Kind.PAYMENT_SUCCEEDED: (_("Payment received"), _("%(amount)s %(currency)s were paid for an order.")),
    Kind.PAYMENT_REFUNDED: (_("Your money is back"), _("%(amount)s %(currency)s were given back.")),
    Kind.COUPON_ISSUED: (_("You have the coupon “%(name)s”"), _("Spend it on an order by its code: %(code)s.")),
    Kind.COUPON_REJECTED: (_("You did not get the coupon %(code)s"), "%(reason)s"),
}

REASONS = {
    # By the order's cancel_reason.
    Kind.ORDER_CANCELLED: {
        "OUT_OF_STOCK": _("There was not enough in stock."),
        "PAYMENT_FAILED": _("It could not be paid."),
        "CUSTOMER": _("It was cancelled on request."),
        "TIMEOUT": _("It could not be finished in time."),
    },
    # By the request's status.
    Kind.COUPON_REJECTED: {
        "OUT_OF_STOCK": _("Others came first: there is none left."),
        "DUPLICATE_REQUEST": _("You have it already."),
        "BUSINESS_ERROR": _("It cannot be had at this time."),
        "VALIDATION_FAILED": _("It is not there any more, or not for everybody."),
        "SYSTEM_ERROR": _("Something went wrong on our side. Please ask for it again."),
    },
}

# What stands around the texts.
ORDER, AMOUNT, CUSTOMER, TIME = _("Order"), _("Amount"), _("Customer"), _("Time")
REFERENCE = _("Reference")
REPEAT = _("A message that comes twice has the same reference both times: then it is one and the same.")
SWITCH_OFF = _("What you are told, and where, is set in your profile.")


class Text(NamedTuple):
    """What a notification says. `facts` are pairs of a label and what it stands for."""

    title: str
    body: str
    facts: list[tuple[str, str]]


def write(kind: str, context: Mapping[str, str], *, subject_id: UUID | None, language: str) -> Text:
    """Return a notification's text in a language: "en" or "ko".

    Raises:
        KeyError: there is no such kind, or the context lacks what its text names.
    """
    title, body = TEXTS[Kind(kind)]
    with translation.override(language):
        names = dict(context)
        if "reason" in names:
            names["reason"] = gettext(REASONS[Kind(kind)][names["reason"]])
        # A title is one line, whatever a person has put into it.
        return Text(
            " ".join((gettext(title) % names).split()),
            gettext(body) % names,
            [(gettext(label), value) for label, value in _facts(Kind(kind), context, subject_id)],
        )


def words(language: str, *texts: str) -> list[str]:
    """Return what stands around a text, in a language."""
    with translation.override(language):
        return [gettext(text) for text in texts]


def _facts(kind: Kind, context: Mapping[str, str], subject_id: UUID | None) -> Iterator[tuple[str, str]]:
    if kind in ABOUT_ORDERS and subject_id:
        yield ORDER, str(subject_id)
    if "amount" in context:
        yield AMOUNT, f"{context['amount']} {context['currency']}"
    if "customer" in context:
        yield CUSTOMER, context["customer"]
    if "at" in context:
        yield TIME, f"{datetime.fromisoformat(context['at']).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
