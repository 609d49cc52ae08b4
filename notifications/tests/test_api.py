"""Notifications over HTTP."""

import pytest
from django.utils import timezone
from uuid_utils.compat import uuid7

from notifications import services
from notifications.kinds import Kind
from notifications.models import Notification
from notifications.services import Notice

pytestmark = pytest.mark.django_db

NOTIFICATIONS = "/api/v1/notifications/"


def notify(user, *names):
    """Make notifications, the oldest first, and return their ids."""
    for name in names:
        services.notify(notices=[Notice(uuid7(), user.id, Kind.WELCOME, context={"username": name})])
    return [str(pk) for pk in Notification.objects.inbox(user.id).order_by("pk").values_list("pk", flat=True)]


def titles(page):
    return [notification["title"].removeprefix("Welcome, ") for notification in page["results"]]


def test_shows_a_notification(api, customer):
    notify(customer, "carol")
    page = api(customer).get(NOTIFICATIONS).json()
    row = Notification.objects.inbox(customer.id).get()
    assert page == {
        "next": None,
        "previous": None,
        "unread": 1,
        "results": [
            {
                "id": str(row.id),
                "kind": "WELCOME",
                "title": "Welcome, carol",
                "body": "Fill your wallet and place your first order.",
                "subject_id": None,
                "read_at": None,
                "created_at": page["results"][0]["created_at"],
            }
        ],
    }


def test_lists_the_unread_first_and_then_the_newest_over_pages(api, customer, django_assert_num_queries):
    ids = notify(customer, *"abcde")
    for notification_id in (ids[0], ids[3]):
        services.mark_read(user_id=customer.id, notification_id=notification_id, now=timezone.now())
    client = api(customer)
    # The token, the page, the number of unread.
    with django_assert_num_queries(3):
        first = client.get(f"{NOTIFICATIONS}?page_size=2").json()
    second = client.get(first["next"]).json()
    third = client.get(second["next"]).json()
    assert titles(first) + titles(second) + titles(third) == ["e", "c", "b", "d", "a"]
    assert first["unread"] == third["unread"] == 3
    assert third["next"] is None


def test_marks_one_as_read(api, customer):
    first, second = notify(customer, "a", "b")
    client = api(customer)
    assert client.post(f"{NOTIFICATIONS}{first}/read/").status_code == 204
    assert client.post(f"{NOTIFICATIONS}{first}/read/").status_code == 204
    assert Notification.objects.get(pk=first).read_at
    assert not Notification.objects.get(pk=second).read_at


def test_marks_all_as_read(api, customer, staff):
    notify(customer, "a", "b")
    notify(staff, "c")
    client = api(customer)
    assert client.post(f"{NOTIFICATIONS}read-all/").status_code == 204
    assert client.get(NOTIFICATIONS).json()["unread"] == 0
    assert Notification.objects.inbox(staff.id).unread().exists()


def test_shows_nobody_elses(api, customer, staff, anybody, problem):
    [notification_id] = notify(customer, "a")
    assert api(staff).get(NOTIFICATIONS).json()["results"] == []
    assert problem(api(staff).post(f"{NOTIFICATIONS}{notification_id}/read/")) == (404, "not_found")
    assert problem(anybody.get(NOTIFICATIONS)) == (401, "not_authenticated")
    assert not Notification.objects.inbox(customer.id).get().read_at


def test_shows_what_is_sent_elsewhere_to_nobody(api, customer, problem):
    notify(customer, "a")
    sent = Notification.objects.get(user=customer, channel="EMAIL")
    client = api(customer)
    assert len(client.get(NOTIFICATIONS).json()["results"]) == client.get(NOTIFICATIONS).json()["unread"] == 1
    assert problem(client.post(f"{NOTIFICATIONS}{sent.pk}/read/")) == (404, "not_found")


def test_speaks_the_language_that_the_user_has_now(api, customer):
    notify(customer, "a")
    client = api(customer)
    assert client.patch("/api/v1/users/me/", {"language": "ko"}).status_code == 200
    [notification] = client.get(NOTIFICATIONS).json()["results"]
    assert (notification["title"], notification["body"]) == (
        "a님, 환영합니다",
        "지갑을 충전하고 첫 주문을 해 보세요.",
    )
