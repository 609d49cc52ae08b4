"""What is being handled right now: what a handler logs and publishes belongs to the events that it handles."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from outbox.record import Reading


@dataclass(frozen=True)
class Handling:
    """The events with which a group's handler is called."""

    group: str
    readings: Sequence[Reading] = field(default=())


_handling: ContextVar[Handling | None] = ContextVar("outbox_handling", default=None)


@contextmanager
def handling(group: str, readings: Sequence[Reading]) -> Iterator[None]:
    """Let what the block logs and publishes tell of these events."""
    token = _handling.set(Handling(group, readings))
    try:
        yield
    finally:
        _handling.reset(token)


def new_traceparent() -> str:
    """Return a W3C Trace Context of a new trace: version, trace id, parent id, sampled."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
