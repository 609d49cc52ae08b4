"""Stock in the admin: found, filtered, products changed and goods taken in by the services, and the rest to look at."""

from decimal import Decimal

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from uuid_utils.compat import uuid7

from stock import services
from stock.models import Level, Movement, Product, Release, Reservation

pytestmark = pytest.mark.django_db

MODELS = [Product, Level, Movement, Reservation, Release]
ONLY_TO_LOOK_AT = [Level, Movement, Reservation, Release]


@pytest.fixture
def order_id(goods):
    """B2 is sold out by one order; another one was rejected."""
    order_id = uuid7()
    services.reserve(
        requests=[services.ReserveRequest(order_id, {"A1": 1, "B2": 3}), services.ReserveRequest(uuid7(), {"B2": 1})]
    )
    return order_id


@pytest.fixture
def a1(goods):
    """The path of A1's page."""
    return url(Product, "change", "A1")


def url(model, page, *args):
    return reverse(f"admin:stock_{model._meta.model_name}_{page}", args=args)


def found(client, model, query):
    return client.get(f"{url(model, 'changelist')}?{query}").context["cl"].result_count


def shown(client, page, **changes):
    """Return what the form of a product sends, as it is shown now and changed by a person."""
    form = client.get(page).context["adminform"].form
    sent = {}
    for bound in form:
        value = bound.value()
        sent |= {bound.html_name: value, bound.html_initial_name: value}
    sent |= changes
    return {name: value for name, value in sent.items() if value is not False}


@pytest.mark.parametrize("model", ONLY_TO_LOOK_AT)
def test_nothing_can_be_added_changed_or_deleted(admin_client, order_id, model):
    row = model.objects.first()
    assert admin_client.get(url(model, "change", row.pk)).status_code == 200
    assert admin_client.get(url(model, "add")).status_code == 403
    assert admin_client.post(url(model, "change", row.pk), {}).status_code == 403
    assert admin_client.post(url(model, "delete", row.pk), {"post": "yes"}).status_code == 403


def test_a_product_is_not_deleted(admin_client, goods):
    assert admin_client.post(url(Product, "delete", "A1"), {"post": "yes"}).status_code == 403
    assert Product.objects.filter(pk="A1").exists()


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


def test_the_page_of_a_product_with_many_movements_asks_as_often_as_that_of_one_with_few(
    admin_client, admin_user, a1, django_assert_max_num_queries
):
    for _ in range(60):
        services.receive(sku="A1", quantity=1, received_by=admin_user.pk)
    services.reserve(requests=[services.ReserveRequest(uuid7(), {"A1": 1}) for _ in range(20)])
    with django_assert_max_num_queries(6):
        page = admin_client.get(a1)
    assert page.content.decode().count("<td>RESERVED</td>") == 20
    assert page.content.decode().count("<td>RECEIVED</td>") == 30


@pytest.mark.parametrize(
    ("model", "query", "expected"),
    [
        (Product, "q=b2", 1),
        (Product, "available=yes", 1),
        (Product, "available=no", 1),
        (Product, "active__exact=1", 2),
        (Level, "q=A1", 1),
        (Movement, "q=The+A1", 2),
        (Movement, "q={order_id}", 2),
        (Movement, "product=A1", 2),
        (Movement, "kind__exact=RECEIVED", 2),
        (Reservation, "q={order_id}", 2),
        (Reservation, "q={beginning}", 2),
        (Reservation, "product=A1&status__exact=HELD", 1),
        (Reservation, "status__exact=HELD", 2),
        (Reservation, "status__exact=SOLD", 0),
        (Release, "q={order_id}", 0),
    ],
)
def test_rows_are_found(admin_client, order_id, model, query, expected):
    query = query.format(order_id=order_id, beginning=str(order_id)[:30])
    assert found(admin_client, model, query) == expected


def test_a_release_is_searched_for_by_its_index_alone(admin_client, order_id):
    services.release(order_ids=[order_id])
    for term, expected in {str(order_id): 1, str(order_id)[:30]: 1, str(uuid7()): 0, "nonsense": 0}.items():
        with CaptureQueriesContext(connection) as asked:
            assert found(admin_client, Release, f"q={term}") == expected
        assert not any("UPPER(" in query["sql"] for query in asked.captured_queries)


def test_a_product_is_added_with_nothing_on_hand(admin_client, admin_user):
    form = {"sku": "C3", "name": "The C3", "price": "2.50"}
    assert admin_client.post(url(Product, "add"), form).status_code == 302
    product = Product.objects.get()
    assert (product.sku, product.name, product.price, product.active) == ("C3", "The C3", Decimal("2.50"), True)
    assert product.level.on_hand == 0
    assert (LogEntry.objects.get().user, LogEntry.objects.get().object_id) == (admin_user, "C3")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sku", "A1"),
        ("sku", "a b"),
        ("sku", "_x"),
        ("sku", ""),
        ("name", ""),
        ("name", "x" * 201),
        ("name", "\0"),
        ("price", "0"),
        ("price", "-1"),
        ("price", "1.234"),
        ("price", "12345678901"),
        ("price", "NaN"),
        ("price", ""),
    ],
)
def test_a_product_that_cannot_be_is_not_added(admin_client, goods, field, value):
    answer = admin_client.post(url(Product, "add"), {"sku": "C3", "name": "The C3", "price": "1", field: value})
    assert answer.status_code == 200
    assert field in answer.context["adminform"].form.errors
    assert Product.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_of_people_who_add_the_same_product_at_once_one_does(admin_client, at_once):
    def add():
        beside = Client()
        beside.cookies = admin_client.cookies
        return beside.post(url(Product, "add"), {"sku": "A1", "name": "Mine", "price": "1"}, follow=True).content

    answers = [answer.decode() for answer in at_once(*[add] * 5)]

    assert Product.objects.count() == LogEntry.objects.count() == 1
    told = ["already exists" in answer or "There is a product A1 already." in answer for answer in answers]
    assert sorted(told) == [False, True, True, True, True]


def test_price_name_and_sale_of_a_product_are_changed(admin_client, admin_user, a1):
    version = Level.objects.get(pk="A1").version
    form = shown(admin_client, a1, name="Another", price="12.50", active=False)
    assert admin_client.post(a1, form).status_code == 302
    product = Product.objects.get(pk="A1")
    assert (product.name, product.price, product.active) == ("Another", Decimal("12.50"), False)
    # By the service, which tells readers of old pages.
    assert Level.objects.get(pk="A1").version == version + 1
    assert LogEntry.objects.get().user == admin_user


def test_what_a_person_did_not_change_is_left_to_who_did_meanwhile(admin_client, a1):
    form = shown(admin_client, a1, name="Another")
    services.update_product(sku="A1", price=Decimal("99.00"))
    assert admin_client.post(a1, form).status_code == 302
    product = Product.objects.get(pk="A1")
    assert (product.name, product.price) == ("Another", Decimal("99.00"))


def test_a_product_that_is_saved_unchanged_stays_as_it_is(admin_client, a1):
    before = Product.objects.values().get(pk="A1")
    assert admin_client.post(a1, shown(admin_client, a1)).status_code == 302
    assert Product.objects.values().get(pk="A1") == before


def test_neither_sku_nor_stock_is_editable_by_hand(admin_client, a1):
    form = shown(admin_client, a1, sku="X", on_hand="1000", reserved="1000", available="1000", name="Another")
    assert admin_client.post(a1, form).status_code == 302
    assert set(Product.objects.values_list("sku", flat=True)) == {"A1", "B2"}
    level = Level.objects.get(pk="A1")
    assert (level.on_hand, level.reserved) == (5, 0)


def test_goods_are_received_at_once_available_with_who_took_them_in(admin_client, admin_user, a1):
    page = url(Product, "receive", "A1")
    once = admin_client.get(page).context["form"]["once"].value()
    answer = admin_client.post(page, {"once": once, "quantity": "7"}, follow=True)
    assert "Received 7 units of A1." in answer.content.decode()
    assert Product.objects.get(pk="A1").available == 12
    newest = Movement.objects.filter(product="A1").latest("at")
    assert (newest.kind, newest.quantity, newest.by) == ("RECEIVED", 7, admin_user)
    assert answer.content.decode().count("<td>RECEIVED</td>") == 2


def test_a_sku_may_look_like_an_escape_of_djangos_admin(admin_client, db):
    services.add_product(sku="X_41", name="The X", price=Decimal("1.00"))
    services.reserve(requests=[services.ReserveRequest(uuid7(), {"X_41": 1})])
    page = admin_client.get(url(Product, "changelist"))
    change = page.context["cl"].url_for_result(Product.objects.get())
    text = admin_client.get(change).content.decode()
    assert "The X" in text
    receive = change.replace("/change/", "/receive/")
    assert receive in text
    asked = admin_client.get(receive)
    assert f'href="{change}">X_41 The X</a>' in asked.content.decode()
    once = asked.context["form"]["once"].value()
    assert admin_client.post(receive, {"once": once, "quantity": "2"})["Location"] == change
    assert Product.objects.get().available == 2


@pytest.mark.parametrize("quantity", ["", "0", "-1", "1.5", "x", "1000000001", "\0", "9" * 5000])
def test_goods_that_cannot_be_are_not_received(admin_client, a1, quantity):
    page = url(Product, "receive", "A1")
    once = admin_client.get(page).context["form"]["once"].value()
    answer = admin_client.post(page, {"once": once, "quantity": quantity})
    assert answer.status_code == 200
    assert "quantity" in answer.context["form"].errors
    assert Product.objects.get(pk="A1").available == 5


def test_who_may_only_view_products_sees_neither_form_nor_movements(client, staff, a1):
    staff.user_permissions.set(Permission.objects.filter(codename="view_product"))
    client.force_login(staff)
    page = client.get(a1)
    assert page.status_code == 200
    text = page.content.decode()
    assert 'name="price"' not in text
    assert "Goods received" not in text
    assert "movements" not in text
    assert client.post(a1, {"name": "Another"}).status_code == 403
    assert client.get(url(Product, "add")).status_code == 403
    assert client.get(url(Movement, "changelist")).status_code == 403
