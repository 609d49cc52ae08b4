"""Notifications in the admin: found and looked at."""

import pytest
from django.urls import reverse
from uuid_utils.compat import uuid7

from notifications import services
from notifications.models import Notification
from notifications.services import Notice

pytestmark = pytest.mark.django_db

LIST = "admin:notifications_notification_changelist"


@pytest.mark.parametrize(
    ("term", "expected"),
    [("carol", 1), ("{event_id}", 1), ("{beginning}", 1), ("steve", 0), ("01890000-0000-7000-8000-000000000000", 0)],
)
def test_notifications_are_found(admin_client, customer, term, expected):
    event_id = uuid7()
    services.notify(notices=[Notice(event_id, customer.id, Notification.Kind.WELCOME, facts={"username": "carol"})])
    term = term.format(event_id=event_id, beginning=str(event_id)[:30])
    assert admin_client.get(reverse(LIST), {"q": term}).context["cl"].result_count == expected
