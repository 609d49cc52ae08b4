"""Orders in the admin: found, shown whole, cancelled by the service, and otherwise only to look at."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import connection
from django.urls import reverse
from django.utils import timezone
from uuid_utils.compat import uuid7

import payments.services
import stock.services
from accounts.models import User
from orders import admin, services
from orders.models import Order, Step
from outbox.models import FailedMessage, ParkedEvent
from outbox.tests.plans import fill_tables, plans

pytestmark = pytest.mark.django_db

LIST = "admin:orders_order_changelist"


@pytest.fixture
def paid(order, answers):
    payments.services.deposit(user_id=order.customer_id, amount=order.total)
    stock.services.reserve(requests=[stock.services.ReserveRequest(order.id, {"A1": 2, "B2": 1})])
    request = payments.services.CaptureRequest(order.id, order.customer_id, order.total, order.currency)
    payments.services.capture(requests=[request])
    answers.deliver("reserved", "succeeded")
    return order


@pytest.fixture
def many(order):
    """Ten more orders, each of another customer."""
    users = [User.objects.create_user(f"user{number}", f"user{number}@example.com") for number in range(10)]
    return [services.place(customer_id=user.id, items={"A1": 1}) for user in users]


@pytest.fixture
def somebody(client, staff):
    """Return a function that logs staff with some permissions in."""

    def log_in(*codenames):
        staff.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        assert staff.user_permissions.count() == len(codenames)
        client.force_login(staff)
        return client

    return log_in


def url(order, page="change"):
    return reverse(f"admin:orders_order_{page}", args=[order.pk])


def text(client, page):
    answer = client.get(page)
    assert answer.status_code == 200
    return answer.content.decode()


def cancel(client, order):
    once = client.get(url(order, "cancel")).context["form"]["once"].value()
    return client.post(url(order, "cancel"), {"once": once}, follow=True).content.decode()


def failed(order, offset=1, **values):
    """Store a failed message with the order's id as its key."""
    row = {
        "consumer_group": "stock",
        "topic": "order-events",
        "partition": 0,
        "offset": offset,
        "key": str(order.pk).encode(),
        "value": b"{}",
        "event_id": uuid7(),
        "event_type": "order.created",
        "error_class": "IntegrityError",
        "error": "too many",
        "status": "FAILED",
        "created_at": timezone.now(),
        **values,
    }
    return FailedMessage.objects.create(**row)


def parked(order, offset=2):
    return ParkedEvent.objects.create(
        consumer_group="stock",
        topic="order-events",
        partition=0,
        offset=offset,
        key=str(order.pk).encode(),
        value=b"{}",
        event_id=uuid7(),
        event_type="order.cancelled",
        parked_at=timezone.now(),
    )


def test_an_orders_page_shows_lines_payment_entries_reservations_movements_and_timeline(admin_client, paid):
    page = text(admin_client, url(paid))
    for expected in [
        reverse("admin:accounts_user_change", args=[paid.customer_id]),
        reverse("admin:stock_product_change", args=["A1"]),
        "The A1",
        reverse("admin:payments_payment_change", args=[paid.id]),
        "SUCCEEDED",
        "25.50 USD",
        reverse("admin:payments_wallet_change", args=[paid.customer_id]),
        "-25.50",
        "HELD",
        "RESERVED",
        "order.created",
        "stock.reserved",
        "payment.succeeded",
        "order.completed",
        ">orders<",
    ]:
        assert expected in page


def test_the_timeline_leads_to_each_event_and_from_there_back_to_the_order(admin_client, paid):
    page = text(admin_client, url(paid))
    for step in paid.steps.all():
        event = reverse("admin:outbox_outboxevent_event", query={"id": step.event_id})
        assert event in page
        assert url(paid) in text(admin_client, event)


def test_the_orders_of_an_event_are_found_by_an_index(db):
    with connection.cursor() as cursor:
        # There are too few rows for the planner to bother.
        cursor.execute("SET LOCAL enable_seqscan = off")
    assert "step_once" in Step.objects.filter(event_id=uuid4()).values_list("order_id").order_by().explain()


def test_an_event_that_left_the_outbox_and_that_no_group_has_read_has_a_page(admin_client, order):
    step = Step.objects.create(order=order, event_type="order.created", event_id=uuid7(), at=timezone.now())
    page = text(admin_client, reverse("admin:outbox_outboxevent_event", query={"id": step.event_id}))
    assert "it left the outbox" in page
    assert url(order) in page


def test_an_event_leads_to_its_order_only_who_may_see_that(somebody, order):
    event = reverse("admin:outbox_outboxevent_event", query={"id": order.steps.get().event_id})
    assert url(order) not in text(somebody("view_outboxevent"), event)
    assert url(order) in text(somebody("view_outboxevent", "view_order"), event)


def test_an_orders_page_shows_its_failed_messages_and_what_is_parked_behind_them(admin_client, order, many):
    letters = [failed(order, offset, status=status) for offset, status in enumerate(FailedMessage.Status.values)]
    relay = failed(order, consumer_group="relay", partition=-1)
    event = parked(order)
    others = [failed(many[0], offset=100), parked(many[0], offset=101)]

    page = text(admin_client, url(order))

    for letter in [*letters, relay]:
        assert f"/failedmessage/{letter.pk}/change/" in page
    assert "IntegrityError: too many" in page
    assert f"/parkedevent/{event.pk}/change/" in page
    assert f"/failedmessage/{others[0].pk}/change/" not in page
    assert f"/parkedevent/{others[1].pk}/change/" not in page


def test_of_many_failed_messages_the_page_shows_the_newest(admin_client, order):
    letters = [failed(order, offset) for offset in range(admin.TROUBLE_SHOWN + 1)]
    page = text(admin_client, url(order))
    assert f"/failedmessage/{letters[0].pk}/change/" not in page
    assert f"/failedmessage/{letters[-1].pk}/change/" in page
    assert f"The newest {admin.TROUBLE_SHOWN}." in page


def test_an_orders_page_asks_the_database_as_often_for_much_as_for_little(
    admin_client, paid, django_assert_max_num_queries
):
    for offset in range(30):
        failed(paid, offset)
        parked(paid, offset)
        Step.objects.create(order=paid, event_type="order.created", event_id=uuid7(), at=timezone.now())
    with django_assert_max_num_queries(14):
        admin_client.get(url(paid))


def test_an_order_that_nobody_answered_has_a_page(admin_client, order):
    assert "None was asked for yet." in text(admin_client, url(order))


def test_who_may_only_view_orders_sees_nothing_of_other_kinds(somebody, paid):
    failed(paid)
    parked(paid)
    page = text(somebody("view_order"), url(paid))
    assert "25.50" in page
    for hidden in ["The A1", "SUCCEEDED", "HELD", "RESERVED", "order.created", "too many", "Parked", "Cancel this"]:
        assert hidden not in page
    page = text(somebody("view_order", "view_step"), url(paid))
    assert "order.created" in page
    assert "Applied by" not in page


@pytest.mark.parametrize("model", ["order", "line", "step"])
def test_nothing_can_be_added_changed_or_deleted(admin_client, order, model):
    row = {"order": order, "line": order.lines.first(), "step": order.steps.first()}[model]
    assert admin_client.get(reverse(f"admin:orders_{model}_change", args=[row.pk])).status_code == 200
    assert admin_client.get(reverse(f"admin:orders_{model}_add")).status_code == 403
    assert admin_client.post(reverse(f"admin:orders_{model}_change", args=[row.pk]), {}).status_code == 403
    assert admin_client.post(reverse(f"admin:orders_{model}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("model", ["order", "line", "step"])
def test_a_list_of_many_asks_the_database_as_often_as_one_of_few(
    admin_client, many, model, django_assert_max_num_queries
):
    with django_assert_max_num_queries(10):
        page = admin_client.get(reverse(f"admin:orders_{model}_changelist"))
    assert page.status_code == 200


@pytest.mark.parametrize(
    ("model", "term", "found"),
    [
        ("order", "{order.id}", 1),
        ("order", "carol", 1),
        ("order", "carol@example", 1),
        ("order", "nobody", 0),
        ("line", "B2", 1),
        ("line", "{order.id}", 2),
        ("step", "{order.id}", 1),
        ("step", "{event_id}", 1),
    ],
)
def test_rows_are_found(admin_client, order, model, term, found):
    term = term.format(order=order, event_id=order.steps.get().event_id)
    page = admin_client.get(reverse(f"admin:orders_{model}_changelist"), {"q": term})
    assert page.context["cl"].result_count == found


def test_an_order_is_found_by_the_beginning_of_its_id(admin_client, order):
    page = admin_client.get(reverse(LIST), {"q": str(order.id)[:30]})
    assert [row.pk for row in page.context["cl"].result_list] == [order.id]


def test_orders_are_filtered(admin_client, order, many):
    services.cancel(order_id=order.id)
    Order.objects.filter(pk=many[0].pk).update(deadline_at=timezone.now() - timedelta(seconds=1))
    for query, found in {
        "status__exact=CANCELLED": 1,
        "status__exact=PENDING": 10,
        "cancel_reason__exact=CUSTOMER": 1,
        "deadline=passed": 1,
        "deadline=ahead": 9,
        f"customer={order.customer_id}": 1,
    }.items():
        assert admin_client.get(f"{reverse(LIST)}?{query}").context["cl"].result_count == found


def test_steps_are_filtered_by_what_the_code_declares(admin_client, paid):
    page = admin_client.get(reverse("admin:orders_step_changelist"), {"event_type": "order.created"}).context["cl"]
    assert {step.event_type for step in page.result_list} == {"order.created"}
    [types] = [spec for spec in page.filter_specs if isinstance(spec, admin.StepFilter)]
    offered = {value for value, _ in types.lookup_choices}
    assert set(Step.objects.values_list("event_type", flat=True)) < offered
    assert "user.created" not in offered


def test_what_could_not_be_applied_of_an_order_is_found_by_indexes(admin_client, order):
    failed(order)
    parked(order)
    fill_tables()
    asked = plans(lambda: text(admin_client, url(order)), FailedMessage, ParkedEvent)
    assert "failed_message_key" in asked[FailedMessage]
    assert "parked_event_behind" in asked[ParkedEvent]
    assert "Seq Scan" not in "".join(asked.values())


def test_an_order_is_cancelled_by_the_service_and_the_log_says_by_whom(admin_client, admin_user, paid, outbox):
    page = cancel(admin_client, paid)
    assert "Cancelled the order." in page
    paid.refresh_from_db()
    assert (paid.status, paid.cancel_reason) == ("CANCELLED", "CUSTOMER")
    assert outbox.types[-1] == "order.cancelled"
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id, entry.change_message) == (admin_user, str(paid.pk), "Cancelled the order.")


def test_a_refusal_is_told_and_is_not_in_the_log(admin_client, paid, settings):
    settings.ORDER_CANCEL_WINDOW_HOURS = 0
    assert "when its cancel window closed" in cancel(admin_client, paid)
    settings.ORDER_CANCEL_WINDOW_HOURS = 24
    services.cancel(order_id=paid.id)
    assert "This order was cancelled before." in cancel(admin_client, paid)
    assert not LogEntry.objects.exists()


def test_a_cancelled_order_has_no_button_to_cancel_it(admin_client, order):
    assert url(order, "cancel") in text(admin_client, url(order))
    services.cancel(order_id=order.id)
    assert url(order, "cancel") not in text(admin_client, url(order))


def act(client, orders, path=None, **more):
    form = {"action": "cancel_orders", ACTION_CHECKBOX_NAME: [str(order.pk) for order in orders], **more}
    return client.post(path or reverse(LIST), form, follow=True)


def cancelled():
    return Order.objects.filter(status="CANCELLED").count()


def consent(client, orders, asked=None, **more):
    """Consent to what is asked, now or before."""
    once = (asked or act(client, orders)).context["form"]["once"].value()
    return act(client, orders, consent="yes", once=str(once), **more).content.decode()


def test_many_orders_are_cancelled_once_a_person_consents(admin_client, order, many):
    services.cancel(order_id=many[0].pk)

    asked = act(admin_client, many[:3])
    assert cancelled() == 1
    for shown in many[:3]:
        assert f'value="{shown.pk}"' in asked.content.decode()

    page = consent(admin_client, many[:3], asked)
    assert "Cancelled 2 orders." in page
    assert "Not cancelled: 1. This order was cancelled before." in page
    assert cancelled() == 3
    assert LogEntry.objects.count() == 2


def test_what_a_person_has_seen_is_cancelled_whatever_the_list_shows_by_then(admin_client, many):
    pending = f"{reverse(LIST)}?status__exact=PENDING"
    asked = act(admin_client, many[:2], path=pending)
    Order.objects.filter(pk=many[0].pk).update(status="AWAITING_PAYMENT")
    assert "Cancelled 2 orders." in consent(admin_client, many[:2], asked, path=pending)


def test_a_second_click_cancels_nothing_and_says_so(admin_client, many):
    asked = act(admin_client, many[:2])
    assert "Cancelled 2 orders." in consent(admin_client, many[:2], asked)
    page = consent(admin_client, many[:2], asked)
    assert "was not done again" in page
    assert "Not cancelled" not in page
    assert LogEntry.objects.count() == 2


@pytest.mark.parametrize("once", [None, "", "nonsense"])
def test_consent_without_the_forms_number_is_asked_for_again(admin_client, many, once):
    asked = act(admin_client, many[:2], consent="yes", **({} if once is None else {"once": once}))
    assert cancelled() == 0
    assert "Cancelled 2 orders." in consent(admin_client, many[:2], asked)


def test_ids_that_are_none_are_ignored_and_orders_that_are_not_there_are_told(admin_client, order):
    nonsense = [Order(pk="nonsense"), Order(pk="\0"), Order(pk="7" * 5_000)]
    asked = act(admin_client, [order, *nonsense])
    assert f'value="{order.pk}"' in asked.content.decode()
    page = consent(admin_client, [order, Order(pk=uuid7()), *nonsense], asked)
    assert "Cancelled 1 order." in page
    assert "Not found: 1." in page
    assert "Items must be selected" in act(admin_client, nonsense).content.decode()


def test_of_all_orders_no_more_are_cancelled_than_a_request_can_bear_the_oldest_first(admin_client, many, monkeypatch):
    monkeypatch.setattr(admin, "CANCEL_LIMIT", 3)
    asked = act(admin_client, many[:1], select_across="1").content.decode()
    assert "No more than 3 at a time" in asked
    assert "3 orders" in asked
    oldest = list(Order.objects.order_by("pk")[:3])
    assert all(f'value="{order.pk}"' in asked for order in oldest)
    assert 'name="select_across"' not in asked


def test_who_may_not_cancel_has_no_such_action(somebody, order):
    client = somebody("view_order")
    act(client, [order], consent="yes", once=str(uuid4()))
    assert cancelled() == 0
    assert "cancel_orders" not in text(client, reverse(LIST))
    assert client.post(url(order, "cancel"), {"once": str(uuid4())}).status_code == 403
    consent(somebody("view_order", "cancel_order"), [order])
    assert cancelled() == 1
