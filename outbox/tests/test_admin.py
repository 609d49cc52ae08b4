"""The admin's pages of this app: everything of a dead letter is to be seen, and nothing can be changed."""

from datetime import UTC, datetime

import pytest
from django.urls import reverse

from outbox import publish
from outbox.applying import Applier
from outbox.models import FailedMessage, InboxEvent, OutboxEvent
from outbox.record import Record
from outbox.tests.records import garbage, record_of
from outbox.tests.sample import ThingCounted

EXAMPLE = ThingCounted(thing="a", number=1)


@pytest.fixture
def letters(db):
    """A dead letter of every kind of garbage, and one of a handler that raised."""
    applier = Applier("sample", pause=lambda seconds: None)
    for offset, (key, value, headers) in enumerate(garbage(EXAMPLE).values()):
        applier.apply([Record("thing-events", 0, offset, key, value, headers)])
    applier.apply([record_of(ThingCounted(thing="<script>", number=5000), offset=1000)])
    applier.apply([record_of(EXAMPLE, offset=1001)])
    return FailedMessage.objects.all()


def test_every_kind_of_dead_letter_has_a_page(admin_client, letters):
    for letter in letters:
        page = admin_client.get(reverse("admin:outbox_failedmessage_change", args=[letter.pk]))
        assert page.status_code == 200


def test_a_dead_letter_shows_error_key_value_and_headers(admin_client, letters):
    letter = letters.get(offset=1000)

    page = admin_client.get(reverse("admin:outbox_failedmessage_change", args=[letter.pk])).content.decode()

    assert "IntegrityError" in page
    assert "Traceback" in page
    assert "&quot;number&quot;: 5000" in page
    assert "event-id" in page
    assert str(letter.event_id) in page
    assert "&lt;script&gt;" in page
    assert "<script>" not in page.partition("field-readable_key")[2].partition("</div>")[0]


@pytest.mark.parametrize("model", ["outboxevent", "inboxevent", "failedmessage"])
def test_a_list_is_searched_with_as_many_queries_for_many_rows_as_for_one(
    admin_client, letters, model, django_assert_max_num_queries
):
    publish(*(ThingCounted(thing="a", number=n) for n in range(30)))
    with django_assert_max_num_queries(12):
        page = admin_client.get(reverse(f"admin:outbox_{model}_changelist"), {"q": str(EXAMPLE.event_id)})

    assert page.status_code == 200


@pytest.mark.parametrize("model", [OutboxEvent, InboxEvent, FailedMessage])
def test_nothing_can_be_added_changed_or_deleted(admin_client, letters, model):
    name = model._meta.model_name
    row = model.objects.first()

    assert admin_client.get(reverse(f"admin:outbox_{name}_add")).status_code == 403
    assert admin_client.post(reverse(f"admin:outbox_{name}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
    admin_client.post(reverse(f"admin:outbox_{name}_change", args=[row.pk]), {"created_at": datetime.now(UTC)})
    assert model.objects.get(pk=row.pk).__dict__.keys() == row.__dict__.keys()


def test_a_dead_letter_is_found_by_what_its_error_says(admin_client, letters):
    page = admin_client.get(reverse("admin:outbox_failedmessage_changelist"), {"q": "the value is null"})

    assert "3 failed messages" in page.content.decode()
