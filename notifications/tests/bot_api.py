"""A server that behaves as Telegram's Bot API: https://core.telegram.org/bots/api#making-requests"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Lock
from typing import Any

from tests.serving import serving

TOKEN = "123456:AAF-a_token_that_must_not_be_told"
GATEWAY_TROUBLE = (502, b"<html>Bad Gateway</html>")


class Bot:
    """What the bot was asked, and how it behaves."""

    def __init__(self) -> None:
        # Each message that was taken, as often as it was.
        self.messages: list[dict[str, Any]] = []
        # How often something was asked, whatever the answer.
        self.asked = 0
        # What is answered for a chat: a status, and its description.
        self.of_chat: dict[str, tuple[int, str]] = {}
        # What is answered next, to whatever: a status and a document; "cut", "lost" (taken, but cut then), "hang".
        self.troubles: list[tuple[int, Any] | str] = []
        self.lets_go = Event()
        self._lock = Lock()

    @property
    def texts(self) -> list[str]:
        return [message["text"] for message in self.messages]

    def answer(self, path: str, body: bytes) -> tuple[int, bytes] | None:
        assert path == f"/bot{TOKEN}/sendMessage"
        message = json.loads(body)
        with self._lock:
            self.asked += 1
            trouble = self.troubles.pop(0) if self.troubles else None
        match trouble:
            case "hang":
                self.lets_go.wait(60)
                return None
            case "cut":
                return None
            case (int(status), bytes(content)):
                return status, content
            case (int(status), document):
                return status, json.dumps(document).encode()
        if message["chat_id"] in self.of_chat:
            status, description = self.of_chat[message["chat_id"]]
            document = {"ok": False, "error_code": status, "description": description}
            return status, json.dumps(document).encode()
        with self._lock:
            self.messages.append(message)
        return None if trouble == "lost" else (200, b'{"ok": true, "result": {"message_id": 1}}')


@contextmanager
def open_bot(bot: Bot) -> Iterator[str]:
    """Let a bot answer on a port of its own; gives its address."""
    with serving(bot.answer) as address:
        try:
            yield address
        finally:
            bot.lets_go.set()
