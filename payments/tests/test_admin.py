"""Money in the admin: found, filtered, and only to look at."""

from decimal import Decimal

import pytest
from django.urls import reverse
from uuid_utils.compat import uuid7

from accounts.models import User
from payments import services
from payments.models import Entry, Payment, Wallet

pytestmark = pytest.mark.django_db

MODELS = [Wallet, Entry, Payment]


@pytest.fixture
def order_id(customer):
    """An order that took 3.00 from a wallet of 10.00, beside one that failed."""
    order_id = uuid7()
    services.deposit(user_id=customer.id, amount=Decimal("10.00"))
    for order, amount in {order_id: "3.00", uuid7(): "30.00"}.items():
        services.capture(requests=[services.CaptureRequest(order, customer.id, Decimal(amount))])
    return order_id


def url(model, page, *args):
    return reverse(f"admin:payments_{model._meta.model_name}_{page}", args=args)


@pytest.mark.parametrize("model", MODELS)
def test_nothing_can_be_added_changed_or_deleted(admin_client, order_id, model):
    for row in model.objects.all():
        assert admin_client.get(url(model, "change", row.pk)).status_code == 200
        assert admin_client.post(url(model, "change", row.pk), {}).status_code == 403
        assert admin_client.post(url(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    assert admin_client.get(url(model, "add")).status_code == 403


@pytest.mark.parametrize("model", MODELS)
def test_a_list_of_many_asks_the_database_as_often_as_one_of_few(
    admin_client, order_id, model, django_assert_max_num_queries
):
    for number in range(10):
        user = User.objects.create_user(f"user{number}", f"user{number}@example.com")
        services.deposit(user_id=user.id, amount=Decimal("10.00"))
        services.capture(requests=[services.CaptureRequest(uuid7(), user.id, Decimal("1.00"))])
    with django_assert_max_num_queries(9):
        assert admin_client.get(url(model, "changelist")).status_code == 200


@pytest.mark.parametrize(
    ("model", "query", "expected"),
    [
        (Wallet, "q=carol", 1),
        (Wallet, "q=nobody", 0),
        (Entry, "q={order_id}", 1),
        (Entry, "kind__exact=DEPOSIT", 1),
        (Payment, "q={order_id}", 1),
        (Payment, "status__exact=FAILED", 1),
    ],
)
def test_rows_are_found(admin_client, order_id, model, query, expected):
    page = admin_client.get(f"{url(model, 'changelist')}?{query.format(order_id=order_id)}")
    assert page.context["cl"].result_count == expected
