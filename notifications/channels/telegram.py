"""Telegram, by its Bot API (https://core.telegram.org/bots/api). Each address has the token in it: log none."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from html import escape
from http import HTTPStatus
from typing import Any

import httpx
from django.conf import settings

from notifications import texts
from notifications.channels import Down, Message, Refused, Send, Unanswered
from notifications.channels.log import to_log
from notifications.kinds import Channel

# How long to wait for a connection, and for an answer.
TIMEOUT_SECONDS = 10.0
# A message has 4,096 UTF-16 units after its tags are taken off. So long may each text of a person be in it, in
# characters of up to two units; there are never more than six of them, beside a few hundred of ours.
LONGEST_TEXT = 250
# The token is wrong: of that Telegram says "Unauthorized", or "Not Found", whatever the message.
WRONG_TOKEN = {HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND}
# What is waited for where Telegram says that there was too much, but not for how long to stop.
PAUSE_SECONDS = 5.0
# Longer than it ever wants.
LONGEST_PAUSE_SECONDS = 86_400.0


@contextmanager
def way() -> Iterator[Send]:
    """Give what sends messages to chats; the connection is kept from one batch to the next.

    Raises:
        Down: there can be no connection, by the settings of this machine.
    """
    if not settings.TELEGRAM_BOT_TOKEN:
        yield to_log(Channel.TELEGRAM)
        return
    address = f"{settings.TELEGRAM_API_URL}/bot{settings.TELEGRAM_BOT_TOKEN}"
    try:
        http = client(address)
    except Exception as error:
        # A proxy's address that cannot be read, or that wants a library.
        raise Down(told(error)) from None
    yield lambda message: send(http, message)


@lru_cache(maxsize=1)
def client(address: str) -> httpx.Client:
    """Return the client of this process."""
    return httpx.Client(base_url=address, timeout=TIMEOUT_SECONDS)


def send(http: httpx.Client, message: Message) -> None:
    """Send a message to a chat.

    Raises:
        Refused: the chat or the message is not taken, and never will be.
        Unanswered: nobody knows whether it was.
        Down: the bot is to be quiet for a while, cannot reach Telegram, or has no valid token.
    """
    if not message.address:
        to_log(Channel.TELEGRAM)(message)
        return
    body = {
        "chat_id": message.address,
        "text": html(message),
        "parse_mode": "HTML",
        "link_preview_options": {"is_disabled": True},
    }
    try:
        answer = http.post("/sendMessage", json=body)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
        # Nobody has heard of the message.
        raise Down(told(error)) from None
    except httpx.HTTPError as error:
        raise Unanswered(told(error)) from None
    judge(answer)


def judge(answer: httpx.Response) -> None:
    """Raise what `send` raises, unless an answer says that the message was taken."""
    document = content(answer)
    status = answer.status_code
    description = f"{status} {document.get('description', '')}".strip()
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise Down(description, pause_of(answer, document))
    if status in WRONG_TOKEN:
        raise Down(description)
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        raise Refused(description)
    if status != HTTPStatus.OK or document.get("ok") is not True:
        raise Unanswered(description)


def content(answer: httpx.Response) -> dict[str, Any]:
    """Return the JSON object of an answer; an empty one where there is none."""
    try:
        document = answer.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def pause_of(answer: httpx.Response, document: dict[str, Any]) -> float:
    """Return for how many seconds the bot is to send nothing, to no chat."""
    parameters = document.get("parameters")
    said: Any = parameters.get("retry_after") if isinstance(parameters, dict) else None
    try:
        seconds = float(answer.headers["Retry-After"] if said is None else said)
    except (KeyError, TypeError, ValueError, OverflowError):
        return PAUSE_SECONDS
    return min(seconds, LONGEST_PAUSE_SECONDS) if seconds > 0 else PAUSE_SECONDS


def html(message: Message) -> str:
    """Return a message in Telegram's HTML. What people have written is cut where it is long, and is never a tag."""
    text = message.text
    [reference] = texts.words(message.language, texts.REFERENCE)
    lines = [f"{label}: {shown(value)}" for label, value in text.facts]
    return "\n".join(
        [
            f"<b>{shown(text.title)}</b>",
            shown(text.body),
            "",
            *lines,
            f"{reference}: <code>{message.id}</code>",
        ]
    )


def shown(text: str) -> str:
    """Return a text as it may stand in the HTML."""
    return escape(text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…", quote=False)


def told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".replace(settings.TELEGRAM_BOT_TOKEN, "…")
