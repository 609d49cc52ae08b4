"""Orders in the admin: found, shown whole, and only to look at."""

import pytest
from django.urls import reverse

import payments.services
import stock.services
from accounts.models import User
from orders import services

pytestmark = pytest.mark.django_db


@pytest.fixture
def paid(order, answers):
    payments.services.deposit(user_id=order.customer_id, amount=order.total)
    stock.services.reserve(requests=[stock.services.ReserveRequest(order.id, {"A1": 2, "B2": 1})])
    request = payments.services.CaptureRequest(order.id, order.customer_id, order.total)
    payments.services.capture(requests=[request])
    answers.deliver("reserved", "succeeded")
    return order


def test_an_orders_page_shows_its_lines_timeline_payment_and_reservations(admin_client, paid):
    page = admin_client.get(reverse("admin:orders_order_change", args=[paid.id])).content.decode()
    for expected in [
        "The A1",
        "stock.reserved",
        "payment.succeeded",
        "order.completed",
        "SUCCEEDED: captured 25.50, refunded 0.00",
        "2 × A1 HELD",
        "1 × B2 HELD",
        reverse("admin:payments_payment_change", args=[paid.id]),
    ]:
        assert expected in page


def test_an_order_that_nobody_answered_has_a_page(admin_client, order):
    assert admin_client.get(reverse("admin:orders_order_change", args=[order.id])).status_code == 200


@pytest.mark.parametrize("model", ["order", "line", "step"])
def test_nothing_can_be_added_changed_or_deleted(admin_client, order, model):
    row = {"order": order, "line": order.lines.first(), "step": order.steps.first()}[model]
    assert admin_client.get(reverse(f"admin:orders_{model}_add")).status_code == 403
    assert admin_client.post(reverse(f"admin:orders_{model}_change", args=[row.pk]), {}).status_code == 403
    assert admin_client.post(reverse(f"admin:orders_{model}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("model", ["order", "line", "step"])
def test_a_list_of_many_asks_the_database_as_often_as_one_of_few(
    admin_client, order, model, django_assert_max_num_queries
):
    for number in range(10):
        user = User.objects.create_user(f"user{number}", f"user{number}@example.com")
        services.place(customer_id=user.id, items={"A1": 1})
    with django_assert_max_num_queries(10):
        page = admin_client.get(reverse(f"admin:orders_{model}_changelist"))
    assert page.status_code == 200


@pytest.mark.parametrize(
    ("model", "term", "found"),
    [
        ("order", "{order.id}", 1),
        ("order", "carol", 1),
        ("order", "nobody", 0),
        ("line", "B2", 1),
        ("line", "{order.id}", 2),
        ("step", "{order.id}", 1),
    ],
)
def test_rows_are_found(admin_client, order, model, term, found):
    page = admin_client.get(reverse(f"admin:orders_{model}_changelist"), {"q": term.format(order=order)})
    assert page.context["cl"].result_count == found


def test_orders_are_filtered(admin_client, order):
    services.cancel(order_id=order.id)
    url = reverse("admin:orders_order_changelist")
    for query, found in {
        "status__exact=CANCELLED": 1,
        "status__exact=PENDING": 0,
        "cancel_reason__exact=CUSTOMER": 1,
    }.items():
        assert admin_client.get(f"{url}?{query}").context["cl"].result_count == found
