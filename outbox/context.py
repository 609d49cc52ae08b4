"""What is being handled right now: what a handler logs and publishes belongs to the events that it handles.

Traces are W3C Trace Context (https://www.w3.org/TR/trace-context/). A trace goes from a request's header `traceparent`
to the events that the request publishes, through outbox and Kafka to the handlers of these, and to what they publish.
"""

import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property

from outbox.record import Reading

# Version, trace id, parent id, flags; what comes after them only a version above 00 may have.
TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
SAMPLED = 0x01
# Sampled, and random trace id. What the others mean is not known here, and so they are not passed on.
KNOWN_FLAGS = 0x03


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace that work belongs to."""

    trace_id: str
    flags: int = SAMPLED

    @classmethod
    def new(cls) -> "Trace":
        return cls(secrets.token_hex(16))

    @classmethod
    def of(cls, traceparent: str | bytes | None) -> "Trace | None":
        """Return the trace that a `traceparent` names, or None where there is none, or one that is not valid."""
        if isinstance(traceparent, bytes):
            traceparent = traceparent.decode(errors="replace")
        match = TRACEPARENT.fullmatch(traceparent or "")
        if match is None:
            return None
        version, trace_id, parent_id, flags, rest = match.groups()
        if version == "ff" or (version == "00" and rest) or not int(trace_id, 16) or not int(parent_id, 16):
            return None
        return cls(trace_id, int(flags, 16) & KNOWN_FLAGS)

    def traceparent(self, parent_id: str) -> str:
        return f"00-{self.trace_id}-{parent_id}-{self.flags:02x}"


@dataclass(frozen=True)
class Handling:
    """The events with which a group's handler is called."""

    group: str
    readings: Sequence[Reading] = field(default=())

    @cached_property
    def _traces(self) -> dict[bytes | None, Trace]:
        """The trace of each key: that of its last event, as the handler saw all of them."""
        return {reading.record.key: _trace_of(reading) for reading in self.readings}

    @cached_property
    def _first(self) -> Trace:
        return self._traces[self.readings[0].record.key] if self.readings else Trace.new()

    def trace(self, key: bytes) -> Trace:
        """Return the trace of what is published under a key: of the event with that key, else of the first one."""
        return self._traces.get(key, self._first)

    @cached_property
    def log_fields(self) -> dict[str, object]:
        """What a log line is to tell: of one event all that identifies it, of several how many they are."""
        if len(self.readings) != 1:
            return {"group": self.group, "events": len(self.readings)}
        [reading] = self.readings
        return {
            "group": self.group,
            "event_id": str(reading.event_id),
            "event_type": reading.event_type,
            "key": (reading.record.key or b"").decode(errors="backslashreplace"),
            "topic": reading.record.topic,
            "partition": reading.record.partition,
            "offset": reading.record.offset,
            "trace_id": self._first.trace_id,
        }


def _trace_of(reading: Reading) -> Trace:
    return Trace.of(dict(reading.record.headers or []).get("traceparent")) or Trace.new()


_handling: ContextVar[Handling | None] = ContextVar("outbox_handling", default=None)
_heartbeat: ContextVar[Callable[[], None]] = ContextVar("outbox_heartbeat", default=lambda: None)
_trace: ContextVar[Trace | None] = ContextVar("outbox_trace", default=None)


@contextmanager
def handling(group: str, readings: Sequence[Reading]) -> Iterator[None]:
    """Let what the block logs and publishes tell of these events. It is a sign of life, too, since a batch has many."""
    _heartbeat.get()()
    token = _handling.set(Handling(group, readings))
    try:
        yield
    finally:
        _handling.reset(token)


@contextmanager
def beating(heartbeat: Callable[[], None]) -> Iterator[None]:
    """Let each call of a handler in the block give this sign of life."""
    token = _heartbeat.set(heartbeat)
    try:
        yield
    finally:
        _heartbeat.reset(token)


@contextmanager
def tracing(traceparent: str | None) -> Iterator[Trace]:
    """Let what the block logs and publishes belong to a trace: the one that is named, or else a new one."""
    trace = Trace.of(traceparent) or Trace.new()
    token = _trace.set(trace)
    try:
        yield trace
    finally:
        _trace.reset(token)


def traceparents(keys: Sequence[bytes]) -> list[str]:
    """Return the `traceparent` of each event that is published now, given their keys.

    Of the events in hand it continues the trace; else that of the `tracing` block; else they begin a new one together.
    """
    # The parent of whatever follows from these events: this one act of publishing.
    parent_id = secrets.token_hex(8)
    if handled := _handling.get():
        return [handled.trace(key).traceparent(parent_id) for key in keys]
    traceparent = (_trace.get() or Trace.new()).traceparent(parent_id)
    return [traceparent] * len(keys)


def log_fields() -> dict[str, object]:
    """Return what a line that is logged now is to tell of the events in hand, or of the trace."""
    if handled := _handling.get():
        return handled.log_fields
    trace = _trace.get()
    return {"trace_id": trace.trace_id} if trace else {}
