"""The queue in Redis: a stream for each coupon, whose entries name requests."""

from uuid import UUID

from config.redis import key, quick


def push(code: str, request_id: UUID) -> None:
    """Put a request, whose row is committed, at the end of its coupon's stream.

    Raises:
        redis.RedisError: Redis did not take it.
    """
    quick().xadd(key("coupons", "stream", code), {"request_id": str(request_id)})
