"""What breaks readers when one AsyncAPI document of outbox.contracts.asyncapi takes the place of another.

Two kinds of readers count: those that have the agreed document and will meet new events, and those of this project,
which will meet events that were written before. So a type may become neither narrower nor wider, and what is new needs
a default. An event whose version went up is as a new event: its upcasters read the older ones.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]

# Say nothing about what is valid.
ANNOTATIONS = {"title", "description", "default", "examples", "discriminator"}
# Lead to other schemas, which are compared one by one.
NESTING = {"$ref", "properties", "required", "items", "prefixItems", "additionalProperties", "anyOf"}


def breaks(agreed: dict[str, Any], current: dict[str, Any]) -> list[str]:
    """Return, a line each, in what `current` breaks who reads by `agreed`; nothing if in nothing."""
    before, after = _messages(agreed), _messages(current)
    found = []
    for name, message in before.items():
        if name not in after:
            found.append(f"{name} is gone")
        elif after[name].version < message.version:
            found.append(f"{name} went back from version {message.version} to {after[name].version}")
        elif after[name].version == message.version:
            found += [f"{name}: {line}" for line in _Comparison(agreed, current).messages(message, after[name])]
    return found


@dataclass(frozen=True)
class _Message:
    topic: str
    version: int
    key: str
    payload: Schema
    headers: Schema


def _messages(document: dict[str, Any]) -> dict[str, _Message]:
    """Return the messages of a document by event type."""
    messages = document["components"]["messages"]
    return {
        name: _Message(
            topic=channel["address"],
            version=messages[name]["payload"]["properties"]["version"]["const"],
            key=messages[name]["bindings"]["kafka"]["x-key-field"],
            payload=messages[name]["payload"],
            headers=messages[name]["headers"],
        )
        for channel in document["channels"].values()
        for name in channel["messages"]
    }


class _Comparison:
    """Compares schemas of two documents. The methods yield a line for each break."""

    def __init__(self, agreed: dict[str, Any], current: dict[str, Any]) -> None:
        self._agreed, self._current = agreed["components"]["schemas"], current["components"]["schemas"]
        # Pairs of classes that are being compared: one that has itself as a part would have no end.
        self._open: list[tuple[str | None, str | None]] = []

    def messages(self, old: _Message, new: _Message) -> Iterator[str]:
        if old.topic != new.topic:
            yield f"the topic changed from {old.topic} to {new.topic}"
        if old.key != new.key:
            yield f"the key changed from {old.key} to {new.key}"
        yield from self._schemas("headers", old.headers, new.headers)
        yield from self._schemas("", old.payload, new.payload)

    def _schemas(self, path: str, old: Schema, new: Schema) -> Iterator[str]:
        pair = (old.get("$ref"), new.get("$ref"))
        if pair != (None, None) and pair in self._open:
            return
        self._open.append(pair)
        old, new = _resolved(old, self._agreed), _resolved(new, self._current)
        if self._shape(old) == self._shape(new):
            yield from self._parts(path, old, new)
        else:
            yield f"{path} changed from {self._told(old, self._agreed)} to {self._told(new, self._current)}"
        self._open.pop()

    def _shape(self, schema: Schema) -> Schema:
        """Return what has to be the same in both, without what is compared part by part."""
        shape = {name: value for name, value in schema.items() if name not in ANNOTATIONS | NESTING}
        shape["additionalProperties"] = isinstance(schema.get("additionalProperties"), dict)
        shape["nesting"] = sorted(NESTING & schema.keys() - {"properties", "required", "additionalProperties"})
        shape["prefixItems"] = len(schema.get("prefixItems", ()))
        return shape

    def _parts(self, path: str, old: Schema, new: Schema) -> Iterator[str]:
        yield from self._properties(path, old, new)
        for name, mark in (("items", "[]"), ("additionalProperties", "{}")):
            if isinstance(old.get(name), dict) and isinstance(new.get(name), dict):
                yield from self._schemas(path + mark, old[name], new[name])
        for number, parts in enumerate(zip(old.get("prefixItems", ()), new.get("prefixItems", ()), strict=True)):
            yield from self._schemas(f"{path}[{number}]", *parts)
        yield from self._alternatives(path, old, new)

    def _properties(self, path: str, old: Schema, new: Schema) -> Iterator[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        was_required, is_required = old.get("required", ()), new.get("required", ())
        closed = old.get("additionalProperties") is False
        for name in before:
            part = f"{path}.{name}" if path else name
            if name not in after:
                yield f"{part} is gone"
                continue
            if name in is_required and name not in was_required:
                yield f"{part} has no default any more"
            yield from self._schemas(part, before[name], after[name])
        for name in [name for name in after if name not in before]:
            part = f"{path}.{name}" if path else name
            if name in is_required:
                yield f"{part} is new and has no default"
            elif closed:
                yield f"{part} is new, and its readers refuse fields that they do not know"

    def _alternatives(self, path: str, old: Schema, new: Schema) -> Iterator[str]:
        before = {_kind(part, self._agreed): part for part in old.get("anyOf", ())}
        after = {_kind(part, self._current): part for part in new.get("anyOf", ())}
        if before.keys() == after.keys():
            for kind, part in before.items():
                yield from self._schemas(path, part, after[kind])
        else:
            yield f"{path} changed from {self._told(old, self._agreed)} to {self._told(new, self._current)}"

    def _told(self, schema: Schema, schemas: dict[str, Schema]) -> str:
        """Return a schema in a few words."""
        resolved = _resolved(schema, schemas)
        if "anyOf" in resolved:
            return " or ".join(self._told(part, schemas) for part in resolved["anyOf"])
        if resolved.get("type") == "array" and "items" in resolved:
            return f"list of {self._told(resolved['items'], schemas)}"
        if "properties" in resolved:
            return str(resolved.get("title", "object"))
        shape = {name: value for name, value in resolved.items() if name not in ANNOTATIONS | NESTING}
        words = [str(shape.pop("type", "")), shape.pop("format", ""), json.dumps(shape) if shape else ""]
        return " ".join(word for word in words if word) or "anything"


def _resolved(schema: Schema, schemas: dict[str, Schema]) -> Schema:
    """Return what a schema refers to, or itself."""
    while "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    return schema


def _kind(schema: Schema, schemas: dict[str, Schema]) -> str:
    """Return by what a reader tells an alternative from the others: its JSON type, and of objects the tag."""
    resolved = _resolved(schema, schemas)
    constants = [part["enum"] for part in resolved.get("properties", {}).values() if len(part.get("enum", ())) == 1]
    return json.dumps([resolved.get("type"), constants])
