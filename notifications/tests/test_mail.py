"""E-mails, by a mail server of the test's own."""

import pytest

from notifications.kinds import Channel
from notifications.models import Notification, Outage
from notifications.sending import send_due
from notifications.services import LAST_SILENCE_SECONDS, MAX_ATTEMPTS

pytestmark = pytest.mark.django_db

EMAIL = Notification.objects.filter(channel=Channel.EMAIL)


def test_an_email_has_text_and_html_and_what_tells_a_repeat(customer, welcome, post_office):
    customer.username = "carol & <b>co</b>"
    welcome(customer)
    assert send_due(Channel.EMAIL) == 1

    [letter] = post_office.letters
    notification = EMAIL.get()
    assert letter["To"] == "carol@example.com"
    assert letter["From"] == "Orderbox <orders@shop.example>"
    assert letter["Subject"] == "Welcome, carol & <b>co</b> 0"
    assert letter["Message-ID"] == f"<{notification.id}@shop.example>"
    assert letter["X-Event-ID"] == str(notification.event_id)
    assert letter["Auto-Submitted"] == "auto-generated"
    assert letter["Content-Language"] == "en"
    text, html = (letter.get_body((kind,)).get_content() for kind in ("plain", "html"))
    assert text.startswith("Fill your wallet and place your first order.")
    assert f"Reference: {notification.id}" in text
    assert "<h1" in html
    assert "Welcome, carol &amp; &lt;b&gt;co&lt;/b&gt; 0" in html
    assert str(notification.id) in html


def test_an_email_is_in_the_language_that_the_user_has_when_it_is_sent(customer, welcome, post_office):
    welcome(customer)
    customer.language = "ko"
    customer.save()
    send_due(Channel.EMAIL)
    [letter] = post_office.letters
    assert letter["Subject"] == "carol 0님, 환영합니다"
    assert letter["Content-Language"] == "ko"
    assert "지갑을 충전하고 첫 주문을 해 보세요." in letter.get_body(("plain",)).get_content()
    assert '<html lang="ko">' in letter.get_body(("html",)).get_content()


def test_an_email_goes_to_the_address_that_the_user_has_when_it_is_sent(customer, welcome, post_office):
    welcome(customer)
    customer.email = "new@example.com"
    customer.save()
    send_due(Channel.EMAIL)
    assert post_office.letters[0]["To"] == "new@example.com"


def test_a_batch_goes_over_one_connection(customer, welcome, post_office):
    welcome(customer, 40)
    assert send_due(Channel.EMAIL) == 40
    assert len(set(post_office.ids)) == 40
    assert post_office.connections == 1


@pytest.mark.parametrize("where", ["the address", "the letter"])
def test_what_the_server_will_never_take_is_final(customer, staff, welcome, post_office, where):
    welcome(customer)
    if where == "the address":
        post_office.of_address["carol@example.com"] = "550 no such mailbox"
    else:
        post_office.troubles = ["554 it looks like spam"]
    send_due(Channel.EMAIL)
    welcome(staff)
    assert send_due(Channel.EMAIL) == 1
    refused = EMAIL.get(user=customer)
    assert (refused.status, refused.due_at, refused.attempts) == ("FAILED", None, 1)
    assert refused.error.startswith("55")
    assert EMAIL.get(user=staff).status == "SENT"
    assert not Outage.objects.exists()


@pytest.mark.parametrize("where", ["the address", "the letter"])
def test_what_the_server_does_not_take_now_is_sent_later(customer, staff, welcome, post_office, time_passes, where):
    welcome(customer)
    if where == "the address":
        post_office.of_address["carol@example.com"] = "450 mailbox busy"
    else:
        post_office.troubles = ["451 local error"]
    send_due(Channel.EMAIL)
    # Others are not kept waiting.
    welcome(staff)
    assert send_due(Channel.EMAIL) == 1
    waiting = EMAIL.get(user=customer)
    assert (waiting.status, waiting.attempts) == ("PENDING", 1)
    assert waiting.error.startswith("45")

    post_office.of_address.clear()
    assert send_due(Channel.EMAIL) == 0
    time_passes(10)
    assert send_due(Channel.EMAIL) == 1
    assert len(set(post_office.ids)) == len(post_office.ids) == 2
    sent = EMAIL.get(user=customer)
    assert (sent.status, sent.due_at, sent.error) == ("SENT", None, "")
    assert sent.sent_at


def test_what_is_never_taken_now_fails_in_the_end(customer, welcome, post_office, time_passes):
    welcome(customer)
    post_office.of_address["carol@example.com"] = "450 mailbox busy"
    for attempt in range(1, MAX_ATTEMPTS + 1):
        send_due(Channel.EMAIL)
        assert EMAIL.get().attempts == attempt
        assert EMAIL.get().status == ("FAILED" if attempt == MAX_ATTEMPTS else "PENDING")
        time_passes(3600)
    assert send_due(Channel.EMAIL) == 0
    assert EMAIL.get().error == "450 mailbox busy"


def test_a_server_that_is_away_burns_no_attempt(customer, welcome, post_office, time_passes):
    welcome(customer, 3)
    post_office.close()
    for _ in range(MAX_ATTEMPTS + 1):
        assert send_due(Channel.EMAIL) == 0
        time_passes(60)
    assert set(EMAIL.values_list("status", "attempts")) == {("PENDING", 0)}
    outage = Outage.objects.get()
    assert (outage.channel, outage.failures) == ("EMAIL", MAX_ATTEMPTS + 1)
    assert "refused" in outage.error

    post_office.open()
    assert send_due(Channel.EMAIL) == 3
    assert len(set(post_office.ids)) == len(post_office.ids) == 3
    assert not Outage.objects.exists()


def test_a_server_that_is_away_is_left_alone_for_a_while(customer, welcome, post_office):
    welcome(customer)
    post_office.close()
    send_due(Channel.EMAIL)
    post_office.open()
    assert send_due(Channel.EMAIL) == 0
    assert post_office.connections == 0


@pytest.mark.parametrize("answer", ["530 authentication required", "451 not now", "550 not from you"])
def test_that_we_may_not_send_burns_no_attempt(customer, welcome, post_office, time_passes, answer):
    welcome(customer, 2)
    post_office.of_sender = answer
    assert send_due(Channel.EMAIL) == 0
    assert set(EMAIL.values_list("status", "attempts")) == {("PENDING", 0)}
    assert answer[4:] in Outage.objects.get().error
    post_office.of_sender = ""
    time_passes(60)
    assert send_due(Channel.EMAIL) == 2


def test_that_we_cannot_log_in_burns_no_attempt(customer, welcome, post_office, settings):
    welcome(customer)
    settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD = "shop", "secret"
    assert send_due(Channel.EMAIL) == 0
    assert (EMAIL.get().status, EMAIL.get().attempts) == ("PENDING", 0)
    assert "secret" not in Outage.objects.get().error


def test_a_letter_that_is_too_large_is_final(customer, staff, welcome, post_office):
    post_office.of_sender = "552 too large"
    welcome(customer)
    send_due(Channel.EMAIL)
    assert EMAIL.get().status == "FAILED"
    assert not Outage.objects.exists()


@pytest.mark.parametrize("trouble", ["cut", "421 shutting down"])
def test_when_the_connection_breaks_amid_a_batch_the_rest_is_sent_later(
    customer, welcome, post_office, time_passes, trouble
):
    welcome(customer, 5)
    post_office.troubles = ["", "", trouble]
    assert send_due(Channel.EMAIL) == 2
    assert sorted(EMAIL.values_list("status", "attempts")) == [
        ("PENDING", 0),
        ("PENDING", 0),
        ("PENDING", 1),
        ("SENT", 1),
        ("SENT", 1),
    ]
    assert Outage.objects.get().failures == 1
    time_passes(10)
    assert send_due(Channel.EMAIL) == 3
    assert len(set(post_office.ids)) == len(post_office.ids) == 5
    assert not Outage.objects.exists()


def test_one_letter_that_always_breaks_the_connection_does_not_stop_the_others(
    customer, staff, welcome, post_office, time_passes
):
    welcome(customer)
    for _ in range(MAX_ATTEMPTS):
        post_office.troubles = ["cut"]
        assert send_due(Channel.EMAIL) == 0
        time_passes(1)
        welcome(staff)
        assert send_due(Channel.EMAIL) == 1
        assert not Outage.objects.exists()
        time_passes(3600)
    assert EMAIL.get(user=customer).status == "FAILED"


def test_many_letters_that_break_the_connection_keep_no_others_waiting_for_long(
    customer, staff, welcome, post_office, time_passes
):
    welcome(customer, 10)
    welcome(staff, 10)
    post_office.cuts.add(customer.email)
    passes = 0
    while EMAIL.filter(user=staff, status="PENDING").exists():
        send_due(Channel.EMAIL)
        time_passes(LAST_SILENCE_SECONDS)
        passes += 1
        assert passes <= 11
    assert len(set(post_office.ids)) == len(post_office.ids) == 10
    assert set(EMAIL.filter(user=customer).values_list("status", flat=True)) == {"PENDING"}


def test_a_server_that_does_not_answer_for_a_letter_gets_it_again(
    customer, welcome, post_office, settings, time_passes
):
    settings.EMAIL_TIMEOUT = 0.5
    welcome(customer, 2)
    post_office.troubles = ["hang"]
    assert send_due(Channel.EMAIL) == 0
    assert sorted(EMAIL.values_list("status", "attempts")) == [("PENDING", 0), ("PENDING", 1)]
    time_passes(10)
    assert send_due(Channel.EMAIL) == 2


def test_a_server_that_does_not_greet_burns_no_attempt(customer, welcome, post_office, time_passes):
    welcome(customer)
    post_office.of_greeting = "550 go away"
    assert send_due(Channel.EMAIL) == 0
    assert (EMAIL.get().status, EMAIL.get().attempts) == ("PENDING", 0)
    post_office.of_greeting = ""
    time_passes(60)
    assert send_due(Channel.EMAIL) == 1


def test_a_server_that_hangs_up_after_a_refusal_is_called_again_for_the_next_letter(customer, welcome, post_office):
    welcome(customer, 3)
    post_office.troubles = ["554 no and hang up"]
    assert send_due(Channel.EMAIL) == 2
    assert sorted(EMAIL.values_list("status", "attempts")) == [("FAILED", 1), ("SENT", 1), ("SENT", 1)]
    assert post_office.connections == 2
    assert not Outage.objects.exists()


def test_a_password_that_cannot_be_sent_is_an_outage_and_told_nobody(customer, welcome, post_office, settings):
    welcome(customer)
    settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD = "shöp", "sécret"
    assert send_due(Channel.EMAIL) == 0
    assert (EMAIL.get().status, EMAIL.get().attempts) == ("PENDING", 0)
    assert "cret" not in Outage.objects.get().error


def test_without_a_mail_server_emails_go_to_the_log(customer, welcome, settings, caplog):
    settings.EMAIL_IS_SET = False
    [notification] = [row for row in welcome(customer) if row.channel == Channel.EMAIL]
    with caplog.at_level("INFO"):
        assert send_due(Channel.EMAIL) == 1
    [record] = [record for record in caplog.records if record.name == "notifications.channels.log"]
    assert (record.channel, record.to, record.title) == ("EMAIL", "carol@example.com", "Welcome, carol 0")
    assert record.notification_id == str(notification.id)
    assert EMAIL.get().status == "SENT"


def test_who_has_no_address_any_more_is_not_told(customer, welcome, post_office):
    welcome(customer)
    type(customer).objects.update(email="")
    send_due(Channel.EMAIL)
    assert (EMAIL.get().status, post_office.letters) == ("FAILED", [])
