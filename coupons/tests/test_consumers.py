"""How coupons react to events: requests whose events cannot be applied are answered too."""

import pytest
from django.db import IntegrityError

from coupons import services
from coupons.events import CouponIssueRequested, CouponRejected
from coupons.models import Coupon, Request
from coupons.tests.refusing import refused
from outbox.letters.retrying import discard, make_due, retry
from outbox.models import FailedMessage

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def dead(coupon, customer, outbox):
    """A request whose event became a failed message, and its letter, while no answer can be written."""
    request = services.ask(user_id=customer.pk, code="TEN")
    with refused(customer):
        with pytest.raises(IntegrityError):
            outbox.deliver("coupons", outbox.published(CouponIssueRequested))
        yield request, FailedMessage.objects.get()


def retry_automatically(letter):
    make_due(FailedMessage.objects.filter(pk=letter.pk))
    retry(letter.pk, automatic=True)


def test_a_request_waits_until_the_automatic_retries_of_its_event_are_used_up(dead, outbox):
    request, letter = dead
    for _ in range(2):
        retry_automatically(letter)
        request.refresh_from_db()
        assert request.status == "QUEUED"

    retry_automatically(letter)

    request.refresh_from_db()
    assert request.status == "SYSTEM_ERROR"
    assert outbox.published(CouponRejected, request_id=request.pk).reason == "SYSTEM_ERROR"


def test_a_request_whose_event_is_discarded_is_answered(dead, outbox):
    request, letter = dead

    discard(letter.pk, reason="x")

    request.refresh_from_db()
    assert request.status == "SYSTEM_ERROR"
    assert outbox.published(CouponRejected, request_id=request.pk).user_id == request.user_id


def test_one_that_was_answered_meanwhile_keeps_its_answer(coupon, customer, outbox):
    request = services.ask(user_id=customer.pk, code="TEN")
    with refused(customer), pytest.raises(IntegrityError):
        outbox.deliver("coupons", outbox.published(CouponIssueRequested))
    services.decide(request_ids=[request.pk])

    discard(FailedMessage.objects.get().pk, reason="x")

    request.refresh_from_db()
    assert request.status == "SUCCESS"


def test_a_person_can_still_have_it_decided(coupon, customer, outbox):
    services.ask(user_id=customer.pk, code="TEN")
    with refused(customer):
        with pytest.raises(IntegrityError):
            outbox.deliver("coupons", outbox.published(CouponIssueRequested))
        letter = FailedMessage.objects.get()
        for _ in range(3):
            retry_automatically(letter)

    assert retry(letter.pk).status == "PROCESSED"

    assert Request.objects.get().status == "SUCCESS"
    assert Coupon.objects.get().issued == 1
    assert outbox.types == ["coupon.issue_requested", "coupon.rejected", "coupon.issued"]
