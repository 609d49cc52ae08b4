"""A mail server that takes letters, or behaves as others do that do not."""

from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller

from devstack import ports


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
        # What is answered to the next letters, when they were handed in; "cut": the connection breaks before an answer.
        self.troubles: list[str] = []
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
        return responses

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        if self.of_sender:
            return self.of_sender
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        if answer := self.of_address.get(address):
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        trouble = self.troubles.pop(0) if self.troubles else ""
        if trouble == "cut":
            server.transport.abort()
            return "421 cut"
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
