"""System checks: what a person can misconfigure about coupons, said before anything runs."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register()
def check_queue(**kwargs: Any) -> list[CheckMessage]:
    """Check that COUPON_QUEUE names a queue."""
    if settings.COUPON_QUEUE in ("kafka", "redis"):
        return []
    return [Error(f"COUPON_QUEUE is {settings.COUPON_QUEUE!r}.", hint="Set it to kafka or redis.", id="coupons.E001")]
