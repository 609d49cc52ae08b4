"""Products over HTTP."""

import pytest

from stock.models import Level, Product, Receipt

pytestmark = pytest.mark.django_db

LAMP = {"sku": "L-1", "name": "Lamp", "price": "12.5"}
LAMP_OUT = {
    "sku": "L-1",
    "name": "Lamp",
    "price": "12.50",
    "currency": "USD",
    "available": 0,
    "active": True,
}


def test_shows_everybody_a_product_that_staff_adds(api, staff, anybody):
    response = api(staff).post("/api/v1/products/", LAMP)
    assert (response.status_code, response.json()) == (201, LAMP_OUT)
    assert anybody.get("/api/v1/products/L-1/").json() == LAMP_OUT
    assert anybody.get("/api/v1/products/").json() == {"next": None, "previous": None, "results": [LAMP_OUT]}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"sku": "a b"}, "sku"),
        ({"sku": "-a"}, "sku"),
        ({"sku": "a/b"}, "sku"),
        ({"sku": "a\n"}, "sku"),
        ({"sku": 1}, "sku"),
        ({"sku": "x" * 65}, "sku"),
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "nul\0"}, "name"),
        ({"price": 12}, "price"),
        ({"price": "0.00"}, "price"),
        ({"price": "-1"}, "price"),
        ({"price": "1.005"}, "price"),
        ({"price": "1."}, "price"),
        ({"price": "1\n"}, "price"),
        ({"price": "12345678901"}, "price"),
        ({"price": "١٢"}, "price"),
        ({"price": "1e3"}, "price"),
        ({"price": "NaN"}, "price"),
        ({"price": None}, "price"),
    ],
)
def test_adds_no_product_that_is_not_valid(api, staff, problem, change, field):
    response = api(staff).post("/api/v1/products/", {**LAMP, **change})
    assert problem(response) == (400, "invalid")
    assert list(response.json()["errors"]) == [field]
    assert not Product.objects.exists()


def test_adds_no_product_twice(api, staff, problem):
    client = api(staff)
    client.post("/api/v1/products/", LAMP)
    response = client.post("/api/v1/products/", {**LAMP, "name": "Another"})
    assert problem(response) == (400, "duplicate_sku")
    assert list(response.json()["errors"]) == ["sku"]
    assert Product.objects.get().name == "Lamp"


def test_changes_what_is_given(api, staff, goods):
    client = api(staff)
    response = client.patch("/api/v1/products/A1/", {"price": "11", "active": False})
    assert response.status_code == 200
    assert response.json() == client.get("/api/v1/products/A1/").json()
    assert response.json() == {
        "sku": "A1",
        "name": "The A1",
        "price": "11.00",
        "currency": "USD",
        "available": 5,
        "active": False,
    }


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"active": "yes"}, "invalid"),
        ({"active": 0}, "invalid"),
        ({"active": None}, "invalid"),
        ({"name": None}, "invalid"),
        ({"sku": "A2"}, "unknown_field"),
        ({"available": 7}, "unknown_field"),
    ],
)
def test_changes_nothing_else(api, staff, goods, problem, change, code):
    assert problem(api(staff).patch("/api/v1/products/A1/", change)) == (400, code)


def test_takes_in_units(api, staff, goods):
    client = api(staff)
    response = client.post("/api/v1/products/A1/receipts/", {"quantity": 7})
    assert response.status_code == 201
    receipt = Receipt.objects.get(pk=response.json()["id"])
    assert (receipt.product_id, receipt.quantity, receipt.received_by) == ("A1", 7, staff)
    assert response.json()["quantity"] == 7
    assert client.get("/api/v1/products/A1/").json()["available"] == 12


@pytest.mark.parametrize("quantity", [0, -1, True, "7", 7.0, 1e300, 10**30, None, [7]])
def test_takes_in_nothing_but_whole_numbers_above_zero(api, staff, goods, problem, quantity):
    response = api(staff).post("/api/v1/products/A1/receipts/", {"quantity": quantity})
    assert problem(response) == (400, "invalid")
    assert list(response.json()["errors"]) == ["quantity"]
    assert Level.objects.get(pk="A1").on_hand == 5


WRITES = [
    ("post", "/api/v1/products/", LAMP),
    ("patch", "/api/v1/products/A1/", {"name": "Mine"}),
    ("post", "/api/v1/products/A1/receipts/", {"quantity": 1}),
]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_lets_only_staff_write(api, anybody, customer, goods, problem, method, path, body):
    assert problem(getattr(anybody, method)(path, body)) == (401, "not_authenticated")
    assert problem(getattr(api(customer), method)(path, body)) == (403, "permission_denied")
    assert Product.objects.get(pk="A1").name == "The A1"
    assert Receipt.objects.count() == 2


@pytest.mark.parametrize("sku", ["nope", "%00", "a%00b", "%ff", "..", "%20", "한", "x" * 65, "x" * 5000])
def test_finds_no_product_that_is_not_there(api, staff, goods, problem, sku):
    client = api(staff)
    assert problem(client.get(f"/api/v1/products/{sku}/")) == (404, "not_found")
    assert problem(client.patch(f"/api/v1/products/{sku}/", {"name": "x"})) == (404, "not_found")
    assert problem(client.post(f"/api/v1/products/{sku}/receipts/", {"quantity": 1})) == (404, "not_found")


def test_pages_through_all_products_by_sku(anybody, goods):
    for number in range(7):
        Level.objects.create(product=Product.objects.create(sku=f"C{number}", name="C", price=1))
    skus, path = [], "/api/v1/products/?page_size=2"
    while path:
        page = anybody.get(path).json()
        skus += [product["sku"] for product in page["results"]]
        path = page["next"]
    assert skus == ["A1", "B2", "C0", "C1", "C2", "C3", "C4", "C5", "C6"]


def test_lists_products_by_one_query(anybody, goods, django_assert_num_queries):
    with django_assert_num_queries(1):
        assert len(anybody.get("/api/v1/products/").json()["results"]) == 2
