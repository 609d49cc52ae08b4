"""A mail server that takes letters, or behaves as others do that do not."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller

from devstack import ports

HANG_UP = " and hang up"


class PostOffice:
    """What was handed in, and how the server behaves."""

    def __init__(self, port: int) -> None:
        self.port = port
        # Each letter as often as it was handed in.
        self.letters: list[EmailMessage] = []
        self.connections = 0
        # What is answered to a letter for an address.
        self.of_address: dict[str, str] = {}
        # What is answered to the sender, whoever that is.
        self.of_sender = ""
        # Addresses of which it breaks the connection as soon as it hears of them.
        self.cuts: set[str] = set()
        # What is answered to who greets.
        self.of_greeting = ""
        # What is answered to the next letters, when they were handed in; "cut": the connection breaks before an answer;
        # "hang": there is none; "… and hang up": it breaks after this answer.
        self.troubles: list[str] = []
        # Called with each letter before it is answered for.
        self.looks: Callable[[], None] = lambda: None
        self._controller: Controller | None = None

    @property
    def ids(self) -> list[str]:
        """The Message-ID of each letter."""
        return [letter["Message-ID"] for letter in self.letters]

    def open(self) -> None:
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self._controller.start()

    def close(self) -> None:
        if self._controller:
            self._controller.stop()
            self._controller = None

    # ── What aiosmtpd asks ──

    async def handle_EHLO(self, server: Any, session: Any, envelope: Any, hostname: str, responses: list[str]) -> Any:
        self.connections += 1
        session.host_name = hostname
        return [self.of_greeting] if self.of_greeting else responses

    async def handle_HELO(self, server: Any, session: Any, envelope: Any, hostname: str) -> str:
        session.host_name = hostname
        return self.of_greeting or "250 welcome"

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        if self.of_sender:
            return self.of_sender
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        if address in self.cuts:
            server.transport.abort()
        if answer := self.of_address.get(address):
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        trouble = self.troubles.pop(0) if self.troubles else ""
        if trouble == "cut":
            server.transport.abort()
            return "421 cut"
        if trouble == "hang":
            await asyncio.Event().wait()
        if trouble.endswith(HANG_UP):
            asyncio.get_running_loop().call_soon(server.transport.close)
            return trouble.removesuffix(HANG_UP)
        self.looks()
        if not trouble:
            self.letters.append(message_from_bytes(envelope.content, policy=policy.default))
        return trouble or "250 OK"


@contextmanager
def open_post_office() -> Iterator[PostOffice]:
    office = PostOffice(ports.choose(taken=set()))
    office.open()
    try:
        yield office
    finally:
        office.close()
