"""Everything that changes coupons. Each function is one transaction.

One processor decides, whichever queue a request came by. It holds the coupon's row, so that a coupon's requests are
decided one batch after another; and constraints let no coupon be issued beyond its quantity, or twice to a user,
whatever runs twice or at once.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from coupons.events import CouponIssued, CouponRejected
from coupons.models import Coupon, IssuedCoupon, Request
from outbox import publish

Status = Request.Status


@transaction.atomic
def decide(*, request_ids: Sequence[UUID], stream_ids: Mapping[UUID, str] | None = None) -> None:
    """Answer requests, in the queue's order: who comes first gets a coupon, as long as there are some.

    Publishes CouponIssued or CouponRejected for each. What was answered before is left alone, but for SYSTEM_ERROR.
    `stream_ids` has the entries in Redis of those that came by them.
    """
    undecided = Request.objects.lock_undecided(request_ids)
    requests = [undecided[request_id] for request_id in dict.fromkeys(request_ids) if request_id in undecided]
    coupons = Coupon.objects.lock(request.code for request in requests)
    held = IssuedCoupon.objects.held(requests)
    issued: list[IssuedCoupon] = []
    for request in requests:
        request.status = _answer(request, coupons.get(request.code), held)
        request.stream_id = (stream_ids or {}).get(request.pk, "")
        if request.status == Status.SUCCESS:
            coupon = coupons[request.code]
            coupon.issued += 1
            held.add((request.code, request.user_id))
            issued.append(IssuedCoupon(coupon=coupon, user_id=request.user_id, request=request))

    IssuedCoupon.objects.bulk_create(issued)
    changed = {coupon.coupon_id for coupon in issued}
    Coupon.objects.bulk_update([coupons[code] for code in sorted(changed)], ["issued"])
    _finish(requests, coupons)


@transaction.atomic
def give_up(*, request_ids: Sequence[UUID]) -> None:
    """Tell users that their requests could not be decided. Publishes CouponRejected for each that is queued."""
    requests = Request.objects.lock_queued(request_ids)
    for request in requests:
        request.status = Status.SYSTEM_ERROR
    _finish(requests, {})


def _answer(request: Request, coupon: Coupon | None, held: set[tuple[str, UUID]]) -> Request.Status:
    """Return what a request comes to. The time limits are those of when it was made, however long it waited."""
    if coupon is None or not request.user.is_active:
        return Status.VALIDATION_FAILED
    if coupon.registered_before is not None and request.user.date_joined >= coupon.registered_before:
        return Status.VALIDATION_FAILED
    if coupon.status(request.created_at) not in (Coupon.Status.ACTIVE, Coupon.Status.SOLD_OUT):
        return Status.BUSINESS_ERROR
    if (request.code, request.user_id) in held:
        return Status.DUPLICATE_REQUEST
    return Status.OUT_OF_STOCK if coupon.is_sold_out else Status.SUCCESS


def _finish(requests: Sequence[Request], coupons: Mapping[str, Coupon]) -> None:
    """Write what locked requests came to, and tell of it."""
    Request.objects.finish(requests, timezone.now())
    publish(
        *[
            CouponIssued(
                code=request.code, name=coupons[request.code].name, request_id=request.pk, user_id=request.user_id
            )
            if request.status == Status.SUCCESS
            else CouponRejected(
                code=request.code, request_id=request.pk, user_id=request.user_id, reason=str(request.status)
            )
            for request in requests
        ]
    )
