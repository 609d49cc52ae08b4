"""What an event is: its topic, its class, its envelope, and how both become bytes and are read again."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar, TypeVar
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

DAY_MS = 24 * 60 * 60 * 1000


class InvalidEvent(ValueError):
    """An event that does not fit its class, or is larger than Kafka would take."""


class Unreadable(ValueError):
    """Bytes that are no valid event: no valid envelope, an unknown version, or data that do not fit the class."""


@dataclass(frozen=True)
class Topic:
    """A Kafka topic as `create_topics` makes it. `name` is without the installation's prefix."""

    name: str
    partitions: int = 6
    retention_ms: int = 7 * DAY_MS
    cleanup_policy: str = "delete"
    # None: the broker's default.
    max_message_bytes: int | None = None


class EventMeta(msgspec.StructMeta):
    """Takes an event class's topic, type, version and key from its class statement."""

    def __new__(
        mcls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        topic: Topic | None = None,
        type: str = "",
        key: str = "",
        version: int = 1,
    ) -> Any:
        cls: Any = super().__new__(mcls, name, bases, namespace, frozen=True, kw_only=True, rename="camel", dict=True)
        if topic is None:
            if any(isinstance(base, mcls) for base in bases):
                raise TypeError(f"{name}: an event class states its topic, type and key")
            return cls
        if key not in cls.__struct_fields__:
            raise TypeError(f"{name}: the key {key!r} is none of its fields")
        if reserved := {"event_id", "occurred_at"} & set(cls.__struct_fields__):
            raise TypeError(f"{name}: {reserved.pop()} is part of the envelope")
        cls.topic, cls.type, cls.key_field, cls.version = topic, type, key, version
        event_classes.append(cls)
        return cls


# Every event class of the project, in the order of definition.
event_classes: list[type["Event"]] = []


class Event(msgspec.Struct, metaclass=EventMeta):
    """A past-tense fact. Subclass it with `topic=`, `type=`, `key=` (a field's name) and, later, `version=`.

    Each instance has an `event_id` (UUIDv7), and `occurred_at` tells when it was constructed; one that was read has
    those of its envelope. In JSON the fields are in camelCase.
    """

    topic: ClassVar[Topic]
    type: ClassVar[str]
    version: ClassVar[int]
    key_field: ClassVar[str]

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, Decimal) and not value.is_finite():
                raise ValueError(f"{name} is {value}")
        self.__dict__["made_at"] = time.time()

    # Both are made when they are asked for: msgspec makes an instance for each event that it reads or checks, too.

    @property
    def event_id(self) -> UUID:
        made = self.__dict__
        return made["event_id"] if "event_id" in made else made.setdefault("event_id", uuid7())

    @property
    def occurred_at(self) -> datetime:
        made = self.__dict__
        return made["occurred_at"] if "occurred_at" in made else datetime.fromtimestamp(made["made_at"], UTC)

    @property
    def key(self) -> str:
        """The aggregate's id: Kafka's key."""
        return str(getattr(self, self.key_field))


AnyEvent = TypeVar("AnyEvent", bound=Event)

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

# By event class and the version from which each leads to the next one.
_upcasters: dict[type[Event], dict[int, Upcaster]] = {}


def upcasts(event_class: type[Event], *, version: int) -> Callable[[Upcaster], Upcaster]:
    """Make the decorated function the way from `version` of an event to the next one, so that old ones can be read.

    It takes the `data` of the envelope as decoded JSON, names in camelCase, and returns those of version + 1. It asks
    nothing but them: what it raises, dead-letters the event.

    Raises:
        ValueError: there is one for that version already, or that version has no next one.
    """
    if not 1 <= version < event_class.version:
        raise ValueError(f"{event_class.type} has version {event_class.version}: nothing follows on {version}")

    def register(function: Upcaster) -> Upcaster:
        steps = _upcasters.setdefault(event_class, {})
        if version in steps:
            raise ValueError(f"version {version} of {event_class.type} is upcast already")
        steps[version] = function
        return function

    return register


def upcast_versions(event_class: type[Event]) -> set[int]:
    """Return the versions of an event from which an upcaster leads to the next one."""
    return set(_upcasters.get(event_class, {}))


class Envelope(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The value of a record, with the event's own fields still undecoded in `data`."""

    event_id: UUID
    event_type: str
    version: int
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)]
    data: msgspec.Raw


def encode(event: Event) -> bytes:
    """Return the record value of an event.

    Raises:
        InvalidEvent: a field has not the type that the class states, or cannot be written as JSON.
    """
    try:
        fields = msgspec.json.encode(event)
        # msgspec checks types when it reads, not when an instance is made.
        msgspec.json.decode(fields, type=type(event))
    except (ValueError, TypeError) as error:
        raise InvalidEvent(f"{type(event).__name__}: {error}") from error
    return msgspec.json.encode(
        Envelope(
            event_id=event.event_id,
            event_type=event.type,
            version=event.version,
            timestamp=event.occurred_at,
            data=msgspec.Raw(fields),
        )
    )


def read_envelope(value: bytes | None) -> Envelope:
    """Return the envelope of a record value.

    Raises:
        Unreadable: there is none.
    """
    if value is None:
        raise Unreadable("the value is null")
    try:
        value.decode()
        envelope = msgspec.json.decode(value, type=Envelope)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"no valid envelope: {error}") from error
    try:
        return msgspec.structs.replace(envelope, timestamp=envelope.timestamp.astimezone(UTC))
    except OverflowError as error:
        raise Unreadable(f"no valid envelope: the timestamp {envelope.timestamp} is none in UTC") from error


def read_event(envelope: Envelope, cls: type[AnyEvent]) -> AnyEvent:
    """Return the event in an envelope as an instance of `cls`, of an older version if upcasters lead to that of `cls`.

    Raises:
        Unreadable: its version is not that of `cls`, and nothing leads there, or its data do not fit.
    """
    fields: bytes | msgspec.Raw = envelope.data if envelope.version == cls.version else _upcast(envelope, cls)
    try:
        event = msgspec.json.decode(fields, type=cls)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"the data are no {cls.type}: {error}") from error
    event.__dict__["event_id"] = envelope.event_id
    event.__dict__["occurred_at"] = envelope.timestamp
    return event


def _upcast(envelope: Envelope, cls: type[Event]) -> bytes:
    """Return the data of an event of another version as JSON of that of `cls`. Raises Unreadable as `read_event`."""
    steps = range(envelope.version, cls.version)
    upcasters = _upcasters.get(cls, {})
    if not steps or not all(version in upcasters for version in steps):
        raise Unreadable(f"{cls.type} has version {cls.version} here, not {envelope.version}")
    try:
        fields = msgspec.json.decode(envelope.data, type=dict[str, Any])
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"the data are no {cls.type}: {error}") from error
    for version in steps:
        try:
            fields = upcasters[version](fields)
        except MemoryError:
            # No fault of the event's.
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise Unreadable(f"version {version} of {cls.type} cannot be upcast: {reason}") from error
    try:
        return msgspec.json.encode(fields)
    except (ValueError, TypeError, RecursionError) as error:
        raise Unreadable(f"what {cls.type} was upcast to is no JSON: {error}") from error
