"""Stock in the admin: found, filtered, and only to look at."""

import pytest
from django.urls import reverse
from uuid_utils.compat import uuid7

from stock import services
from stock.models import Level, Product, Receipt, Release, Reservation

pytestmark = pytest.mark.django_db

MODELS = [Product, Level, Receipt, Reservation, Release]


@pytest.fixture
def order_id(goods):
    """B2 is sold out by one order; another one was rejected."""
    order_id = uuid7()
    services.reserve(
        requests=[services.ReserveRequest(order_id, {"A1": 1, "B2": 3}), services.ReserveRequest(uuid7(), {"B2": 1})]
    )
    return order_id


def url(model, page, *args):
    return reverse(f"admin:stock_{model._meta.model_name}_{page}", args=args)


def found(client, model, query):
    return client.get(f"{url(model, 'changelist')}?{query}").context["cl"].result_count


@pytest.mark.parametrize("model", MODELS)
def test_nothing_can_be_added_changed_or_deleted(admin_client, order_id, model):
    row = model.objects.first()
    assert admin_client.get(url(model, "change", row.pk)).status_code == 200
    assert admin_client.get(url(model, "add")).status_code == 403
    assert admin_client.post(url(model, "change", row.pk), {}).status_code == 403
    assert admin_client.post(url(model, "delete", row.pk), {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("model", MODELS)
def test_a_list_of_many_asks_the_database_as_often_as_one_of_few(
    admin_client, order_id, model, django_assert_max_num_queries
):
    for number in range(10):
        services.add_product(sku=f"M{number}", name="Many", price=1)
        services.receive(sku=f"M{number}", quantity=1)
        services.reserve(requests=[services.ReserveRequest(uuid7(), {f"M{number}": units}) for units in (1, 2)])
    with django_assert_max_num_queries(9):
        assert admin_client.get(url(model, "changelist")).status_code == 200


@pytest.mark.parametrize(
    ("model", "query", "expected"),
    [
        (Product, "q=b2", 1),
        (Product, "available=yes", 1),
        (Product, "available=no", 1),
        (Product, "active__exact=1", 2),
        (Level, "q=A1", 1),
        (Receipt, "q=The+A1", 1),
        (Reservation, "q={order_id}", 2),
        (Reservation, "status__exact=HELD", 2),
        (Reservation, "status__exact=SOLD", 0),
        (Release, "q={order_id}", 0),
    ],
)
def test_rows_are_found(admin_client, order_id, model, query, expected):
    assert found(admin_client, model, query.format(order_id=order_id)) == expected
