"""A coupon of which there are two, people who want it, and their requests."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from config.redis import key, quick
from coupons.models import Coupon, Request


@pytest.fixture
def coupon(db: None) -> Coupon:
    return Coupon.objects.create(code="TEN", name="Ten off", quantity=2, percent_off=10)


@pytest.fixture
def people(db: None) -> Callable[[int], list[User]]:
    """Return a function that adds so many users."""

    def add(count: int) -> list[User]:
        begin = User.objects.count()
        return User.objects.bulk_create(
            User(username=f"user-{number}", email=f"user-{number}@example.com")
            for number in range(begin, begin + count)
        )

    return add


@pytest.fixture
def queued(db: None) -> Callable[..., list[Request]]:
    """Return a function that lets users ask for a coupon, without the queue, in the order given."""

    def add(*users: User, code: str = "TEN", queue: str = "KAFKA", at: datetime | None = None) -> list[Any]:
        return Request.objects.bulk_create(
            Request(code=code, user=user, queue=queue, created_at=at or timezone.now()) for user in users
        )

    return add


@pytest.fixture
def forget_redis() -> Callable[[], None]:
    """Return a function that deletes all that Redis holds of coupons."""

    def forget() -> None:
        if names := quick().keys(key("coupons", "*")):
            quick().delete(*names)

    return forget
