"""How providers are made, and what one that settles at once may say."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from threading import Barrier, BrokenBarrierError

import pytest
from uuid_utils.compat import uuid7

from payments import providers, services
from payments.events import PaymentFailed
from payments.models import Payment
from payments.providers import InlineProvider
from payments.services import CaptureRequest


class Curt(InlineProvider):
    """Takes nothing, and hardly says why."""

    reason: object = None

    def capture(self, payments):
        return {payment.order_id: self.reason for payment in payments}

    def refund(self, payments):
        raise NotImplementedError


class Shy(Curt):
    """Waits for another one that is made at the same time."""

    both = Barrier(2)

    def __init__(self):
        with suppress(BrokenBarrierError):
            self.both.wait(0.5)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("reason", "told_reason"), [("", "declined"), (None, "declined"), (0, "declined"), ("broke", "broke")]
)
def test_what_an_inline_provider_declines_has_failed_whatever_it_says(
    customer, settings, monkeypatch, outbox, reason, told_reason
):
    settings.PAYMENT_PROVIDER = f"{__name__}.Curt"
    monkeypatch.setattr(Curt, "reason", reason)
    order_id = uuid7()
    services.capture(requests=[CaptureRequest(order_id, customer.id, Decimal("1.00"), "USD")])
    payment = Payment.objects.get(pk=order_id)
    assert (payment.status, payment.captured) == ("FAILED", 0)
    outbox.published(PaymentFailed, order_id=order_id, reason=told_reason)


def test_threads_that_ask_at_once_get_the_same_one():
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(providers.load, 2 * [f"{__name__}.Shy"])
    assert one is other
