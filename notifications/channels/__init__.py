"""Where messages are sent. Each module here is a channel: it opens a way for a batch, and sends one by one over it.

What a channel makes of an answer is one of four exceptions, or none; notifications/sending.py does what they say.
"""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from notifications.texts import Text


@dataclass(frozen=True)
class Message:
    """A notification on its way. Each time it is sent it has the same `id`, by which its receiver knows a repeat."""

    id: UUID
    event_id: UUID
    # An e-mail address, or the id of a chat. Empty: the operators have none.
    address: str
    language: str
    text: Text


# Sends a message. Blocks until it is answered for; raises what stands below.
Send = Callable[[Message], None]


class Refused(Exception):
    """The message will never be taken."""


class Unsent(Exception):
    """The message was not taken this time, or nobody knows whether it was. Others may be."""


class Unanswered(Unsent):
    """Likewise, and who did not answer for this one will hardly answer for others now."""


class Down(Exception):
    """The channel takes nothing, whatever the message. `seconds`: for how long, if it said so."""

    def __init__(self, error: str, seconds: float | None = None) -> None:
        super().__init__(error)
        self.seconds = seconds
