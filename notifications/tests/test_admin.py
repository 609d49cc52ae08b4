"""Notifications in the admin: found, looked at, sent again; texts before anybody is told them."""

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.urls import reverse
from uuid_utils.compat import uuid7

from notifications import services
from notifications.kinds import Channel, Kind
from notifications.models import Notification, Outage
from notifications.samples import CONTEXTS
from notifications.sending import send_due
from notifications.services import Notice

pytestmark = pytest.mark.django_db

LIST = reverse("admin:notifications_notification_changelist")
TEXTS = reverse("admin:notifications_notification_texts")
SAMPLE_LETTER = reverse("admin:notifications_notification_sample_letter")


def page(name, row):
    return reverse(f"admin:notifications_notification_{name}", args=[row.pk])


def failed(user, welcome, post_office):
    """Return an e-mail that was refused."""
    welcome(user)
    post_office.of_address[user.email] = "550 no such mailbox"
    send_due(Channel.EMAIL)
    post_office.of_address.clear()
    return Notification.objects.get(user=user, channel="EMAIL")


@pytest.fixture
def may(client, staff):
    """Return a function that logs a member of the staff in who has some permissions."""

    def log_in(*names):
        staff.user_permissions.set(Permission.objects.filter(codename__in=names))
        client.force_login(staff)
        return client

    return log_in


@pytest.mark.parametrize(
    ("term", "expected"),
    [("carol", 2), ("{event_id}", 2), ("{beginning}", 2), ("steve", 0), ("01890000-0000-7000-8000-000000000000", 0)],
)
def test_notifications_are_found(admin_client, customer, welcome, term, expected):
    event_id = welcome(customer)[0].event_id
    term = term.format(event_id=event_id, beginning=str(event_id)[:30])
    assert admin_client.get(LIST, {"q": term}).context["cl"].result_count == expected


def test_failed_ones_are_found_by_status_and_channel(admin_client, customer, welcome, post_office):
    failed(customer, welcome, post_office)
    welcome(customer)
    found = admin_client.get(LIST, {"status": "FAILED", "channel": "EMAIL"}).context["cl"].result_list
    assert [row.status for row in found] == ["FAILED"]


def test_a_page_shows_what_is_told_on_its_channel(admin_client, chatting, welcome):
    chatting.username = "carol <b>"
    for row in welcome(chatting):
        shown = admin_client.get(page("change", row)).content.decode()
        assert "Welcome, carol &lt;b&gt; 0" in shown
        assert (page("letter", row) in shown) == (row.channel == "EMAIL")


def test_an_email_is_shown_in_a_frame_in_which_nothing_runs(admin_client, customer, welcome):
    [email] = [row for row in welcome(customer) if row.channel == "EMAIL"]
    answer = admin_client.get(page("letter", email))
    assert "<h1" in answer.content.decode()
    assert "Welcome, carol 0" in answer.content.decode()
    policy = answer["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'self'" in policy
    assert answer["X-Frame-Options"] == "SAMEORIGIN"


def test_only_an_email_has_a_letter(admin_client, customer, welcome):
    [in_app] = [row for row in welcome(customer) if row.channel == "IN_APP"]
    assert admin_client.get(page("letter", in_app)).status_code == 404
    assert admin_client.get(page("letter", Notification(pk=uuid7()))).status_code == 404


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("kind", Kind)
def test_each_text_can_be_looked_at_before_it_is_told(admin_client, kind, language):
    wanted = {"kind": kind, "language": language}
    answer = admin_client.get(TEXTS, wanted)
    title = answer.context["message"].text.title
    assert answer.status_code == admin_client.get(SAMPLE_LETTER, wanted).status_code == 200
    assert title.replace("&", "&amp;") in admin_client.get(SAMPLE_LETTER, wanted).content.decode()
    assert len(answer.context["chats"]) == (2 if kind == Kind.PAYMENT_SUCCEEDED else 1)
    assert not Notification.objects.exists()


def test_what_people_write_is_no_html_anywhere_on_the_page_of_texts(admin_client):
    page = admin_client.get(TEXTS, {"kind": "NEW_POST", "language": "en"}).content.decode()
    assert "<coffee>" not in page
    # Letter's title aside: as text, in the chat, and in the app.
    assert page.count("Tea &amp; &lt;coffee&gt;") == 3


def test_the_first_text_is_there_without_a_choice(admin_client):
    assert admin_client.get(TEXTS).context["message"].text.title == "Welcome, alice"


@pytest.mark.parametrize("wrong", [{"kind": "NONE"}, {"language": "xx"}, {"kind": "\0"}])
def test_a_text_that_there_is_not_is_refused(admin_client, wrong):
    assert admin_client.get(TEXTS, wrong).status_code == 400
    assert admin_client.get(SAMPLE_LETTER, wrong).status_code == 400


def test_a_failed_one_is_sent_again(admin_client, customer, welcome, post_office):
    row = failed(customer, welcome, post_office)
    assert page("send_again", row) in admin_client.get(page("change", row)).content.decode()
    form = admin_client.get(page("send_again", row)).context["form"]
    once = {"once": form["once"].value()}
    assert admin_client.post(page("send_again", row), once).status_code == 302
    assert admin_client.post(page("send_again", row), once).status_code == 302
    assert send_due(Channel.EMAIL) == 1
    assert LogEntry.objects.get().get_change_message() == "It is sent again."
    # What was sent has no such button.
    assert page("send_again", row) not in admin_client.get(page("change", row)).content.decode()


def test_many_failed_ones_are_sent_again_and_no_others(admin_client, customer, staff, welcome, post_office):
    rows = [failed(user, welcome, post_office) for user in (customer, staff)]
    [sent] = [row for row in welcome(customer) if row.channel == "EMAIL"]
    send_due(Channel.EMAIL)
    ids = [str(row.pk) for row in [*rows, sent]]
    admin_client.post(LIST, {"action": "send_again", "_selected_action": ids})
    assert LogEntry.objects.count() == 2
    assert send_due(Channel.EMAIL) == 2
    assert len(post_office.letters) == 3


def test_who_may_look_may_not_send_again(may, customer, welcome, post_office):
    row = failed(customer, welcome, post_office)
    client = may("view_notification")
    assert client.get(page("change", row)).status_code == client.get(TEXTS).status_code == 200
    assert client.post(page("send_again", row), {"once": str(uuid7())}).status_code == 403
    client.post(LIST, {"action": "send_again", "_selected_action": [str(row.pk)]})
    assert Notification.objects.get(pk=row.pk).status == "FAILED"


@pytest.mark.parametrize("name", ["texts", "sample_letter"])
def test_who_may_not_look_sees_no_texts(may, name):
    assert may("view_order").get(reverse(f"admin:notifications_notification_{name}")).status_code == 403


def test_who_may_not_look_sees_no_letter(may, customer, welcome):
    [email] = [row for row in welcome(customer) if row.channel == "EMAIL"]
    assert may("view_order").get(page("letter", email)).status_code == 403


def test_an_outage_is_shown_and_ended(admin_client, customer, welcome, post_office):
    welcome(customer)
    post_office.close()
    send_due(Channel.EMAIL)
    assert "refused" in admin_client.get(reverse("admin:notifications_outage_changelist")).content.decode()
    act = reverse("admin:notifications_outage_end", args=["EMAIL"])
    once = {"once": admin_client.get(act).context["form"]["once"].value()}
    assert admin_client.post(act, once).status_code == 302
    assert not Outage.objects.exists()
    post_office.open()
    assert send_due(Channel.EMAIL) == 1


def test_an_event_leads_to_who_was_told_of_it(admin_client, may, customer):
    event_id = uuid7()
    services.notify(notices=[Notice(event_id, customer.pk, Kind.WELCOME, None, CONTEXTS[Kind.WELCOME])])
    about = reverse("admin:outbox_outboxevent_event", query={"id": event_id})
    link = f"{LIST}?q={event_id}"
    assert link in admin_client.get(about).content.decode()
    assert link not in may("view_outboxevent").get(about).content.decode()
