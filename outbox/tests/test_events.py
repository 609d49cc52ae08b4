"""Event classes, their envelope, and what is no event."""

import json
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import pytest

from outbox import Event, InvalidEvent, Topic, handles
from outbox.events import Unreadable, encode, event_classes, read_envelope, read_event
from outbox.tests.sample import ThingClosed, ThingCounted

LOCAL = Topic("local-events")


class Priced(Event, topic=LOCAL, type="thing.priced", key="thing"):
    thing: UUID
    unit_price: Decimal


# An event of this file is none of the project's.
event_classes.remove(Priced)
THING = UUID(int=7)


def test_envelope_has_the_fields_of_the_contract_in_camel_case():
    event = Priced(thing=THING, unit_price=Decimal("1.50"))

    envelope = json.loads(encode(event))

    assert list(envelope) == ["eventId", "eventType", "version", "timestamp", "data"]
    assert envelope["eventType"] == "thing.priced"
    assert envelope["version"] == 1
    assert envelope["data"] == {"thing": str(THING), "unitPrice": "1.50"}
    assert UUID(envelope["eventId"]).version == 7
    assert datetime.fromisoformat(envelope["timestamp"]).utcoffset().total_seconds() == 0


def test_what_was_encoded_is_read_back_with_its_id_and_time():
    event = Priced(thing=THING, unit_price=Decimal("1.50"))

    again = read_event(read_envelope(encode(event)), Priced)

    assert again == event
    assert again.event_id == event.event_id
    assert again.occurred_at == event.occurred_at


def test_a_reader_ignores_fields_that_it_does_not_know():
    value = encode(ThingClosed(thing="a")).replace(b'"thing":', b'"later":{"x":[1]},"thing":')

    assert read_event(read_envelope(value), ThingClosed).thing == "a"


@pytest.mark.parametrize(
    "fields", [{"thing": "no uuid", "unit_price": Decimal(1)}, {"thing": THING, "unit_price": "much"}]
)
def test_a_field_of_the_wrong_type_cannot_be_encoded(fields):
    with pytest.raises(InvalidEvent, match="Priced"):
        encode(Priced(**fields))


def test_text_that_no_json_can_hold_cannot_be_encoded():
    with pytest.raises(InvalidEvent):
        encode(ThingClosed(thing="\ud800"))


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "sNaN"])
def test_an_amount_that_is_no_number_is_refused_when_made_and_when_read(amount):
    with pytest.raises(ValueError, match="unit_price"):
        Priced(thing=THING, unit_price=Decimal(amount))
    value = encode(Priced(thing=THING, unit_price=Decimal("1.50"))).replace(b"1.50", amount.encode())
    with pytest.raises(Unreadable):
        read_event(read_envelope(value), Priced)


def test_another_version_is_unreadable():
    value = encode(ThingCounted(thing="a", number=1)).replace(b'"version":1', b'"version":2')

    with pytest.raises(Unreadable, match="version 1 here, not 2"):
        read_event(read_envelope(value), ThingCounted)


def test_an_event_class_must_state_its_topic():
    with pytest.raises(TypeError, match="states its topic"):

        class Nowhere(Event):
            thing: str


def test_a_key_must_be_a_field():
    with pytest.raises(TypeError, match="none of its fields"):

        class Keyless(Event, topic=LOCAL, type="thing.lost", key="id"):
            thing: str


def test_a_field_cannot_take_the_envelopes_place():
    with pytest.raises(TypeError, match="part of the envelope"):

        class Shadow(Event, topic=LOCAL, type="thing.shadowed", key="event_id"):
            event_id: str  # type: ignore[assignment]


def test_no_group_can_be_named_as_the_relay():
    with pytest.raises(ValueError, match="taken"):
        handles(ThingClosed, group="relay")
