"""What the demo begins with."""

from io import StringIO

import pytest
from django.contrib.auth import authenticate
from django.core.management import CommandError, call_command

from accounts.models import User
from coupons.models import Coupon
from stock.models import Product

pytestmark = pytest.mark.django_db


def seed(*arguments):
    call_command("seed_demo", *arguments, stdout=StringIO())


def test_is_refused_without_force():
    with pytest.raises(CommandError, match="--force"):
        seed()
    assert not User.objects.exists()


def test_needs_no_force_where_make_run_says_that_it_is_the_demo(settings):
    settings.DEMO = True
    seed()
    assert User.objects.filter(username="admin").exists()


def test_adds_users_who_can_log_in_and_products_with_stock():
    seed("--force")
    staff = {name: authenticate(username=name, password="orderbox-demo").is_staff for name in ("alice", "bob", "admin")}
    assert staff == {"alice": False, "bob": False, "admin": True}
    assert User.objects.get(username="admin").is_superuser
    available = {product.sku: product.available for product in Product.objects.with_levels()}
    assert available == {**{f"A{number:03}": 100_000 for number in range(1, 11)}, "RARE1": 10}


def test_adds_a_coupon():
    seed("--force")
    coupon = Coupon.objects.get()
    assert (coupon.code, coupon.quantity, coupon.percent_off) == ("WELCOME", 100, 10)


def test_adds_nothing_the_second_time(rows):
    seed("--force")
    before, users = rows(), list(User.objects.values())
    seed("--force")
    assert rows() == before
    assert list(User.objects.values()) == users
