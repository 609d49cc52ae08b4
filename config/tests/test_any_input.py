"""No input gives a 500, and every refusal is a problem document."""

import json

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
    "/api/v1/orders/": {"items": [LINE]},
    "/api/v1/orders/ORDER/cancel/": {},
    "/api/v1/wallet/deposits/": {"amount": "12.50", "username": "carol"},
    "/api/v1/notifications/read-all/": {},
}
PATCHED = {"/api/v1/users/me/", "/api/v1/products/A1/"}

# Every sign: surrogates and NUL too.
texts = st.text(st.characters(exclude_categories=()), max_size=20)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


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

    @settings(max_examples=25, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(body=bodies(WRITES[path]))
    def survives(body):
        response = client.generic(method, url, body, content_type="application/json")
        if response.status_code >= 400:
            status, _ = problem(response)
            assert status < 500

    survives()
