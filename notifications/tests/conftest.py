"""Servers that take messages, and people who are told something."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F
from uuid_utils.compat import uuid7

from accounts.models import User
from notifications import services
from notifications.channels import telegram
from notifications.kinds import Kind
from notifications.models import Notification, Outage
from notifications.services import Notice
from notifications.tests.bot_api import TOKEN, Bot, open_bot
from notifications.tests.post_office import PostOffice, open_post_office


@pytest.fixture
def post_office(settings: Any) -> Iterator[PostOffice]:
    """A mail server, to which e-mails are sent."""
    with open_post_office() as office:
        settings.EMAIL_IS_SET = True
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", office.port
        settings.EMAIL_FROM = "Orderbox <orders@shop.example>"
        yield office


@pytest.fixture
def bot(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bot]:
    """A bot, by whom messages are sent to chats. It is not waited for for long."""
    bot = Bot()
    monkeypatch.setattr(telegram, "TIMEOUT_SECONDS", 1.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with open_bot(bot) as address:
        settings.TELEGRAM_API_URL, settings.TELEGRAM_BOT_TOKEN = address, TOKEN
        settings.TELEGRAM_CHAT_ID = "-100200300"
        yield bot
    telegram.client.cache_clear()


@pytest.fixture
def chatting(customer: User) -> User:
    """A customer who has linked a chat."""
    customer.telegram_chat_id = "4711"
    customer.save()
    return customer


@pytest.fixture
def welcome() -> Callable[..., list[Notification]]:
    """Return a function that welcomes a user so many times, each of an event of its own, by the channels they have."""

    def make(user: User, times: int = 1) -> list[Notification]:
        notices = [
            Notice(uuid7(), user.pk, Kind.WELCOME, context={"username": f"{user.username} {number}"})
            for number in range(times)
        ]
        services.notify(notices=notices)
        return list(Notification.objects.filter(event_id__in=[notice.event_id for notice in notices]))

    return make


@pytest.fixture
def time_passes() -> Callable[[float], None]:
    """Return a function that lets leases, pauses and outages be so many seconds older."""

    def pass_by(seconds: float) -> None:
        span = timedelta(seconds=seconds)
        Notification.objects.filter(status="PENDING").update(due_at=F("due_at") - span)
        Outage.objects.update(paused_until=F("paused_until") - span)

    return pass_by
