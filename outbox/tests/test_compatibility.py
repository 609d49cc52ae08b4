"""What breaks a reader of an agreed AsyncAPI document, and what does not."""

import enum
import json
from decimal import Decimal
from io import StringIO
from typing import Literal
from uuid import UUID

import msgspec
import pytest
from django.core.management import CommandError, call_command

from outbox import Topic
from outbox.contracts.asyncapi import document, dump
from outbox.contracts.compatibility import breaks
from outbox.contracts.event_map import Flow
from outbox.events import event_classes
from outbox.tests.declared import declare

ELSEWHERE = Topic("elsewhere")


def asyncapi(*classes):
    return json.loads(dump(document([Flow("shop", cls, ()) for cls in classes])))


def part(*, name="Part", defaults=None, config=None, **fields):
    """Return a class for a field that has fields of its own."""
    namespace = {"__annotations__": fields, "__module__": "shop.events", **(defaults or {})}
    return type(msgspec.Struct)(name, (msgspec.Struct,), namespace, rename="camel", **(config or {}))


def list_of(cls):
    return list[cls]


class Colour(enum.Enum):
    RED = "red"


class MoreColours(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Tree(msgspec.Struct):
    leaves: int
    branches: "list[Tree]" = []


def open_part():
    return part(sku=str)


def closed_part(**fields):
    return part(sku=str, config={"forbid_unknown_fields": True}, **fields)


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ({"note": str}, {}, "data.note is gone"),
        ({"unit_price": Decimal}, {}, "data.unitPrice is gone"),
        ({}, {"note": str}, "data.note is new and has no default"),
        ({"note": str, "defaults": {"note": ""}}, {"note": str}, "data.note has no default any more"),
        ({"n": int}, {"n": str}, "data.n changed from integer to string"),
        ({"n": int}, {"n": float}, "data.n changed from integer to number"),
        ({"n": str}, {"n": UUID}, "data.n changed from string to string uuid"),
        ({"n": Decimal}, {"n": str}, "data.n changed from string decimal to string"),
        ({"n": str}, {"n": str | None}, "data.n changed from string to string or null"),
        ({"n": str | None}, {"n": str}, "data.n changed from string or null to string"),
        ({"n": str | None}, {"n": UUID | None}, "data.n changed from string to string uuid"),
        (
            {"n": int | None},
            {"n": int | str | None},
            "data.n changed from integer or null to integer or string or null",
        ),
        ({"n": str}, {"n": list[str]}, "data.n changed from string to list of string"),
        ({"n": list[str]}, {"n": list[int]}, "data.n[] changed from string to integer"),
        ({"n": dict[str, int]}, {"n": dict[str, str]}, "data.n{} changed from integer to string"),
        ({"n": tuple[int, int]}, {"n": tuple[int, str]}, "data.n[1] changed from integer to string"),
        ({"n": Colour}, {"n": MoreColours}, 'data.n changed from {"enum": ["red"]} to {"enum": ["blue", "red"]}'),
        ({"n": MoreColours}, {"n": Colour}, 'data.n changed from {"enum": ["blue", "red"]} to {"enum": ["red"]}'),
        ({"n": Literal["a"]}, {"n": str}, 'data.n changed from {"enum": ["a"]} to string'),
        ({"parts": list_of(part(sku=str))}, {"parts": list_of(part())}, "data.parts[].sku is gone"),
        ({"part": part(sku=str)}, {"part": part(sku=int)}, "data.part.sku changed from string to integer"),
        ({"part": part(sku=str)}, {"part": part(sku=str, size=int)}, "data.part.size is new and has no default"),
        (
            {"part": part(sku=str) | None},
            {"part": part(sku=int) | None},
            "data.part.sku changed from string to integer",
        ),
        ({"part": part(sku=str)}, {"part": str}, "data.part changed from Part to string"),
        (
            {"part": closed_part()},
            {"part": closed_part(size=int, defaults={"size": 0})},
            "data.part.size is new, and its readers refuse fields that they do not know",
        ),
        ({"tree": Tree}, {"tree": part(name="Tree", leaves=int)}, "data.tree.branches is gone"),
        ({"other": str}, {"other": str, "key": "other"}, "the key changed from thing to other"),
        ({}, {"topic": ELSEWHERE}, "the topic changed from local-events to elsewhere"),
    ],
)
def test_a_change_breaks_readers(before, after, line):
    assert breaks(asyncapi(declare(**before)), asyncapi(declare(**after))) == [f"thing.made: {line}"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"note": str}, {"note": str}),
        ({}, {"note": str, "defaults": {"note": ""}}),
        ({"note": str}, {"note": str, "defaults": {"note": ""}}),
        ({"note": str, "defaults": {"note": ""}}, {"note": str, "defaults": {"note": "none"}}),
        ({"a": str, "b": int}, {"b": int, "a": str}),
        ({"n": str | None}, {"n": None | str}),
        ({"doc": "A thing."}, {"doc": "Another text."}),
        ({"name": "ThingMade"}, {"name": "ThingCreated"}),
        ({"part": part(sku=str)}, {"part": part(name="Component", sku=str)}),
        ({"part": part(sku=str) | None}, {"part": part(name="Component", sku=str) | None}),
        ({"part": part(sku=str)}, {"part": part(sku=str, size=int, defaults={"size": 0})}),
        ({"tree": Tree}, {"tree": Tree}),
        ({}, {"topic": Topic("local-events", partitions=12)}),
    ],
)
def test_a_change_breaks_nobody(before, after):
    assert breaks(asyncapi(declare(**before)), asyncapi(declare(**after))) == []


def test_an_event_that_is_gone_breaks_readers():
    kept, gone = declare(), declare(name="ThingSold", type="thing.sold")

    assert breaks(asyncapi(kept, gone), asyncapi(kept)) == ["thing.sold is gone"]


def test_an_event_that_is_new_breaks_nobody():
    assert breaks(asyncapi(declare()), asyncapi(declare(), declare(name="ThingSold", type="thing.sold"))) == []


def test_each_break_is_a_line():
    before = asyncapi(declare(a=str, b=int), declare(name="ThingSold", type="thing.sold"))

    assert breaks(before, asyncapi(declare(b=str, c=int))) == [
        "thing.made: data.a is gone",
        "thing.made: data.b changed from integer to string",
        "thing.made: data.c is new and has no default",
        "thing.sold is gone",
    ]


@pytest.mark.parametrize("after", [{"n": str}, {}, {"other": int}, {"topic": ELSEWHERE}])
def test_an_event_whose_version_went_up_may_change(after):
    assert breaks(asyncapi(declare(n=int)), asyncapi(declare(**after, version=2))) == []


def test_a_version_that_goes_back_breaks_readers():
    assert breaks(asyncapi(declare(version=3)), asyncapi(declare(version=2))) == [
        "thing.made went back from version 3 to 2"
    ]


@pytest.fixture
def project():
    """Return a function that declares the events of the project in the place of its own."""
    classes = event_classes.copy()

    def declare_all(*declared):
        event_classes[:] = declared

    yield declare_all
    event_classes[:] = classes


@pytest.fixture
def agreed(tmp_path, project):
    """The exported document of one event, thing.made with a note."""
    project(declare(note=str))
    file = tmp_path / "asyncapi.json"
    call_command("export_asyncapi", "--output", str(file))
    return file


def export(*arguments):
    """Run export_asyncapi and return (what it printed, what it failed with)."""
    out = StringIO()
    try:
        call_command("export_asyncapi", *map(str, arguments), stdout=out)
    except CommandError as error:
        return out.getvalue(), str(error)
    return out.getvalue(), None


def test_the_command_prints_the_document(project):
    project(declare())

    printed, error = export()

    assert error is None
    assert json.loads(printed) == asyncapi(declare()) | {"channels": json.loads(printed)["channels"]}


def test_a_check_of_what_is_current_passes(agreed):
    assert export("--check", agreed) == (f"{agreed} is what the code has\n", None)


def test_a_check_tells_each_break_and_fails(agreed, project):
    project(declare(size=int))

    printed, error = export("--check", agreed)

    assert printed.splitlines() == ["thing.made: data.note is gone", "thing.made: data.size is new and has no default"]
    assert error.startswith(f"readers of {agreed} would break")


def test_a_check_fails_for_a_compatible_change_until_it_is_exported(agreed, project):
    project(declare(note=str, size=int, defaults={"size": 0}))

    printed, error = export("--check", agreed)
    assert printed == ""
    assert error == f"{agreed} is stale: run manage.py export_asyncapi --output {agreed}"

    export("--output", agreed)
    assert export("--check", agreed)[1] is None


def test_a_change_that_breaks_readers_is_not_exported(agreed, project):
    before = agreed.read_text()
    project(declare(size=int))

    printed, error = export("--output", agreed)

    assert "thing.made: data.note is gone" in printed
    assert error.startswith(f"readers of {agreed} would break")
    assert agreed.read_text() == before


@pytest.mark.parametrize(("arguments", "version"), [(["--force"], 1), ([], 2)])
def test_it_is_exported_by_force_or_with_a_new_version(agreed, project, arguments, version):
    project(declare(size=int, version=version))

    assert export("--output", agreed, *arguments) == ("", None)
    assert export("--check", agreed)[1] is None


@pytest.mark.parametrize("content", [None, "", "no JSON", "[]", "{}", '{"components": 5, "channels": {}}'])
def test_a_file_that_is_no_document_is_refused_and_kept(tmp_path, project, content):
    project(declare())
    file = tmp_path / "asyncapi.json"
    if content is not None:
        file.write_text(content)
        assert "is no document of this command" in export("--output", file)[1]
        assert file.read_text() == content
    assert "is no document of this command" in export("--check", file)[1]
