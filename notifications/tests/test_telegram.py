"""Messages to chats, by a server of the test's own that behaves as the Bot API."""

import logging
import socket
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone
from uuid_utils.compat import uuid7

from notifications import services
from notifications.channels import Message, telegram
from notifications.channels.telegram import html
from notifications.kinds import Channel, Kind
from notifications.models import Notification, Outage
from notifications.samples import CONTEXTS, EVENT_ID, NOTIFICATION_ID, SUBJECT_ID
from notifications.sending import send_due
from notifications.services import MAX_ATTEMPTS, Notice, Paid
from notifications.tests.bot_api import GATEWAY_TROUBLE, TOKEN
from notifications.texts import write

pytestmark = pytest.mark.django_db

TELEGRAM = Notification.objects.filter(channel=Channel.TELEGRAM)
TOO_MANY = (429, {"ok": False, "description": "Too Many Requests: retry after 7", "parameters": {"retry_after": 7}})


def test_a_payment_is_told_to_the_customers_chat_and_to_the_operators(chatting, bot):
    order_id, at = uuid7(), datetime(2026, 11, 28, 19, 15, 42, tzinfo=UTC)
    chatting.username = "carol <b>"
    chatting.save()
    services.tell_of_payments(payments=[Paid(uuid7(), order_id, chatting.pk, "37.80", "USD", at)])
    assert send_due(Channel.TELEGRAM) == 2
    told = {message["chat_id"]: message for message in bot.messages}
    assert told.keys() == {"4711", "-100200300"}
    for message in told.values():
        assert message["parse_mode"] == "HTML"
        assert f"Order: {order_id}\nAmount: 37.80 USD\n" in message["text"]
        assert "Time: 2026-11-28 19:15 UTC" in message["text"]
    assert "Customer: carol &lt;b&gt;" in told["-100200300"]["text"]
    assert "carol" not in told["4711"]["text"]
    for notification in TELEGRAM.all():
        assert any(f"<code>{notification.id}</code>" in text for text in bot.texts)


def test_who_has_linked_no_chat_is_told_nothing_there(customer, welcome, bot):
    welcome(customer)
    assert send_due(Channel.TELEGRAM) == 0
    assert not TELEGRAM.exists()


def test_the_whole_bot_is_quiet_for_as_long_as_telegram_wants(chatting, welcome, bot, time_passes):
    welcome(chatting, 3)
    bot.troubles = [TOO_MANY]
    assert send_due(Channel.TELEGRAM) == 0
    assert bot.asked == 1
    assert set(TELEGRAM.values_list("status", "attempts")) == {("PENDING", 0)}
    time_passes(5)
    assert send_due(Channel.TELEGRAM) == 0
    assert bot.asked == 1
    time_passes(3)
    assert send_due(Channel.TELEGRAM) == 3
    assert len(set(bot.texts)) == len(bot.texts) == 3


@pytest.mark.parametrize(
    "document", [{}, {"parameters": {}}, {"parameters": None}, {"parameters": {"retry_after": "soon"}}, ["no object"]]
)
def test_the_bot_is_quiet_even_where_telegram_does_not_say_for_how_long(chatting, welcome, bot, time_passes, document):
    welcome(chatting)
    bot.troubles = [(429, document)]
    assert send_due(Channel.TELEGRAM) == 0
    assert Outage.objects.is_paused(Channel.TELEGRAM)
    time_passes(telegram.PAUSE_SECONDS)
    assert send_due(Channel.TELEGRAM) == 1


@pytest.mark.parametrize(
    ("status", "description"),
    [(400, "Bad Request: chat not found"), (403, "Forbidden: bot was blocked by the user"), (413, "too large")],
)
def test_what_telegram_will_never_take_is_final(chatting, staff, welcome, bot, status, description):
    staff.telegram_chat_id = "42"
    staff.save()
    welcome(chatting)
    bot.of_chat["4711"] = (status, description)
    send_due(Channel.TELEGRAM)
    welcome(staff)
    assert send_due(Channel.TELEGRAM) == 1
    refused = TELEGRAM.get(user=chatting)
    assert (refused.status, refused.error, refused.attempts) == ("FAILED", f"{status} {description}", 1)
    assert not Outage.objects.exists()


@pytest.mark.parametrize(
    "trouble",
    [(500, {"ok": False, "description": "Internal"}), GATEWAY_TROUBLE, (200, {"ok": False}), "hang", "cut"],
    ids=["500", "502", "not ok", "hang", "cut"],
)
def test_what_telegram_gives_no_answer_to_is_sent_again(chatting, welcome, bot, time_passes, trouble):
    welcome(chatting, 2)
    bot.troubles = [trouble]
    assert send_due(Channel.TELEGRAM) == 0
    assert sorted(TELEGRAM.values_list("status", "attempts")) == [("PENDING", 0), ("PENDING", 1)]
    time_passes(10)
    assert send_due(Channel.TELEGRAM) == 2
    assert len(set(bot.texts)) == len(bot.texts) == 2
    assert not Outage.objects.exists()


def test_what_was_taken_without_an_answer_is_known_by_its_reference(chatting, welcome, bot, time_passes):
    welcome(chatting)
    bot.troubles = ["lost"]
    send_due(Channel.TELEGRAM)
    time_passes(10)
    send_due(Channel.TELEGRAM)
    first, second = bot.texts
    assert first == second
    assert str(TELEGRAM.get().id) in first


def test_what_is_never_answered_fails_in_the_end(chatting, welcome, bot, time_passes):
    welcome(chatting)
    bot.troubles = [GATEWAY_TROUBLE] * MAX_ATTEMPTS
    for _ in range(MAX_ATTEMPTS):
        assert TELEGRAM.get().status == "PENDING"
        send_due(Channel.TELEGRAM)
        time_passes(3600)
    assert TELEGRAM.get().status == "FAILED"


@pytest.mark.parametrize("said", [1e12, "1e400", -5, "nan", True, {"seconds": 1}])
def test_the_bot_is_quiet_for_a_bearable_time_whatever_telegram_says(chatting, welcome, bot, said):
    welcome(chatting)
    bot.troubles = [(429, {"parameters": {"retry_after": said}})]
    assert send_due(Channel.TELEGRAM) == 0
    until = Outage.objects.get().paused_until
    assert timezone.now() < until < timezone.now() + timedelta(days=1, minutes=1)


@pytest.mark.parametrize("words", ["no\0pe", "\ud800", "x" * 100_000])
def test_whatever_telegram_answers_is_recorded_and_keeps_no_other_waiting(chatting, staff, welcome, bot, words):
    welcome(chatting)
    welcome(chatting)
    bot.troubles = [(400, {"ok": False, "description": words})]
    assert send_due(Channel.TELEGRAM) == 1
    assert sorted(TELEGRAM.values_list("status", flat=True)) == ["FAILED", "SENT"]
    welcome(chatting)
    bot.troubles = [(401, {"ok": False, "description": words})]
    assert send_due(Channel.TELEGRAM) == 0
    assert Outage.objects.get().error.startswith("401")


def test_telegram_that_cannot_be_reached_burns_no_attempt(chatting, welcome, bot, settings, time_passes):
    welcome(chatting)
    with socket.socket() as server, ExitStack() as callers:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(2):
            # They fill the line, so that the next one hears nothing, as behind a firewall.
            caller = callers.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(server.getsockname())
        settings.TELEGRAM_API_URL = f"http://127.0.0.1:{server.getsockname()[1]}"
        for _ in range(2):
            assert send_due(Channel.TELEGRAM) == 0
            assert (TELEGRAM.get().status, TELEGRAM.get().attempts) == ("PENDING", 0)
            time_passes(60)
    assert "ConnectTimeout" in Outage.objects.get().error


def test_a_proxy_that_cannot_be_used_burns_no_attempt(chatting, welcome, bot, monkeypatch):
    welcome(chatting)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    assert send_due(Channel.TELEGRAM) == 0
    assert (TELEGRAM.get().status, TELEGRAM.get().attempts) == ("PENDING", 0)
    assert Outage.objects.exists()


@pytest.mark.parametrize("status", [401, 404])
def test_a_wrong_token_burns_no_attempt(chatting, welcome, bot, time_passes, status):
    welcome(chatting, 2)
    bot.troubles = [(status, {"ok": False, "description": "Unauthorized"})]
    assert send_due(Channel.TELEGRAM) == 0
    assert set(TELEGRAM.values_list("status", "attempts")) == {("PENDING", 0)}
    time_passes(60)
    assert send_due(Channel.TELEGRAM) == 2


def test_telegram_that_is_away_burns_no_attempt(chatting, welcome, bot, settings, time_passes):
    welcome(chatting)
    there, settings.TELEGRAM_API_URL = settings.TELEGRAM_API_URL, "http://127.0.0.1:1"
    assert send_due(Channel.TELEGRAM) == 0
    assert (TELEGRAM.get().status, TELEGRAM.get().attempts) == ("PENDING", 0)
    settings.TELEGRAM_API_URL = there
    time_passes(60)
    assert send_due(Channel.TELEGRAM) == 1


def test_the_token_is_in_no_log_and_in_no_error(chatting, welcome, bot, settings, time_passes, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    troubles = ["hang", "cut", GATEWAY_TROUBLE, TOO_MANY, (401, {}), (400, {"description": "no"})]
    for trouble in troubles:
        welcome(chatting)
        bot.troubles = [trouble]
        send_due(Channel.TELEGRAM)
        time_passes(3600)
    settings.TELEGRAM_API_URL = "http://127.0.0.1:1"
    send_due(Channel.TELEGRAM)
    assert caplog.records
    said = [caplog.text, *capfd.readouterr()]
    said += [*TELEGRAM.values_list("error", flat=True), *Outage.objects.values_list("error", flat=True)]
    assert not [text for text in said if TOKEN in text]


def test_without_a_bot_messages_go_to_the_log(chatting, welcome, settings, caplog):
    settings.TELEGRAM_BOT_TOKEN = ""
    welcome(chatting)
    with caplog.at_level("INFO"):
        assert send_due(Channel.TELEGRAM) == 1
    assert [record.to for record in caplog.records if record.name == "notifications.channels.log"] == ["4711"]


def test_without_a_chat_of_the_operators_theirs_go_to_the_log(customer, bot, settings, caplog):
    settings.TELEGRAM_CHAT_ID = ""
    services.notify(notices=[Notice(uuid7(), None, Kind.PAYMENT_SUCCEEDED, uuid7(), CONTEXTS[Kind.PAYMENT_SUCCEEDED])])
    with caplog.at_level("INFO"):
        assert send_due(Channel.TELEGRAM) == 1
    assert [record.to for record in caplog.records if record.name == "notifications.channels.log"] == ["operators"]
    assert bot.asked == 0


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("written", ["&" * 20_000, "<b>" * 10_000, "😀" * 10_000, "</b></code>\n\n"])
def test_whatever_people_write_breaks_no_message_and_makes_none_too_long(kind, language, written):
    names = {
        name: value if name in ("at", "reason") else written
        for name, value in {**CONTEXTS[kind], "customer": written}.items()
    }
    text = write(kind, names, subject_id=SUBJECT_ID, language=language)
    message = html(Message(NOTIFICATION_ID, EVENT_ID, "4711", language, text))
    bare = message
    for tag in ("<b>", "</b>", "<code>", "</code>"):
        # Ours, and no other.
        assert bare.count(tag) == 1
        bare = bare.replace(tag, "")
    assert "<" not in bare
    assert ">" not in bare
    shown = bare.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert len(shown.encode("utf-16-le")) // 2 <= 4096
