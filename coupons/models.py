"""Coupons, who asked for them, and who has one."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from uuid import UUID

import pgtrigger
from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import connection, models
from django.db.models.functions import Now
from django.utils import timezone
from uuid_utils.compat import uuid7

MAX_QUANTITY = 1_000_000_000
CENT = Decimal("0.01")
# What needs no escape in a path. It is kept in upper case.
plain = RegexValidator(r"^[A-Za-z0-9_-]{1,64}\Z", "Write up to 64 letters A to Z, digits, '-' and '_'.")

# Which requests were decided how, each by its id. A stream_id that is blank leaves what is there.
FINISH = """
    UPDATE coupons_request
    SET
        status = decided.status,
        stream_id = COALESCE(NULLIF(decided.stream_id, ''), coupons_request.stream_id),
        finished_at = %s
    FROM unnest(%s::uuid[], %s::text[], %s::text[]) AS decided (id, status, stream_id)
    WHERE coupons_request.id = decided.id
"""


# The codes of requests that wait in a queue, found one after the other by the index: there are few, of many requests.
CODES = """
    WITH RECURSIVE waiting AS (
        (SELECT code FROM coupons_request WHERE status = 'QUEUED' AND queue = %(queue)s ORDER BY code LIMIT 1)
        UNION ALL
        SELECT (
            SELECT code FROM coupons_request
            WHERE status = 'QUEUED' AND queue = %(queue)s AND code > waiting.code ORDER BY code LIMIT 1
        )
        FROM waiting WHERE code IS NOT NULL
    )
    SELECT code FROM waiting WHERE code IS NOT NULL
"""


class CouponQuerySet(models.QuerySet["Coupon"]):
    def lock(self, codes: Iterable[str]) -> dict[str, "Coupon"]:
        """Return the coupons by code, locked until the transaction ends.

        In the order of their codes, so that two batches cannot deadlock. Lock requests before coupons.
        """
        coupons = self.filter(pk__in=set(codes)).order_by("pk").select_for_update(no_key=True)
        return {coupon.pk: coupon for coupon in coupons}


class Coupon(models.Model):
    """What the first who ask for it get, once each, as many as there are."""

    class Status(models.TextChoices):
        SCHEDULED = "SCHEDULED"  # begins later
        ACTIVE = "ACTIVE"
        SOLD_OUT = "SOLD_OUT"
        ENDED = "ENDED"
        DISABLED = "DISABLED"  # nobody gets one, and nobody can spend one, until it is enabled again

    code = models.CharField(max_length=64, primary_key=True, validators=[plain])
    name = models.CharField(max_length=200)
    # It is raised, and never lowered.
    quantity = models.PositiveIntegerField(validators=[MinValueValidator(1), MaxValueValidator(MAX_QUANTITY)])
    issued = models.PositiveIntegerField(default=0)
    # Grows by one each time the quantity is raised, so that "sold out" is known to be old.
    version = models.PositiveIntegerField(default=1)
    # When it can be asked for: from the first on, and before the second, until which it can be spent too.
    starts_at = models.DateTimeField(null=True, blank=True)
    ends_at = models.DateTimeField(null=True, blank=True)
    # What it takes off an order. One of them; with neither it takes nothing off.
    percent_off = models.PositiveSmallIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(100)]
    )
    # In settings.CURRENCY.
    amount_off = models.DecimalField(max_digits=12, decimal_places=2, null=True, blank=True)
    # Of the order, before anything is taken off.
    minimum_total = models.DecimalField(max_digits=12, decimal_places=2, default=Decimal("0.00"))
    is_enabled = models.BooleanField("enabled", default=True)
    # Only for users who registered before this. Null: for everybody.
    registered_before = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = CouponQuerySet.as_manager()

    class Meta:
        ordering = ["code"]
        permissions = [
            ("raise_coupon", "Can raise the quantity of coupons"),
            ("disable_coupon", "Can disable and enable coupons"),
        ]
        indexes = [models.Index(fields=["-created_at", "-code"], name="coupon_newest")]
        constraints = [
            models.CheckConstraint(condition=models.Q(code__regex=r"^[A-Z0-9_-]{1,64}$"), name="coupon_code_plain"),
            models.CheckConstraint(
                condition=models.Q(issued__gte=0, issued__lte=models.F("quantity")),
                name="coupon_issued_within_quantity",
            ),
            models.CheckConstraint(
                condition=models.Q(starts_at=None)
                | models.Q(ends_at=None)
                | models.Q(ends_at__gt=models.F("starts_at")),
                name="coupon_ends_after_it_starts",
                violation_error_message="A coupon ends after it starts.",
            ),
            models.CheckConstraint(
                condition=models.Q(percent_off=None) | models.Q(amount_off=None),
                name="coupon_takes_off_one_way",
                violation_error_message="A coupon takes off a percentage or an amount.",
            ),
            models.CheckConstraint(
                condition=models.Q(percent_off=None) | models.Q(percent_off__range=(1, 100)),
                name="coupon_percent_in_range",
            ),
            models.CheckConstraint(
                condition=models.Q(amount_off=None) | models.Q(amount_off__gt=0),
                name="coupon_amount_above_zero",
                violation_error_message="An amount is above zero.",
            ),
            models.CheckConstraint(
                condition=models.Q(minimum_total__gte=0),
                name="coupon_minimum_not_negative",
                violation_error_message="It is zero, or above.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.code} {self.name}"

    @property
    def is_sold_out(self) -> bool:
        return self.issued >= self.quantity

    def status(self, at: datetime) -> "Coupon.Status":
        """Return how it stands for somebody who asks for it at a time."""
        if not self.is_enabled:
            return self.Status.DISABLED
        if self.has_ended(at):
            return self.Status.ENDED
        if self.starts_at is not None and self.starts_at > at:
            return self.Status.SCHEDULED
        return self.Status.SOLD_OUT if self.is_sold_out else self.Status.ACTIVE

    def has_ended(self, at: datetime) -> bool:
        return self.ends_at is not None and self.ends_at <= at

    def takes_off(self, total: Decimal) -> Decimal:
        """Return what it takes off a total, and never more than that. A percentage is rounded half up, to cents."""
        if self.percent_off is not None:
            return (total * self.percent_off / 100).quantize(CENT, ROUND_HALF_UP)
        return min(self.amount_off or Decimal("0.00"), total)


# To how many places in a queue its requests are told which is theirs: each time, those before them are counted.
POSITION_LIMIT = 1_000


class RequestQuerySet(models.QuerySet["Request"]):
    def of(self, user_id: UUID) -> "RequestQuerySet":
        """Keep a user's own."""
        return self.filter(user_id=user_id)

    def queued(self) -> "RequestQuerySet":
        """Keep those that wait for their answer."""
        return self.filter(status=Request.Status.QUEUED)

    def pending(self, code: str) -> "Request | None":
        """Return one that waits for a coupon, or got it."""
        pending = self.filter(code=code, status__in=[Request.Status.QUEUED, Request.Status.SUCCESS])
        # In no order, which would let PostgreSQL look for it among all there are, the newest first.
        return next(iter(pending.order_by().only("code", "user_id")[:1]), None)

    def position_of(self, request: "Request") -> int | None:
        """Return about which place a request has in its queue, from 1 on. None: it is too far behind to be counted.

        Rows are counted, by when they were made: the queue's own order may be a little another.
        """
        ahead = self.queued().filter(code=request.code, queue=request.queue, pk__lt=request.pk)
        place = ahead.order_by("pk")[:POSITION_LIMIT].count() + 1
        return place if place <= POSITION_LIMIT else None

    def by_outcome(self) -> dict["Request.Status", int]:
        """Return how many there are of each status that occurs, in the order in which the statuses are declared."""
        counts = dict(self.order_by().values_list("status").annotate(models.Count("pk")))
        return {status: counts[status] for status in Request.Status if status in counts}

    def waiting(self) -> list[tuple[str, int, datetime]]:
        """Return for each queue in which some wait how many do, and since when the first one has."""
        by_queue = self.queued().order_by("queue").values_list("queue")
        return list(by_queue.annotate(models.Count("pk"), models.Min("created_at")))

    def in_stream(self, code: str) -> "RequestQuerySet":
        """Keep those that wait in a coupon's stream in Redis, or that should be in it."""
        return self.queued().filter(code=code, queue=Request.Queue.REDIS)

    def codes_in_stream(self) -> set[str]:
        """Return the codes of all that wait in Redis."""
        with connection.cursor() as cursor:
            cursor.execute(CODES, {"queue": Request.Queue.REDIS})
            return {code for (code,) in cursor.fetchall()}

    def among(self, request_ids: Collection[UUID]) -> set[UUID]:
        """Return the ids of those that have one of these."""
        return set(self.filter(pk__in=request_ids).values_list("pk", flat=True))

    def late(self, seconds: float) -> list[UUID]:
        """Return the ids of those that were made more than so long ago, by the database's clock, in their order."""
        made_before = Now() - timedelta(seconds=seconds)
        return list(self.filter(created_at__lt=made_before).order_by("pk").values_list("pk", flat=True))

    def lock_undecided(self, request_ids: Collection[UUID]) -> dict[UUID, "Request"]:
        """Return those of the requests that can be decided, by id, with their users, locked until the transaction ends.

        In the order of their ids, so that two batches cannot deadlock.
        """
        undecided = self.filter(
            pk__in=set(request_ids), status__in=[Request.Status.QUEUED, Request.Status.SYSTEM_ERROR]
        )
        locked = undecided.select_related("user").order_by("pk").select_for_update(of=("self",), no_key=True)
        return {request.pk: request for request in locked}

    def lock_queued(self, request_ids: Collection[UUID]) -> list["Request"]:
        """Return those of the requests that wait, locked until the transaction ends, in the order of their ids."""
        return list(self.filter(pk__in=set(request_ids)).queued().order_by("pk").select_for_update(no_key=True))

    def finish(self, requests: Sequence["Request"], now: datetime) -> None:
        """Write what became of locked requests, in one statement."""
        ids = [request.pk for request in requests]
        statuses, stream_ids = [str(request.status) for request in requests], [r.stream_id for r in requests]
        with connection.cursor() as cursor:
            cursor.execute(FINISH, [now, ids, statuses, stream_ids])


class Request(models.Model):
    """That a user asked for a coupon, and what became of it."""

    class Queue(models.TextChoices):
        KAFKA = "KAFKA"
        REDIS = "REDIS"

    class Status(models.TextChoices):
        QUEUED = "QUEUED"
        SUCCESS = "SUCCESS"
        VALIDATION_FAILED = "VALIDATION_FAILED"  # the coupon or the user is gone, or its rules exclude the user
        DUPLICATE_REQUEST = "DUPLICATE_REQUEST"  # the user has one
        OUT_OF_STOCK = "OUT_OF_STOCK"
        BUSINESS_ERROR = "BUSINESS_ERROR"  # it had not started when it was asked for, had ended, or is disabled
        SYSTEM_ERROR = "SYSTEM_ERROR"  # it could not be decided; it still is if somebody retries what failed

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # No foreign key: the coupon may be gone when the request is decided, and who asks does not touch the coupon's row.
    code = models.CharField(max_length=64)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="coupon_requests", db_index=False
    )
    # Which was asked, whatever the setting is by now.
    queue = models.CharField(max_length=8, choices=Queue)
    status = models.CharField(max_length=20, choices=Status, default=Status.QUEUED)
    # The entry of the stream in Redis by which it was decided. Blank: it did not come by one.
    stream_id = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = RequestQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        permissions = [("decide_request", "Can decide requests for coupons, and give them up")]
        indexes = [
            models.Index(fields=["queue", "code", "id"], condition=models.Q(status="QUEUED"), name="request_queued"),
            models.Index(fields=["code", "status"], name="request_by_outcome"),
            models.Index(fields=["user", "code"], name="request_of_user"),
        ]
        constraints = [
            models.CheckConstraint(condition=models.Q(queue__in=["KAFKA", "REDIS"]), name="request_queue_known"),
            models.CheckConstraint(
                condition=models.Q(status="QUEUED", finished_at=None)
                | models.Q(
                    status__in=[
                        "SUCCESS",
                        "VALIDATION_FAILED",
                        "DUPLICATE_REQUEST",
                        "OUT_OF_STOCK",
                        "BUSINESS_ERROR",
                        "SYSTEM_ERROR",
                    ],
                    finished_at__isnull=False,
                ),
                name="request_finished_unless_queued",
            ),
        ]
        triggers = [
            # What a user was told stays, but that nobody knew.
            pgtrigger.FSM(
                name="one_way",
                field="status",
                condition=pgtrigger.AnyChange("status"),
                transitions=[
                    ("QUEUED", "SUCCESS"),
                    ("QUEUED", "VALIDATION_FAILED"),
                    ("QUEUED", "DUPLICATE_REQUEST"),
                    ("QUEUED", "OUT_OF_STOCK"),
                    ("QUEUED", "BUSINESS_ERROR"),
                    ("QUEUED", "SYSTEM_ERROR"),
                    ("SYSTEM_ERROR", "SUCCESS"),
                    ("SYSTEM_ERROR", "VALIDATION_FAILED"),
                    ("SYSTEM_ERROR", "DUPLICATE_REQUEST"),
                    ("SYSTEM_ERROR", "OUT_OF_STOCK"),
                    ("SYSTEM_ERROR", "BUSINESS_ERROR"),
                ],
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)


class IssuedCouponQuerySet(models.QuerySet["IssuedCoupon"]):
    def of(self, user_id: UUID) -> "IssuedCouponQuerySet":
        """Keep a user's own."""
        return self.filter(user_id=user_id)

    def with_coupons(self) -> "IssuedCouponQuerySet":
        """Fetch the coupons along, for their names."""
        return self.select_related("coupon")

    def held(self, requests: Sequence[Request]) -> set[tuple[str, UUID]]:
        """Return which of the coupons that are asked for these users have already: pairs of code and user."""
        asked = self.filter(
            coupon__in={request.code for request in requests}, user__in={request.user_id for request in requests}
        )
        return set(asked.values_list("coupon_id", "user_id"))

    def lock(self, code: str) -> "IssuedCoupon | None":
        """Return the one of this code, with its coupon, locked until the transaction ends."""
        return self.filter(coupon=code).select_related("coupon").select_for_update(of=("self",), no_key=True).first()

    def lock_spent_on(self, order_ids: Collection[UUID]) -> list[int]:
        """Return the ids of those that were spent on orders, locked until the transaction ends, in their order."""
        spent = self.filter(spent_on__in=set(order_ids)).order_by("pk")
        return list(spent.select_for_update(no_key=True).values_list("pk", flat=True))


class IssuedCoupon(models.Model):
    """A coupon that a user has. It can be spent on one order."""

    coupon = models.ForeignKey(Coupon, on_delete=models.PROTECT, related_name="issued_coupons", db_index=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="issued_coupons", db_index=False
    )
    request = models.OneToOneField(Request, on_delete=models.PROTECT, related_name="issued_coupon")
    issued_at = models.DateTimeField(default=timezone.now, editable=False)
    # The order that it was spent on. Null again when the order was cancelled.
    spent_on = models.UUIDField(null=True, blank=True, unique=True)
    spent_at = models.DateTimeField(null=True, blank=True)

    objects = IssuedCouponQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["user", "-issued_at", "-id"], name="issued_newest_of_user")]
        constraints = [
            models.UniqueConstraint(fields=["coupon", "user"], name="issued_once_to_a_user"),
            models.CheckConstraint(
                condition=models.Q(spent_on=None, spent_at=None)
                | models.Q(spent_on__isnull=False, spent_at__isnull=False),
                name="issued_spent_on_and_at",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.coupon_id} of {self.user_id}"
