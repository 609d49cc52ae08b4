"""Orders over HTTP."""

from datetime import timedelta
from uuid import UUID

import pytest
from django.utils import timezone

import stock.services
from orders import services
from orders.events import OrderCancelled
from orders.models import Order

pytestmark = pytest.mark.django_db

ORDERS = "/api/v1/orders/"


def items(*lines):
    return {"items": [{"sku": sku, "quantity": quantity} for sku, quantity in lines]}


def test_places_an_order(api, customer, order, outbox):
    client = api(customer)
    response = client.post(ORDERS, items(("A1", 3), ("B2", 1)))
    assert response.status_code == 202
    placed = response.json()
    assert placed == {
        "id": placed["id"],
        "status": "PENDING",
        "cancel_reason": None,
        "total": "35.50",
        "discount": "0.00",
        "currency": "USD",
        "items": [
            {"sku": "A1", "name": "The A1", "quantity": 3, "unit_price": "10.00"},
            {"sku": "B2", "name": "The B2", "quantity": 1, "unit_price": "5.50"},
        ],
        "created_at": placed["created_at"],
        "updated_at": placed["updated_at"],
    }
    assert UUID(placed["id"]).version == 7
    assert response["Location"] == f"/api/v1/orders/{placed['id']}/"
    assert client.get(response["Location"]).json() == placed
    assert str(outbox.events[-1].order_id) == placed["id"]
    assert outbox.types == ["order.created", "order.created"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid"),
        ({"items": None}, "invalid"),
        ({"items": {}}, "invalid"),
        ({"items": "A1"}, "invalid"),
        ({"items": []}, "invalid"),
        ({"items": [None]}, "invalid"),
        ({"items": ["A1"]}, "invalid"),
        ({"items": [[]]}, "invalid"),
        ({"items": [{}]}, "invalid"),
        (items(*[(f"S{number}", 1) for number in range(101)]), "invalid"),
        *[
            (items(("A1", quantity)), "invalid")
            for quantity in (0, -1, 1001, True, "3", "1.0", 3.0, 1e308, 10**30, None)
        ],
        *[(items((sku, 1)), "invalid") for sku in (1, None, True, "", "A1\0", "x" * 65)],
        (items(("A1", 1), ("A1", 2)), "duplicate_sku"),
        (items(("A1", 1), ("NOPE", 2)), "unknown_sku"),
        (items((" A1", 1)), "unknown_sku"),
        ({"items": [{"sku": "A1", "quantity": 1, "price": "0.01"}]}, "unknown_field"),
        ({**items(("A1", 1)), "coupon_code": "WELCOME"}, "unknown_coupon"),
        ({**items(("A1", 1)), "coupon_code": None}, "invalid"),
        ({**items(("A1", 0)), "coupon_code": "WELCOME"}, "invalid"),
    ],
)
def test_places_no_order_that_is_not_valid(api, customer, order, problem, body, code):
    response = api(customer).post(ORDERS, body)
    assert problem(response) == (400, code)
    assert response.json()["errors"].keys() <= {"items", "coupon_code"}
    assert Order.objects.count() == 1


def test_names_the_skus_that_cannot_be_ordered(api, customer, order):
    stock.services.update_product(sku="A1", active=False)
    errors = api(customer).post(ORDERS, items(("A1", 1), ("B2", 1), ("NOPE", 1))).json()["errors"]
    assert [text.split()[0] for text in errors["items"]] == ["A1", "NOPE"]


def test_places_the_dearest_order_there_can_be(api, customer):
    for number in range(100):
        stock.services.add_product(sku=f"S{number}", name="Dear", price="9999999999.99")
    response = api(customer).post(ORDERS, items(*[(f"S{number}", 1000) for number in range(100)]))
    assert (response.status_code, response.json()["total"]) == (202, "999999999999000.00")


def test_needs_a_token(anybody, order, problem):
    for path in (ORDERS, f"{ORDERS}{order.id}/", f"{ORDERS}{order.id}/timeline/"):
        assert problem(anybody.get(path)) == (401, "not_authenticated")
    assert problem(anybody.post(ORDERS, items(("A1", 1)))) == (401, "not_authenticated")


@pytest.mark.parametrize(
    "order_id", ["nope", "%00", "1", "0192d5a0-7d3c-7e7c-8b2a-5a3e6c1d9f00", "00000000-0000-0000-0000-000000000000"]
)
def test_finds_no_order_that_is_not_there(api, customer, problem, order_id):
    client = api(customer)
    assert problem(client.get(f"{ORDERS}{order_id}/")) == (404, "not_found")
    assert problem(client.get(f"{ORDERS}{order_id}/timeline/")) == (404, "not_found")
    assert problem(client.post(f"{ORDERS}{order_id}/cancel/")) == (404, "not_found")


def test_hides_everybodys_orders_from_others(api, staff, order, problem):
    client = api(staff)
    assert client.get(ORDERS).json()["results"] == []
    assert problem(client.get(f"{ORDERS}{order.id}/")) == (404, "not_found")
    assert problem(client.get(f"{ORDERS}{order.id}/timeline/")) == (404, "not_found")
    assert problem(client.post(f"{ORDERS}{order.id}/cancel/")) == (404, "not_found")
    order.refresh_from_db()
    assert order.status == "PENDING"


def test_tells_what_happened_the_oldest_first(api, customer, order, answers):
    answers.deliver("reserved", "succeeded")
    steps = api(customer).get(f"{ORDERS}{order.id}/timeline/").json()["steps"]
    assert [step["event_type"] for step in steps] == [
        "order.created",
        "stock.reserved",
        "order.reserved",
        "payment.succeeded",
        "order.completed",
    ]
    assert steps[1]["event_id"] == str(answers.events["reserved"].event_id)
    assert all(step.keys() == {"event_type", "event_id", "at", "details"} for step in steps)


def test_cancels_an_order(api, customer, order, problem, outbox):
    client = api(customer)
    response = client.post(f"{ORDERS}{order.id}/cancel/")
    assert response.status_code == 202
    assert (response.json()["status"], response.json()["cancel_reason"]) == ("CANCELLED", "CUSTOMER")
    assert response.json() == client.get(f"{ORDERS}{order.id}/").json()
    assert outbox.published(OrderCancelled).order_id == order.id

    again = client.post(f"{ORDERS}{order.id}/cancel/")
    assert problem(again) == (409, "already_cancelled")
    assert len(outbox.events) == 2


def test_cancels_no_order_that_was_completed_too_long_ago(api, customer, order, answers, problem):
    answers.deliver("reserved", "succeeded")
    Order.objects.update(completed_at=timezone.now() - timedelta(hours=25))
    assert problem(api(customer).post(f"{ORDERS}{order.id}/cancel/")) == (409, "cancel_window_closed")


def test_cancels_nothing_when_more_is_asked(api, customer, order, problem):
    response = api(customer).post(f"{ORDERS}{order.id}/cancel/", {"reason": "TIMEOUT"})
    assert problem(response) == (400, "unknown_field")
    order.refresh_from_db()
    assert order.status == "PENDING"


@pytest.fixture
def five_orders(customer, order):
    """Five orders of a customer, the newest first."""
    placed = [services.place(customer_id=customer.id, items={"A1": 1, "B2": 1}) for _ in range(4)]
    return [str(each.id) for each in reversed([order, *placed])]


def ids(page):
    return [order["id"] for order in page["results"]]


def test_pages_through_orders_the_newest_first_and_back(api, customer, five_orders):
    client = api(customer)
    first = client.get(f"{ORDERS}?page_size=2").json()
    second = client.get(first["next"]).json()
    third = client.get(second["next"]).json()
    assert ids(first) + ids(second) + ids(third) == five_orders
    assert third["next"] is None
    assert client.get(second["previous"]).json() | {"previous": None} == first


def test_lists_orders_by_three_queries(api, customer, five_orders, django_assert_num_queries):
    client = api(customer)
    # The token, the orders, the lines.
    with django_assert_num_queries(3):
        assert ids(client.get(ORDERS).json()) == five_orders


def test_keeps_orders_of_a_status(api, customer, five_orders):
    client = api(customer)
    services.cancel(order_id=five_orders[2])
    assert ids(client.get(f"{ORDERS}?status=CANCELLED").json()) == [five_orders[2]]
    assert len(ids(client.get(f"{ORDERS}?status=PENDING").json())) == 4


def test_keeps_orders_of_a_time(api, customer, five_orders):
    client = api(customer)
    middle = client.get(f"{ORDERS}{five_orders[2]}/").json()["created_at"]
    assert ids(client.get(ORDERS, {"created_after": middle}).json()) == five_orders[:3]
    assert ids(client.get(ORDERS, {"created_before": middle}).json()) == five_orders[3:]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", "NEW"),
        ("status", ""),
        ("status", "\0"),
        ("created_after", ""),
        ("created_after", "yesterday"),
        ("created_after", "9999-12-31T23:59:59-14:00"),
        ("created_before", "0001-01-01T00:00:00+14:00"),
        ("created_before", "\0"),
    ],
)
def test_refuses_a_filter_that_makes_no_sense(api, customer, problem, name, value):
    response = api(customer).get(ORDERS, {name: value})
    assert problem(response) == (400, "invalid")
    assert list(response.json()["errors"]) == [name]
