"""Products over HTTP."""

from functools import partial

import pytest

from stock import pages, services
from stock.models import Level, Movement, Product

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
    receipt = Movement.objects.get(pk=response.json()["id"])
    assert (receipt.product_id, receipt.kind, receipt.quantity, receipt.by) == ("A1", "RECEIVED", 7, staff)
    assert response.json().keys() == {"id", "sku", "quantity", "received_at"}
    assert (response.json()["sku"], response.json()["quantity"]) == ("A1", 7)
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
    assert Movement.objects.count() == 2


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


@pytest.fixture(params=["from Redis", "from PostgreSQL"])
def one(request, anybody, goods, settings):
    """Return a function that asks for a product's page, which comes from one of the two."""
    settings.PRODUCT_CACHE = request.param == "from Redis"

    def ask(method="get", sku="A1", **headers):
        if settings.PRODUCT_CACHE:
            anybody.get(f"/api/v1/products/{sku}/")
            assert (pages.find(sku) is not None) == (sku in ("A1", "B2"))
        return getattr(anybody, method)(f"/api/v1/products/{sku}/", headers=headers)

    return ask


LIST = "/api/v1/products/"


def test_shows_a_product_that_caches_may_keep_if_they_ask(one):
    response = one()
    assert response.json()["sku"] == "A1"
    assert response["Content-Type"] == "application/json"
    assert response["Cache-Control"] == "public, no-cache"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["ETag"].startswith('"')


def test_shows_the_same_whoever_asks_and_however(one):
    plain = one()
    for headers in ({"Authorization": "Token nonsense"}, {"Accept": "text/html"}, {"Accept": "nonsense"}):
        response = one(**headers)
        assert (response.status_code, response.content) == (200, plain.content)
        assert response["ETag"] == plain["ETag"]
    assert one("head")["ETag"] == plain["ETag"]
    assert one(sku="B2")["ETag"] != plain["ETag"]


@pytest.mark.parametrize("known", ["{}", "W/{}", '"other", {}', "*"])
def test_sends_no_product_to_who_has_it(one, known):
    etag = one()["ETag"]
    response = one(**{"If-None-Match": known.format(etag)})
    assert (response.status_code, response.content) == (304, b"")
    assert (response["ETag"], response["Cache-Control"]) == (etag, "public, no-cache")


def test_sends_a_product_to_who_has_an_older_one(one):
    etag = one()["ETag"]
    services.receive(sku="A1", quantity=1)
    response = one(**{"If-None-Match": etag})
    assert (response.status_code, response.json()["available"]) == (200, 6)
    assert response["ETag"] != etag


def test_sends_no_other_product_than_is_asked_for(one, problem):
    assert one(**{"If-Match": one()["ETag"]}).status_code == 200
    assert problem(one(**{"If-Match": '"other"'})) == (412, "precondition_failed")


def test_takes_no_notice_of_a_date_since_when_it_did_not_change(one, anybody):
    date = {"If-Unmodified-Since": "Sat, 21 Nov 2026 10:00:00 GMT"}
    assert one(**date).status_code == 200
    assert anybody.get(LIST, headers=date).status_code == 200


def test_finds_no_product_that_is_not_there_with_the_cache_either(one, problem):
    assert problem(one(sku="nope", **{"If-None-Match": "*"})) == (404, "not_found")


def test_sends_no_list_to_who_has_it(anybody, goods):
    etag = anybody.get(LIST)["ETag"]
    response = anybody.get(LIST, headers={"If-None-Match": etag})
    assert (response.status_code, response.content, response["Cache-Control"]) == (304, b"", "public, no-cache")
    assert anybody.get(f"{LIST}?page_size=1", headers={"If-None-Match": etag}).status_code == 200
    services.receive(sku="B2", quantity=1)
    response = anybody.get(LIST, headers={"If-None-Match": etag})
    assert [product["available"] for product in response.json()["results"]] == [5, 4]


@pytest.mark.parametrize("wanted", ["{}", '"other", {}', "*", " * "])
def test_changes_the_product_that_is_named(api, staff, goods, wanted):
    client = api(staff)
    etag = client.get("/api/v1/products/A1/")["ETag"]
    response = client.patch("/api/v1/products/A1/", {"name": "New"}, headers={"If-Match": wanted.format(etag)})
    assert (response.status_code, response.json()["name"]) == (200, "New")
    assert response["ETag"] == client.get("/api/v1/products/A1/")["ETag"] != etag


@pytest.mark.parametrize("wanted", ["{}", '"other"', "W/{}", "nonsense", ""])
def test_changes_no_product_that_is_another_by_now(api, staff, goods, problem, wanted):
    client = api(staff)
    etag = client.get("/api/v1/products/A1/")["ETag"]
    if wanted == "{}":
        services.receive(sku="A1", quantity=1)
    response = client.patch("/api/v1/products/A1/", {"name": "New"}, headers={"If-Match": wanted.format(etag)})
    assert problem(response) == (412, "precondition_failed")
    assert Product.objects.get(pk="A1").name == "The A1"


@pytest.mark.django_db(transaction=True)
def test_changes_a_product_for_one_of_many_who_name_the_same(api, staff, goods, at_once):
    etag = api(staff).get("/api/v1/products/A1/")["ETag"]
    calls = [
        partial(api(staff).patch, "/api/v1/products/A1/", {"name": f"Number {number}"}, headers={"If-Match": etag})
        for number in range(5)
    ]
    assert sorted(response.status_code for response in at_once(*calls)) == [200, 412, 412, 412, 412]


def test_shows_a_product_from_redis_without_asking_postgresql(anybody, goods, django_assert_num_queries):
    anybody.get("/api/v1/products/A1/")
    with django_assert_num_queries(0):
        assert anybody.get("/api/v1/products/A1/").json()["available"] == 5
