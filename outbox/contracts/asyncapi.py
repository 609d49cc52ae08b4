"""The project's events as an AsyncAPI 3 document (https://www.asyncapi.com), for readers in any language.

Made of the event classes and the handlers alone. Names of topics and groups are without the installation's prefix.
See: manage.py export_asyncapi
"""

import inspect
import json
from collections.abc import Iterable
from typing import Any

import msgspec

from outbox import conf
from outbox.context import TRACEPARENT
from outbox.contracts.event_map import Flow
from outbox.events import Envelope, Event, Topic

# Of AsyncAPI's Kafka bindings.
BINDING_VERSION = "0.5.0"
SCHEMAS = "#/components/schemas/"


def document(flows: Iterable[Flow]) -> dict[str, Any]:
    """Return the document of events."""
    flows = list(flows)
    classes = [flow.event_class for flow in flows]
    references, schemas = msgspec.json.schema_components([Envelope, *classes], ref_template=f"{SCHEMAS}{{name}}")
    envelope = schemas.pop(_name(references[0]))
    return {
        "asyncapi": "3.0.0",
        "info": conf.get("ASYNCAPI_INFO"),
        "defaultContentType": "application/json",
        "channels": _channels(classes),
        "operations": dict(sorted({**_sending(flows), **_receiving(flows)}.items())),
        "components": {
            "messages": {
                cls.type: _message(cls, envelope, reference, schemas[_name(reference)]["properties"])
                for cls, reference in zip(classes, references[1:], strict=True)
            },
            "schemas": {name: _with_clean_description(schemas[name]) for name in sorted(schemas)},
        },
    }


def _name(reference: dict[str, str]) -> str:
    return reference["$ref"].removeprefix(SCHEMAS)


def dump(asyncapi: dict[str, Any]) -> str:
    """Return a document as the text of a file: the same text for the same events."""
    return json.dumps(asyncapi, indent=2, ensure_ascii=False) + "\n"


def _channels(classes: Iterable[type[Event]]) -> dict[str, Any]:
    channels: dict[str, Any] = {}
    for cls in sorted(classes, key=lambda cls: cls.topic.name):
        channel = channels.setdefault(cls.topic.name, _channel(cls.topic))
        channel["messages"][cls.type] = {"$ref": f"#/components/messages/{cls.type}"}
    return channels


def _channel(topic: Topic) -> dict[str, Any]:
    config: dict[str, Any] = {"cleanup.policy": topic.cleanup_policy.split(","), "retention.ms": topic.retention_ms}
    if topic.max_message_bytes is not None:
        config["max.message.bytes"] = topic.max_message_bytes
    kafka = {"partitions": topic.partitions, "topicConfiguration": config, "bindingVersion": BINDING_VERSION}
    return {"address": topic.name, "messages": {}, "bindings": {"kafka": kafka}}


def _sending(flows: Iterable[Flow]) -> dict[str, Any]:
    """Return what each app publishes, topic by topic."""
    operations: dict[str, Any] = {}
    for flow in flows:
        topic = flow.event_class.topic.name
        operation = operations.setdefault(f"{flow.publisher}.send.{topic}", _operation("send", topic))
        operation["messages"].append(_in_channel(flow.event_class))
    return operations


def _receiving(flows: Iterable[Flow]) -> dict[str, Any]:
    """Return what each consumer group handles, topic by topic."""
    operations: dict[str, Any] = {}
    for flow in flows:
        topic = flow.event_class.topic.name
        for handler in flow.handlers:
            operation = operations.setdefault(f"{handler.group}.receive.{topic}", _operation("receive", topic))
            group = {"type": "string", "const": handler.group}
            operation["bindings"] = {"kafka": {"groupId": group, "bindingVersion": BINDING_VERSION}}
            operation["messages"].append(_in_channel(flow.event_class))
    return operations


def _operation(action: str, topic: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{topic}"}, "messages": []}


def _in_channel(cls: type[Event]) -> dict[str, str]:
    return {"$ref": f"#/channels/{cls.topic.name}/messages/{cls.type}"}


def _message(
    cls: type[Event], envelope: dict[str, Any], reference: dict[str, str], properties: dict[str, Any]
) -> dict[str, Any]:
    """Return the message of an event whose own fields have the schemas `properties`, to be found at `reference`."""
    key_name = dict(zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True))[cls.key_field]
    key = {"type": "string", "description": f"{key_name} of data"}
    # Whatever the field's type is, its key is the text of it.
    if properties[key_name].get("format") == "uuid":
        key["format"] = "uuid"
    return {
        "name": cls.type,
        "title": cls.__name__,
        "contentType": "application/json",
        "headers": _headers(cls),
        "payload": {
            "type": "object",
            "properties": {
                **envelope["properties"],
                "eventType": {"type": "string", "const": cls.type},
                "version": {"type": "integer", "const": cls.version},
                "data": reference,
            },
            "required": envelope["required"],
        },
        "bindings": {"kafka": {"key": key, "x-key-field": key_name, "bindingVersion": BINDING_VERSION}},
    }


def _headers(cls: type[Event]) -> dict[str, Any]:
    traceparent = {"type": "string", "pattern": f"^{TRACEPARENT.pattern}$", "description": "W3C Trace Context"}
    return {
        "type": "object",
        "properties": {
            "event-id": {"type": "string", "format": "uuid"},
            "event-type": {"type": "string", "const": cls.type},
            "event-version": {"type": "string", "const": str(cls.version)},
            "content-type": {"type": "string", "const": "application/json"},
            "traceparent": traceparent,
        },
        "required": ["event-id", "event-type", "event-version", "content-type"],
    }


def _with_clean_description(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a class with its docstring as every version of Python would have it: without indentation."""
    if "description" in schema:
        return {**schema, "description": inspect.cleandoc(schema["description"])}
    return schema
