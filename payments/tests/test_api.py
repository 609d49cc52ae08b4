"""Wallets over HTTP."""

import pytest

from payments import services
from payments.models import Entry, Wallet

pytestmark = pytest.mark.django_db

DEPOSITS = "/api/v1/wallet/deposits/"


@pytest.fixture
def self_deposit(settings):
    settings.WALLET_SELF_DEPOSIT = True


def test_shows_a_wallet_before_there_is_one(api, customer):
    assert api(customer).get("/api/v1/wallet/").json() == {"balance": "0.00", "currency": "USD"}
    assert not Wallet.objects.exists()


def test_pays_into_ones_own_wallet_where_that_is_on(api, customer, self_deposit):
    client = api(customer)
    response = client.post(DEPOSITS, {"amount": "12.5"})
    assert response.status_code == 201
    entry = Entry.objects.get()
    assert response.json() | {"created_at": "…"} == {
        "id": str(entry.id),
        "kind": "DEPOSIT",
        "amount": "12.50",
        "currency": "USD",
        "order_id": None,
        "created_at": "…",
    }
    assert client.get("/api/v1/wallet/").json() == {"balance": "12.50", "currency": "USD"}
    assert client.get("/api/v1/wallet/entries/").json() == {
        "next": None,
        "previous": None,
        "results": [response.json()],
    }


def test_lets_nobody_pay_into_their_own_wallet_where_that_is_off(api, customer, settings, problem):
    settings.WALLET_SELF_DEPOSIT = False
    assert problem(api(customer).post(DEPOSITS, {"amount": "1"})) == (403, "permission_denied")
    assert not Entry.objects.exists()


@pytest.mark.parametrize("username", ["steve", "nobody"])
def test_lets_a_customer_pay_into_no_other_wallet(api, customer, staff, self_deposit, problem, username):
    response = api(customer).post(DEPOSITS, {"amount": "1", "username": username})
    assert problem(response) == (403, "permission_denied")
    assert not Entry.objects.exists()


def test_lets_staff_pay_into_any_wallet(api, customer, staff, problem):
    client = api(staff)
    assert client.post(DEPOSITS, {"amount": "2", "username": "carol"}).status_code == 201
    assert client.post(DEPOSITS, {"amount": "3"}).status_code == 201
    assert {wallet.user.username: str(wallet.balance) for wallet in Wallet.objects.all()} == {
        "carol": "2.00",
        "steve": "3.00",
    }
    response = client.post(DEPOSITS, {"amount": "1", "username": "nobody"})
    assert problem(response) == (400, "invalid")
    assert list(response.json()["errors"]) == ["username"]


@pytest.mark.parametrize(
    "amount", [1, 1.5, True, None, "0", "0.00", "-1", "+1", " 1", "1 ", "1.", ".5", [], "1.234", "1e2", "٣", "Infinity"]
)
def test_takes_nothing_else_for_an_amount(api, staff, problem, amount):
    response = api(staff).post(DEPOSITS, {"amount": amount})
    assert problem(response) == (400, "invalid")
    assert list(response.json()["errors"]) == ["amount"]
    assert not Entry.objects.exists()


def test_takes_the_largest_amount_again_and_again(api, staff):
    client = api(staff)
    for _ in range(11):
        assert client.post(DEPOSITS, {"amount": "9999999999.99"}).status_code == 201
    assert client.get("/api/v1/wallet/").json()["balance"] == "109999999999.89"


def test_lists_ones_own_entries_the_newest_first(api, customer, staff, django_assert_num_queries):
    for amount in range(1, 6):
        services.deposit(user_id=customer.id, amount=amount)
    services.deposit(user_id=staff.id, amount=100)
    client = api(customer)
    with django_assert_num_queries(2):
        page = client.get("/api/v1/wallet/entries/?page_size=3").json()
    rest = client.get(page["next"]).json()
    assert [entry["amount"] for entry in page["results"] + rest["results"]] == ["5.00", "4.00", "3.00", "2.00", "1.00"]
    assert rest["next"] is None


@pytest.mark.parametrize("path", ["/api/v1/wallet/", "/api/v1/wallet/entries/", DEPOSITS])
def test_needs_a_token(anybody, problem, path):
    assert problem(anybody.get(path)) == (401, "not_authenticated")
