"""Everything that changes coupons. Each function is one transaction.

One processor decides, whichever queue a request came by. It holds the coupon's row, so that a coupon's requests are
decided one batch after another; and constraints let no coupon be issued beyond its quantity, or twice to a user,
whatever runs twice or at once.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from uuid import UUID

import redis
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from coupons import marks, stream
from coupons.events import CouponIssued, CouponIssueRequested, CouponRejected
from coupons.models import Coupon, IssuedCoupon, Request
from outbox import publish

Status = Request.Status

logger = logging.getLogger(__name__)


class DuplicateCode(ValueError):
    """A coupon has this code already: `code`."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(f"code is taken: {code}")


class NotRaised(ValueError):
    """The quantity is not above the present one."""


class OutOfStock(Exception):
    """All coupons of this code are issued."""


class DuplicateRequest(Exception):
    """The user has the coupon, or a request for it that waits."""


class UnknownCoupon(LookupError):
    """The user has no coupon of this code: `code`."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(f"the user has no coupon {code}")


class CouponSpent(Exception):
    """The user has spent it on an order."""


class CouponEnded(Exception):
    """It can be spent no longer."""


class CouponDisabled(Exception):
    """It cannot be spent until it is enabled again."""


class BelowMinimumTotal(Exception):
    """The order comes to less than the coupon asks for: `minimum_total`."""

    def __init__(self, minimum_total: Decimal) -> None:
        self.minimum_total = minimum_total
        super().__init__(f"the order comes to less than {minimum_total}")


# ── Coupons ───────────────────────────────────────────────────────────────────────────────────────────────────────


@transaction.atomic
def create(
    *,
    code: str,
    name: str,
    quantity: int,
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
    percent_off: int | None = None,
    amount_off: Decimal | None = None,
    minimum_total: Decimal = Decimal("0.00"),
    registered_before: datetime | None = None,
) -> Coupon:
    """Add a coupon, whose code is in upper case. It takes off a percentage, or an amount, or nothing.

    Raises:
        DuplicateCode: there is one.
    """
    try:
        with transaction.atomic():
            return Coupon.objects.create(
                code=code,
                name=name,
                quantity=quantity,
                starts_at=starts_at,
                ends_at=ends_at,
                percent_off=percent_off,
                amount_off=amount_off,
                minimum_total=minimum_total,
                registered_before=registered_before,
            )
    except IntegrityError as error:
        if Coupon.objects.filter(pk=code).exists():
            raise DuplicateCode(code) from error
        raise


@transaction.atomic
def raise_quantity(*, code: str, quantity: int) -> Coupon:
    """Let there be more of a coupon. Who is told from then on that it is sold out, is told so of the new quantity.

    Raises:
        Coupon.DoesNotExist: there is no such coupon.
        NotRaised: there are as many already, or more.
    """
    coupon = Coupon.objects.select_for_update(no_key=True).get(pk=code)
    if quantity <= coupon.quantity:
        raise NotRaised
    coupon.quantity, coupon.version = quantity, coupon.version + 1
    coupon.save(update_fields=["quantity", "version"])
    marks.reopen(coupon)
    return coupon


@transaction.atomic
def set_enabled(*, code: str, is_enabled: bool) -> None:
    """Let a coupon be asked for and spent, or not. Requests that wait are decided by how it is then."""
    Coupon.objects.filter(pk=code).update(is_enabled=is_enabled)


# ── Requests ──────────────────────────────────────────────────────────────────────────────────────────────────────


def ask(*, user_id: UUID, code: str) -> Request:
    """Let a user ask for a coupon; the answer comes by the queue that settings.COUPON_QUEUE names.

    Publishes CouponIssueRequested where that is Kafka. Does not touch the coupon's row, so that none who asks waits for
    another.

    Raises:
        OutOfStock: there is none left.
        DuplicateRequest: the user has one, or waits for one.
        Coupon.DoesNotExist: there is no such coupon.
    """
    match marks.find(code, user_id):
        case Status.DUPLICATE_REQUEST:
            raise DuplicateRequest
        case Status.OUT_OF_STOCK:
            raise OutOfStock
    return _queue(user_id, code)


@transaction.atomic
def _queue(user_id: UUID, code: str) -> Request:
    since = time.monotonic()
    coupon = Coupon.objects.get(pk=code)
    if earlier := Request.objects.of(user_id).pending(code):
        marks.mark_asked([earlier], since)
        raise DuplicateRequest
    if coupon.is_sold_out:
        marks.mark_sold_out(coupon, since)
        raise OutOfStock
    request = Request(code=code, user_id=user_id, queue=settings.COUPON_QUEUE.upper())
    request.save(force_insert=True)
    if request.queue == Request.Queue.KAFKA:
        publish(CouponIssueRequested(code=code, request_id=request.pk, user_id=user_id))
    else:
        transaction.on_commit(partial(_push, request))
    transaction.on_commit(partial(marks.mark_asked, [request], since))
    return request


def _push(request: Request) -> None:
    """Put a committed request into the stream. Where Redis does not take it, its reader finds the row instead."""
    try:
        stream.push(request.code, request.pk)
    except redis.RedisError as error:
        logger.debug("Redis did not take a request", exc_info=error)


@transaction.atomic
def decide(*, request_ids: Sequence[UUID], stream_ids: Mapping[UUID, str] | None = None) -> None:
    """Answer requests, in the queue's order: who comes first gets a coupon, as long as there are some.

    Publishes CouponIssued or CouponRejected for each. What was answered before is left alone, but for SYSTEM_ERROR.
    `stream_ids` has the entries in Redis of those that came by them.
    """
    undecided = Request.objects.lock_undecided(request_ids)
    requests = [undecided[request_id] for request_id in dict.fromkeys(request_ids) if request_id in undecided]
    coupons = Coupon.objects.lock(request.code for request in requests)
    since = time.monotonic()
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
    transaction.on_commit(partial(_mark, requests, coupons, since))


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
    """Write what locked requests came to, and tell of it. Who got none may ask again at once."""
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
    marks.end([request for request in requests if request.status != Status.SUCCESS])


def _mark(requests: Sequence[Request], coupons: Mapping[str, Coupon], since: float) -> None:
    marks.mark_asked([request for request in requests if request.status == Status.SUCCESS], since)
    for coupon in coupons.values():
        if coupon.is_sold_out:
            marks.mark_sold_out(coupon, since)


# ── Spending ──────────────────────────────────────────────────────────────────────────────────────────────────────


@transaction.atomic
def redeem(*, user_id: UUID, code: str, order_id: UUID, total: Decimal, now: datetime) -> Decimal:
    """Spend a user's coupon on an order, and return what it takes off the total, which it never exceeds.

    Called in the transaction that places the order. A coupon can be spent until it ends, and not while it is disabled.

    Raises:
        UnknownCoupon: the user has none of this code.
        CouponSpent: it is spent on another order.
        CouponDisabled: it is disabled.
        CouponEnded: it has ended.
        BelowMinimumTotal: the order comes to less than it asks for.
    """
    issued = IssuedCoupon.objects.of(user_id).lock(code)
    if issued is None:
        raise UnknownCoupon(code)
    if issued.spent_on is not None:
        raise CouponSpent
    coupon = issued.coupon
    if not coupon.is_enabled:
        raise CouponDisabled
    if coupon.has_ended(now):
        raise CouponEnded
    if total < coupon.minimum_total:
        raise BelowMinimumTotal(coupon.minimum_total)
    issued.spent_on, issued.spent_at = order_id, now
    issued.save(update_fields=["spent_on", "spent_at"])
    return coupon.takes_off(total)


@transaction.atomic
def give_back(*, order_ids: Sequence[UUID]) -> None:
    """Let coupons be spent again that were spent on orders which are cancelled."""
    spent = IssuedCoupon.objects.lock_spent_on(order_ids)
    IssuedCoupon.objects.filter(pk__in=spent).update(spent_on=None, spent_at=None)
