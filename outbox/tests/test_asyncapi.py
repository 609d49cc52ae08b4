"""The AsyncAPI document: valid by the schema of AsyncAPI, and true of what is in fact published."""

import enum
import json
from datetime import datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated
from uuid import UUID

import jsonschema
import msgspec
import pytest
from django.db import transaction

from outbox import Topic, publish
from outbox.contracts.asyncapi import document, dump
from outbox.contracts.event_map import Flow, flows
from outbox.events import encode
from outbox.registry import Handler
from outbox.relay.relay import Relay
from outbox.tests.declared import declare
from outbox.tests.sample import THING, ThingCounted
from outbox.worker import Stop


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Part(msgspec.Struct, frozen=True, rename="camel"):
    """A part of a thing."""

    part_id: UUID
    unit_price: Decimal
    parts: "list[Part]" = []


MANIFOLD = {
    "thing": UUID,
    "parts": list[Part],
    "colour": Colour,
    "made_at": Annotated[datetime, msgspec.Meta(tz=True)],
    "weight": float | None,
    "sizes_mm": dict[str, int],
    "place": tuple[int, str],
    "note": str,
}


def manifold():
    """Return an event class with fields of many types, and one event of it."""
    cls = declare(**MANIFOLD, defaults={"note": ""}, doc="A thing was made.\n\n    Of parts.")
    part = Part(UUID(int=2), Decimal("1.50"), [Part(UUID(int=3), Decimal("0.75"))])
    return cls, cls(
        thing=UUID(int=1),
        parts=[part],
        colour=Colour.RED,
        made_at=datetime.fromisoformat("2026-01-02T03:04:05Z"),
        weight=None,
        sizes_mm={"width": 4},
        place=(1, "shelf"),
    )


@cache
def schema_of_asyncapi():
    return json.loads((Path(__file__).parent / "asyncapi" / "3.0.0.json").read_text())


def assert_valid(asyncapi):
    jsonschema.Draft7Validator(schema_of_asyncapi()).validate(asyncapi)
    for reference in references(asyncapi):
        followed(asyncapi, reference)


def references(node):
    """Return all references in a document."""
    if isinstance(node, list):
        return [reference for part in node for reference in references(part)]
    if isinstance(node, dict):
        return [
            reference
            for name, part in node.items()
            for reference in ([part] if name == "$ref" else references(part))
        ]  # fmt: skip
    return []


def followed(asyncapi, reference):
    """Return what a reference leads to."""
    node = asyncapi
    for name in reference.removeprefix("#/").split("/"):
        node = node[name]
    return node


def assert_fits(asyncapi, name, *, payload, headers):
    """Fail unless a message's payload and headers are as a document says."""
    message = asyncapi["components"]["messages"][name]
    checked = {"payload": payload, "headers": headers}
    for part, instance in checked.items():
        # A validator looks for what is referred to in the schema itself.
        schema = {**message[part], "components": asyncapi["components"]}
        jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER).validate(
            instance
        )


def flow(cls, *groups):
    return Flow("shop", cls, tuple(Handler(group, cls, print, bulk=False) for group in groups))


def test_the_projects_document_is_valid():
    assert_valid(document(flows()))


def test_a_document_of_many_types_is_valid():
    cls, _ = manifold()
    assert_valid(document([flow(cls, "cellar")]))


def test_a_document_of_nothing_is_valid():
    assert_valid(document([]))


def test_the_schema_of_asyncapi_tells_a_document_that_is_not_valid():
    asyncapi = document(flows())
    asyncapi["channels"]["order-events"]["bindings"]["kafka"]["partitions"] = "six"

    with pytest.raises(jsonschema.ValidationError):
        assert_valid(asyncapi)


def test_what_is_published_is_as_the_document_says():
    cls, event = manifold()

    assert_fits(
        document([flow(cls)]),
        "thing.made",
        payload=json.loads(encode(event)),
        headers={
            "event-id": str(event.event_id),
            "event-type": "thing.made",
            "event-version": "1",
            "content-type": "application/json",
        },
    )


@pytest.mark.parametrize("field", ["thing", "unitPrice", "colour", "madeAt", "weight", "sizesMm", "version"])
def test_what_is_not_as_the_document_says_is_told(field):
    cls, event = manifold()
    value = encode(event).replace(f'"{field}":'.encode(), f'"{field}":[],"x":'.encode())

    with pytest.raises(jsonschema.ValidationError):
        assert_fits(document([flow(cls)]), "thing.made", payload=json.loads(value), headers={})


def test_what_the_relay_sends_is_as_the_document_says(kafka):
    with transaction.atomic():
        publish(ThingCounted(thing="a", number=1))
    Relay().run(Stop(), once=True)
    [message] = kafka.records(THING)
    payload = json.loads(message.value())
    headers = {name: value.decode() for name, value in message.headers()}
    asyncapi = document([flow(ThingCounted)])

    assert_fits(asyncapi, "thing.counted", payload=payload, headers=headers)
    assert headers.keys() == asyncapi["components"]["messages"]["thing.counted"]["headers"]["properties"].keys()
    with pytest.raises(jsonschema.ValidationError):
        assert_fits(asyncapi, "thing.counted", payload=payload, headers={**headers, "traceparent": "00-1-2-3"})


def test_money_ids_and_times_are_text_with_a_format():
    cls, _ = manifold()
    schemas = document([flow(cls)])["components"]["schemas"]

    assert schemas["Part"]["properties"]["unitPrice"] == {"type": "string", "format": "decimal"}
    assert schemas["ThingMade"]["properties"]["thing"] == {"type": "string", "format": "uuid"}
    assert schemas["ThingMade"]["properties"]["madeAt"] == {"type": "string", "format": "date-time"}


def test_a_field_with_a_default_is_not_required():
    cls, _ = manifold()
    schema = document([flow(cls)])["components"]["schemas"]["ThingMade"]

    assert schema["properties"].keys() - set(schema["required"]) == {"note"}


def test_a_docstring_is_told_without_its_indentation():
    cls, _ = manifold()

    schema = document([flow(cls)])["components"]["schemas"]["ThingMade"]
    assert schema["description"] == "A thing was made.\n\nOf parts."


def test_a_channel_is_a_topic_with_its_settings():
    topic = Topic("things", partitions=3, retention_ms=5_000, cleanup_policy="compact,delete", max_message_bytes=9_000)

    [channel] = document([flow(declare(topic=topic))])["channels"].values()

    assert channel["address"] == "things"
    assert channel["bindings"]["kafka"]["partitions"] == 3
    assert channel["bindings"]["kafka"]["topicConfiguration"] == {
        "cleanup.policy": ["compact", "delete"],
        "retention.ms": 5_000,
        "max.message.bytes": 9_000,
    }


def test_an_installations_prefix_is_no_part_of_the_contract(prefix):
    cls = declare()

    assert document([flow(cls, "cellar")])["channels"]["local-events"]["address"] == "local-events"


@pytest.mark.parametrize(("type", "told"), [(UUID, {"format": "uuid"}), (int, {}), (str, {}), (Colour, {})])
def test_the_key_is_the_text_of_its_field(type, told):
    [message] = document([flow(declare(thing_id=type, key="thing_id"))])["components"]["messages"].values()

    kafka = message["bindings"]["kafka"]
    assert kafka["key"] == {"type": "string", "description": "thingId of data", **told}
    assert kafka["x-key-field"] == "thingId"


def test_an_operation_is_what_an_app_sends_to_a_topic_or_a_group_receives_from_it():
    made, sold = declare(), declare(name="ThingSold", type="thing.sold")

    operations = document([flow(made, "cellar", "attic"), flow(sold, "attic")])["operations"]

    sent = {name: [part["$ref"].rpartition("/")[2] for part in o["messages"]] for name, o in operations.items()}
    assert sent == {
        "shop.send.local-events": ["thing.made", "thing.sold"],
        "cellar.receive.local-events": ["thing.made"],
        "attic.receive.local-events": ["thing.made", "thing.sold"],
    }
    assert operations["attic.receive.local-events"]["bindings"]["kafka"]["groupId"]["const"] == "attic"


def test_classes_of_one_name_are_kept_apart():
    part = type("Part", (msgspec.Struct,), {"__annotations__": {"other": int}, "__module__": "elsewhere"})
    first, second = declare(part=Part), declare(name="ThingSold", type="thing.sold", part=part)

    assert_valid(document([flow(first), flow(second)]))


def test_the_same_events_make_the_same_text():
    assert dump(document(flows())) == dump(document(flows()))
