"""Money in the admin: found, filtered, deposited by the service, and otherwise only to look at."""

from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission
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
        services.capture(requests=[services.CaptureRequest(order, customer.id, Decimal(amount), "USD")])
    return order_id


def url(model, page, *args):
    return reverse(f"admin:payments_{model._meta.model_name}_{page}", args=args)


def deposit(client, user, amount):
    page = url(Wallet, "deposit", user.pk)
    once = client.get(page).context["form"]["once"].value()
    return client.post(page, {"once": once, "amount": amount}, follow=True)


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
        services.capture(requests=[services.CaptureRequest(uuid7(), user.id, Decimal("1.00"), "USD")])
    with django_assert_max_num_queries(9):
        assert admin_client.get(url(model, "changelist")).status_code == 200


def test_the_page_of_a_wallet_with_many_entries_asks_as_often_as_that_of_one_with_few(
    admin_client, customer, order_id, django_assert_max_num_queries
):
    for _ in range(60):
        services.deposit(user_id=customer.id, amount=Decimal("1.00"))
    with django_assert_max_num_queries(5):
        page = admin_client.get(url(Wallet, "change", customer.pk)).content.decode()
    assert page.count("<td>DEPOSIT</td>") == 50
    assert "All entries" in page


@pytest.mark.parametrize(
    ("model", "query", "expected"),
    [
        (Wallet, "q=carol", 1),
        (Wallet, "q=nobody", 0),
        (Entry, "q={order_id}", 1),
        (Entry, "q=carol", 2),
        (Entry, "kind__exact=DEPOSIT", 1),
        (Entry, "wallet={user_id}", 2),
        (Payment, "q={order_id}", 1),
        (Payment, "q={beginning}", 1),
        (Payment, "status__exact=FAILED", 1),
        (Payment, "user={user_id}", 2),
    ],
)
def test_rows_are_found(admin_client, customer, order_id, model, query, expected):
    query = query.format(order_id=order_id, beginning=str(order_id)[:30], user_id=customer.pk)
    page = admin_client.get(f"{url(model, 'changelist')}?{query}")
    assert page.context["cl"].result_count == expected


def test_a_wallets_page_shows_balance_and_entries_with_their_orders(admin_client, customer, order_id):
    page = admin_client.get(url(Wallet, "change", customer.pk)).content.decode()
    for expected in ["7.00", "+10.00", "-3.00", reverse("admin:orders_order_change", args=[order_id])]:
        assert expected in page


def test_a_payments_page_leads_to_its_order_and_wallet(admin_client, customer, order_id):
    page = admin_client.get(url(Payment, "change", order_id)).content.decode()
    assert reverse("admin:orders_order_change", args=[order_id]) in page
    assert url(Wallet, "change", customer.pk) in page


def test_a_deposit_is_in_the_wallet_and_its_entries(admin_client, customer, order_id):
    page = deposit(admin_client, customer, "12.50").content.decode()
    assert "Deposited 12.50 USD for carol." in page
    assert "+12.50" in page
    assert Wallet.objects.get(pk=customer.pk).balance == Decimal("19.50")


def test_a_deposit_makes_the_wallet_of_who_had_none(admin_client, customer):
    assert "0.00" in admin_client.get(url(Wallet, "change", customer.pk)).content.decode()
    assert not Wallet.objects.exists()
    deposit(admin_client, customer, "5")
    assert Wallet.objects.get(pk=customer.pk).balance == Decimal("5.00")


@pytest.mark.parametrize("amount", ["", "0", "-1", "0.001", "x", "NaN", "Infinity", "10000000000", "\0", "9" * 5000])
def test_an_amount_that_cannot_be_is_not_deposited(admin_client, customer, amount):
    answer = deposit(admin_client, customer, amount)
    assert "amount" in answer.context["form"].errors
    assert not Entry.objects.exists()


def test_a_wallet_of_another_currency_takes_no_deposit(admin_client, customer, order_id, settings):
    settings.CURRENCY = "EUR"
    page = deposit(admin_client, customer, "5").content.decode()
    assert "This wallet holds USD, and the shop takes EUR." in page
    assert Wallet.objects.get(pk=customer.pk).balance == Decimal("7.00")


def test_who_may_only_view_wallets_sees_no_entries(client, staff, customer, order_id):
    staff.user_permissions.set(Permission.objects.filter(codename="view_wallet"))
    client.force_login(staff)
    page = client.get(url(Wallet, "change", customer.pk))
    assert page.status_code == 200
    assert "7.00" in page.content.decode()
    assert "entries" not in page.content.decode()
    assert "Deposit" not in page.content.decode()
    assert client.get(url(Entry, "changelist")).status_code == 403
