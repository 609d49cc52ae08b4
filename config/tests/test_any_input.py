"""No input gives a 500, and every refusal is a problem document."""

import json
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import stock.services
from orders import services

LINE = {"sku": "A1", "quantity": 1}
WRITES = {
    "/api/v1/users/": {"username": "dora", "email": "dora@example.com", "password": "correct horse", "language": "en"},
    "/api/v1/auth/token/": {"username": "carol", "password": "a password of hers"},
    "/api/v1/users/me/": {"email": "carol@example.com", "language": "en", "telegram_chat_id": "42"},
    "/api/v1/users/me/password/": {"old_password": "a password of hers", "new_password": "a password of hers"},
    "/api/v1/products/": {"sku": "A1", "name": "Lamp", "price": "12.50"},
    "/api/v1/products/A1/": {"name": "Lamp", "price": "12.50", "active": True},
    "/api/v1/products/A1/receipts/": {"quantity": 1},
    "/api/v1/orders/": {"items": [LINE], "coupon_code": "TEN"},
    "/api/v1/orders/ORDER/cancel/": {},
    "/api/v1/wallet/deposits/": {"amount": "12.50", "username": "carol"},
    "/api/v1/notifications/read-all/": {},
    "/api/v1/users/carol/follow/": {},
    "/api/v1/posts/": {"title": "Tea", "body": "It wants boiling water."},
    "/api/v1/coupons/": {
        "code": "TEN",
        "name": "Ten off",
        "quantity": 1,
        "starts_at": "2026-11-21T20:00:00Z",
        "ends_at": "2026-11-22T20:00:00Z",
        "percent_off": 10,
        "minimum_total": "5.00",
    },
    "/api/v1/coupons/TEN/issue/": {},
}
PATCHED = {"/api/v1/users/me/", "/api/v1/products/A1/"}
READS = [
    "/api/v1/products/{}/",
    "/api/v1/orders/{}/",
    "/api/v1/orders/{}/timeline/",
    "/api/v1/orders/{}/cancel/",
    "/api/v1/products/{}/receipts/",
    "/api/v1/notifications/{}/read/",
    "/api/v1/users/{}/follow/",
    "/api/v1/posts/{}/",
    "/api/v1/coupons/{}/",
    "/api/v1/coupons/{}/issue/",
    "/api/v1/coupon-requests/{}/",
]
LISTS = {
    "/api/v1/products/": [],
    "/api/v1/orders/": ["status", "created_after", "created_before"],
    "/api/v1/wallet/entries/": [],
    "/api/v1/notifications/": [],
    "/api/v1/posts/": ["author"],
    "/api/v1/coupons/": [],
    "/api/v1/my-coupons/": [],
}
HEADERS = ["Authorization", "Accept", "Idempotency-Key", "If-Match", "If-None-Match", "X-Forwarded-For", "traceparent"]

# Every sign: surrogates and NUL too.
texts = st.text(st.characters(exclude_categories=()), max_size=20)
# What may stand in a path or a query: any bytes, percent-encoded, and times and numbers that nearly are some.
parts = st.binary(max_size=20).map(quote) | st.sampled_from(
    ["9" * 400, "-1", "2026-11-21T10:00:00Z", "0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00", "10000-01-01"]
)
# As WSGI hands them over: a character for each byte, and no control characters, which no server lets through.
header_values = st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"]), max_size=300)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


many = settings(max_examples=25, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))


def bodies(valid):
    """Any bytes, any document, and a valid body with one thing in it that is not."""
    nearly = [documents.map(lambda value, name=name: {**valid, name: value}) for name in valid]
    if "items" in valid:
        lines = [documents.map(lambda value, name=name: {**LINE, name: value}) for name in LINE]
        nearly += [line.map(lambda line: {"items": [line]}) for line in (documents, *lines)]
    return st.binary(max_size=50) | st.one_of(documents, *nearly).map(lambda body: json.dumps(body).encode())


@pytest.mark.parametrize("path", WRITES)
@pytest.mark.django_db
def test_survives(path, api, staff, customer, problem):
    stock.services.add_product(sku="A1", name="Lamp", price="12.50")
    order = services.place(customer_id=staff.id, items={"A1": 1})
    client = api(staff)
    url = path.replace("ORDER", str(order.id))
    method = "PATCH" if path in PATCHED else "POST"

    @many
    @given(body=bodies(WRITES[path]))
    def survives(body):
        response = client.generic(method, url, body, content_type="application/json")
        if response.status_code >= 400:
            status, _ = problem(response)
            assert status < 500

    survives()


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
@pytest.mark.parametrize("path", READS)
@pytest.mark.django_db
def test_survives_any_part_of_a_path(path, method, api, staff, problem):
    client = api(staff)

    @many
    @given(part=parts)
    def survives(part):
        response = client.generic(method, path.format(part), b"{}", content_type="application/json")
        assert problem(response)[0] in {400, 404, 405}

    survives()


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.django_db
def test_survives_any_query(path, api, customer, problem):
    client = api(customer)
    names = st.sampled_from(["cursor", "page_size", *LISTS[path]]) | parts

    @many
    @given(query=st.lists(st.tuples(names, parts), max_size=3))
    def survives(query):
        response = client.get(path + "?" + "&".join(f"{name}={value}" for name, value in query))
        if response.status_code >= 400:
            assert problem(response)[0] in {400, 404}

    survives()


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("call", ["GET /api/v1/products/A1/", "GET /api/v1/orders/", "POST /api/v1/orders/"])
@pytest.mark.django_db
def test_survives_any_header(call, name, api, customer, problem):
    stock.services.add_product(sku="A1", name="Lamp", price="12.50")
    client = api(customer)
    method, path = call.split()
    body = json.dumps({"items": [LINE]}) if method == "POST" else ""

    @many
    @given(value=header_values)
    def survives(value):
        response = client.generic(method, path, body, content_type="application/json", headers={name: value})
        if response.status_code >= 400:
            status, _ = problem(response)
            assert status < 500

    survives()
