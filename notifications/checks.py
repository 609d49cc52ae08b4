"""System checks: what a person can misconfigure about notifications, said before anything runs."""

import re
from email.utils import parseaddr
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from outbox import conf


@register()
def check_telegram(**kwargs: Any) -> list[CheckMessage]:
    """Check the bot's token and address. The token itself is told nobody."""
    found: list[CheckMessage] = []
    if not re.fullmatch(r"[A-Za-z0-9:_-]*", settings.TELEGRAM_BOT_TOKEN):
        hint = "Copy it from @BotFather: digits, a colon, and letters, digits, - and _."
        found.append(Error("TELEGRAM_BOT_TOKEN is no token of a bot.", hint=hint, id="notifications.E001"))
    address = urlsplit(settings.TELEGRAM_API_URL)
    if address.scheme not in ("http", "https") or not address.netloc:
        found.append(
            Error(
                f"TELEGRAM_API_URL is {settings.TELEGRAM_API_URL!r}, which is no address.",
                hint="Leave it out for https://api.telegram.org, or name a server of your own in full.",
                id="notifications.E002",
            )
        )
    if settings.TELEGRAM_CHAT_ID and not settings.TELEGRAM_BOT_TOKEN:
        hint = "Set TELEGRAM_BOT_TOKEN, or leave out TELEGRAM_CHAT_ID."
        message = "TELEGRAM_CHAT_ID is set, but there is no bot: messages for the operators go to the log."
        found.append(Warning(message, hint=hint, id="notifications.W001"))
    return found


@register()
def check_mail_server(**kwargs: Any) -> list[CheckMessage]:
    """Check that the mail server's address could be read. It has a password in it, and is told nobody."""
    if settings.EMAIL_IS_READABLE:
        return []
    return [
        Error(
            "EMAIL_URL is no address of a mail server.",
            hint="Write smtp+tls://user:password@host:587, with /, #, @ and : of the password percent-encoded.",
            id="notifications.E005",
        )
    ]


@register()
def check_sender(**kwargs: Any) -> list[CheckMessage]:
    """Check from whom e-mails are."""
    name, _, domain = parseaddr(settings.EMAIL_FROM)[1].rpartition("@")
    if name and domain and "\n" not in settings.EMAIL_FROM:
        return []
    return [
        Error(
            f"EMAIL_FROM is {settings.EMAIL_FROM!r}, which is no e-mail address.",
            hint="Set it to an address, or to a name and an address: Orderbox <orders@example.com>.",
            id="notifications.E003",
        )
    ]


@register()
def check_retention(**kwargs: Any) -> list[CheckMessage]:
    """Check that a notification is remembered for as long as its event may come again."""
    shortest = conf.get("INBOX_RETENTION_DAYS")
    if shortest <= settings.NOTIFICATION_RETENTION_DAYS:
        return []
    return [
        Error(
            f"NOTIFICATION_RETENTION_DAYS is {settings.NOTIFICATION_RETENTION_DAYS}.",
            hint=f"Set it to {shortest} or more: for so long an event may come again, and is not to be told again.",
            id="notifications.E004",
        )
    ]
