"""What the admin's pages have in common: who may do what, that it is done once, and that it is in the log."""

from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

import coupons.services
import orders.models
import orders.services
import payments.services
import stock.services
from accounts.models import User
from analytics.models import Sales
from config.admin import ShopAdmin
from coupons.models import Coupon
from outbox.admin import pages
from outbox.admin.pages import LargeTableAdmin, ids_beginning_with
from outbox.models import FailedMessage
from payments.models import Entry, Wallet
from stock.models import Movement, Product

ACTS = ["orders_order_cancel", "stock_product_receive", "payments_wallet_deposit", "coupons_coupon_raise"]
NEEDED = {
    "orders_order_cancel": ("view_order", "cancel_order"),
    "stock_product_receive": ("view_product", "receive_product"),
    "payments_wallet_deposit": ("view_wallet", "deposit_wallet"),
    "coupons_coupon_raise": ("view_coupon", "raise_coupon"),
}


@pytest.fixture
def rows(customer):
    """A row for each act, by the act's name."""
    stock.services.add_product(sku="A1", name="The A1", price=Decimal("10.00"))
    payments.services.deposit(user_id=customer.id, amount=Decimal("1.00"))
    return {
        "orders_order_cancel": orders.services.place(customer_id=customer.id, items={"A1": 1}),
        "stock_product_receive": Product.objects.get(),
        "payments_wallet_deposit": Wallet.objects.get(),
        "coupons_coupon_raise": coupons.services.create(code="TEN", name="Ten off", quantity=1),
    }


@pytest.fixture
def somebody(staff):
    """Return a function that logs staff with some permissions in."""

    def log_in(*codenames):
        staff.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        assert staff.user_permissions.count() == len(codenames)
        client = Client()
        client.force_login(staff)
        return client

    return log_in


def form_of(client, url):
    """Return what the form of an act sends when it is shown now."""
    return {"once": str(client.get(url).context["form"]["once"].value()), "quantity": "3", "amount": "3.00"}


def done():
    """Return how much each act did."""
    return (
        orders.models.Order.objects.filter(status="CANCELLED").count(),
        Movement.objects.filter(kind="RECEIVED").count(),
        Entry.objects.count() - 1,
        sum(Coupon.objects.values_list("version", flat=True)) - 1,
    )


@pytest.mark.parametrize("act", ACTS)
def test_an_act_is_done_and_in_the_log_with_who(somebody, staff, rows, act):
    client = somebody(*NEEDED[act])
    url = reverse(f"admin:{act}", args=[rows[act].pk])

    answer = client.post(url, form_of(client, url))

    assert answer.status_code == 302
    assert sum(done()) == 1
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id) == (staff, str(rows[act].pk))
    page = client.get(answer["Location"]).content.decode()
    assert entry.change_message in page
    assert entry.change_message in client.get(answer["Location"].replace("change", "history")).content.decode()


@pytest.mark.parametrize("act", ACTS)
def test_a_form_that_is_sent_twice_does_what_it_asks_for_once(somebody, rows, act):
    client = somebody(*NEEDED[act])
    url = reverse(f"admin:{act}", args=[rows[act].pk])
    form = form_of(client, url)

    first, second = client.post(url, form), client.post(url, form)

    assert first["Location"] == second["Location"]
    assert "was not done again" in client.get(second["Location"]).content.decode()
    assert sum(done()) == 1
    assert LogEntry.objects.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("act", ACTS)
def test_a_form_that_is_sent_many_times_at_once_does_what_it_asks_for_once(somebody, rows, act, at_once):
    client = somebody(*NEEDED[act])
    url = reverse(f"admin:{act}", args=[rows[act].pk])
    form = form_of(client, url)

    def send():
        beside = Client()
        beside.cookies = client.cookies
        return beside.post(url, form).status_code

    assert at_once(*[send] * 5) == [302] * 5
    assert sum(done()) == 1


@pytest.mark.parametrize("act", ACTS)
def test_forms_that_are_shown_anew_are_each_done(somebody, rows, act):
    client = somebody(*NEEDED[act])
    url = reverse(f"admin:{act}", args=[rows[act].pk])
    for _ in range(2):
        assert client.post(url, form_of(client, url)).status_code == 302
    # An order can be cancelled only once, and a quantity be raised to the same only once.
    assert sum(done()) == (1 if act in ("orders_order_cancel", "coupons_coupon_raise") else 2)


@pytest.mark.parametrize("act", ACTS)
def test_an_act_needs_its_own_permission_and_that_to_view(somebody, rows, act):
    url = reverse(f"admin:{act}", args=[rows[act].pk])
    view, needed = NEEDED[act]
    model = view.removeprefix("view_")
    others = {permission for other, permissions in NEEDED.items() if other != act for permission in permissions}
    for held in [(), (view,), (needed,), (view, f"change_{model}", f"add_{model}", f"delete_{model}", *others)]:
        client = somebody(*held)
        assert client.get(url).status_code == 403
        assert client.post(url, {"once": str(uuid4()), "quantity": "3", "amount": "3"}).status_code == 403
    assert Client().post(url).status_code == 302
    assert sum(done()) == 0


@pytest.mark.parametrize("act", ACTS)
def test_the_button_is_there_for_who_may(somebody, rows, act):
    row = rows[act]
    url = reverse(f"admin:{act}", args=[row.pk])
    page = reverse(f"admin:{act.rpartition('_')[0]}_change", args=[row.pk])
    view, needed = NEEDED[act]
    assert url in somebody(view, needed).get(page).content.decode()
    assert url not in somebody(view).get(page).content.decode()


@pytest.mark.parametrize("act", ACTS)
def test_an_act_needs_the_token_against_forged_requests(admin_client, admin_user, rows, act):
    url = reverse(f"admin:{act}", args=[rows[act].pk])
    careful = Client(enforce_csrf_checks=True)
    careful.force_login(admin_user)
    assert careful.post(url, form_of(admin_client, url)).status_code == 403
    assert sum(done()) == 0


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("once", [None, "", "nonsense", "\0"])
def test_a_form_without_its_number_is_shown_again(admin_client, rows, act, once):
    url = reverse(f"admin:{act}", args=[rows[act].pk])
    form = {"quantity": "3", "amount": "3.00", **({} if once is None else {"once": once})}
    assert admin_client.post(url, form).status_code == 200
    assert sum(done()) == 0


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("pk", ["01890000-0000-7000-8000-000000000000", "nothing", "\0", "_00"])
def test_an_act_on_a_row_that_is_not_there_finds_nothing(admin_client, db, act, pk):
    url = reverse(f"admin:{act}", args=[pk])
    assert admin_client.get(url).status_code == 404
    assert admin_client.post(url, {"once": str(uuid4()), "quantity": "3", "amount": "3"}).status_code == 404


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("01890000", ("01890000-0000-0000-0000-000000000000", "01890000-ffff-ffff-ffff-ffffffffffff")),
        (" 01890000-00AA ", ("01890000-00aa-0000-0000-000000000000", "01890000-00aa-ffff-ffff-ffffffffffff")),
        ("01890000-0000-7000-8000-000000000000", ("01890000-0000-7000-8000-000000000000",) * 2),
        ("0189000", None),
        ("carol", None),
        ("01890000-0000-7000-8000-0000000000000", None),
        ("٠١٢٣٤٥٦٧", None),
    ],
)
def test_the_beginning_of_an_id_is_told_from_a_name(text, expected):
    assert ids_beginning_with(text) == (expected and tuple(map(UUID, expected)))


def test_a_name_that_looks_like_the_beginning_of_an_id_is_found(admin_client, rows):
    user = User.objects.create_user("deadbeef", "d@example.com")
    orders.services.place(customer_id=user.id, items={"A1": 1})
    page = admin_client.get(reverse("admin:orders_order_changelist"), {"q": "deadbeef"})
    assert page.context["cl"].result_count == 1


@pytest.mark.parametrize("model", ["orders_order", "stock_product", "payments_wallet", "accounts_user"])
def test_what_no_text_can_hold_finds_nothing(admin_client, db, model):
    url = reverse(f"admin:{model}_changelist")
    for field in ("q", "pk"):
        assert admin_client.get(url, {field: "\0"}).status_code == 302
    assert admin_client.get(reverse(f"admin:{model}_change", args=["\0"])).status_code == 302


# In the place of a list, sales have charts.
@pytest.mark.parametrize("model", [model for model in admin.site._registry if model is not Sales])
def test_no_list_reads_all_rows_of_a_table(admin_client, db, model):
    assert isinstance(admin.site.get_model_admin(model), LargeTableAdmin)
    with CaptureQueriesContext(connection) as asked:
        page = admin_client.get(reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"))
    assert page.status_code == 200
    queries = [query["sql"] for query in asked.captured_queries]
    counts = [query for query in queries if query.startswith("SELECT COUNT(*)")]
    assert counts
    assert all(f"LIMIT {pages.COUNT_LIMIT}" in count for count in counts)
    # Of failed messages, which are few, the filters offer what there is.
    assert model is FailedMessage or not any("DISTINCT" in query for query in queries)


def test_a_list_counts_and_leads_to_no_more_rows_than_a_limit(admin_client, rows, monkeypatch):
    monkeypatch.setattr(pages, "COUNT_LIMIT", 2)
    monkeypatch.setattr(ShopAdmin, "list_per_page", 1)
    url = reverse("admin:accounts_user_changelist")
    assert "No more than" in admin_client.get(url).content.decode()
    User.objects.create_user("dora", "dora@example.com")
    page = admin_client.get(url, {"p": 2})
    assert (page.context["cl"].result_count, len(page.context["cl"].result_list)) == (2, 1)
    assert "No more than 2 are counted and listed" in page.content.decode()
    assert admin_client.get(url, {"p": 3}).status_code == 302
    assert "No more than" not in admin_client.get(url, {"q": "dora"}).content.decode()


@pytest.mark.parametrize("model", admin.site._registry)
@pytest.mark.parametrize("pk", ["nonsense", "\0", "7" * 30, ""])
def test_an_action_on_an_id_that_is_none_does_nothing(admin_client, db, model, pk):
    url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    actions = admin.site.get_model_admin(model).actions or ["delete_selected"]
    assert admin_client.post(url, {"action": actions[0], "_selected_action": [pk]}, follow=True).status_code == 200
