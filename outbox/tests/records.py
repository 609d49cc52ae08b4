"""Records as tests need them: of events, and broken in every way."""

import re
from uuid import UUID

from outbox.events import Event, encode
from outbox.record import Record

TIMESTAMP = re.compile(rb'"timestamp":"[^"]*"')


def headers_of(event: Event) -> list[tuple[str, bytes | None]]:
    return [("event-id", str(event.event_id).encode()), ("event-type", event.type.encode())]


def record_of(event: Event, *, offset: int = 0, partition: int = 0) -> Record:
    """Return the record that the relay would have written."""
    return Record(event.topic.name, partition, offset, event.key.encode(), encode(event), headers_of(event))


def garbage(event: Event) -> dict[str, tuple[bytes | None, bytes | None, list]]:
    """Return (key, value, headers) by what is wrong with it. All but that is as in `event`."""
    key, value, headers = event.key.encode(), encode(event), headers_of(event)
    envelope, _, _data = value.partition(b'"data":')
    return {
        "a null value": (key, None, headers),
        "an empty value": (key, b"", headers),
        "no JSON": (key, b"hello", headers),
        "cut off JSON": (key, value[:-3], headers),
        "a JSON list": (key, b"[]", headers),
        "no UTF-8": (key, value.replace(b"thing.", b"\xff\xfe.."), headers),
        "no UTF-8 in a field nobody knows": (key, value[:-1] + b',"extra":"\xff"}', headers),
        "a NUL inside": (key, value.replace(b"thing.", b"thin\x00."), headers),
        "a lone surrogate": (key, value.replace(b"thing.", b"\\ud800."), headers),
        "a number of 5,000 digits": (key, b"1" * 5_000, headers),
        "a binary value": (key, bytes(range(256)), headers),
        "deep nesting": (key, envelope + b'"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}", headers),
        "deep nesting unclosed": (key, b"[" * 500_000, headers),
        "no header": (key, value, []),
        "a header of another event": (key, value, [("event-id", str(UUID(int=1)).encode()), headers[1]]),
        "a header without value": (key, value, [("event-id", None), headers[1]]),
        "a binary header": (key, value, [("event-id", b"\xff\x00"), headers[1]]),
        "a wrong field": (key, value.replace(b'"number":', b'"number":"x","n":'), headers),
        "a missing field": (key, value.replace(b'"number":', b'"n":'), headers),
        "an unknown version": (key, value.replace(b'"version":1', b'"version":99'), headers),
        "a version that is no number": (key, value.replace(b'"version":1', b'"version":"1"'), headers),
        "an id that is none": (key, value.replace(str(event.event_id).encode(), b"7"), headers),
        "a time without zone": (key, value.replace(b'Z"', b'"'), headers),
        "a time after all times": (key, TIMESTAMP.sub(b'"timestamp":"9999-12-31T23:59:59-23:59"', value), headers),
        "a time before all times": (key, TIMESTAMP.sub(b'"timestamp":"0001-01-01T00:00:00+23:59"', value), headers),
        "900 kB": (key, b"x" * 900_000, headers),
        "a null key": (None, value, headers),
        "a key that is no UTF-8": (b"\xff\xfe\x00", value, headers),
        "a key of 5 kB and no value": (b"k" * 5_000, None, []),
        "nothing at all": (None, None, []),
    }
