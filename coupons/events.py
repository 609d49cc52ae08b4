"""Facts that coupons publishes. All of a coupon's have its code as their key, so that they stay in order."""

from uuid import UUID

from outbox import Event, Topic

COUPON = Topic("coupon-events")


class CouponIssueRequested(Event, topic=COUPON, type="coupon.issue_requested", key="code"):
    """A user asked for a coupon, and waits in Kafka for the answer. First come is the order of these events."""

    code: str
    request_id: UUID
    user_id: UUID


class CouponIssued(Event, topic=COUPON, type="coupon.issued", key="code"):
    """A user got a coupon."""

    code: str
    name: str
    request_id: UUID
    user_id: UUID


class CouponRejected(Event, topic=COUPON, type="coupon.rejected", key="code"):
    """A user got no coupon. The reason is the request's status: OUT_OF_STOCK, BUSINESS_ERROR and so on.

    After SYSTEM_ERROR the request may be decided again, if somebody retries what failed.
    """

    code: str
    request_id: UUID
    user_id: UUID
    reason: str
