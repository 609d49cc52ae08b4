"""The event map: made of classes and handlers."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from outbox import Topic
from outbox.contracts.event_map import Flow, flows, is_of_a_test, mermaid, page, table
from outbox.registry import Handler
from outbox.tests.declared import declare


def react(event):
    """Stands for a handler."""


def flow(publisher="shop", groups=(), **declared):
    cls = declare(**declared)
    return Flow(publisher, cls, tuple(Handler(group, cls, react, bulk=False) for group in groups))


def rows(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def test_the_table_has_a_line_for_each_handler():
    text = table([flow(groups=["cellar", "attic"], version=2)])

    handler = "outbox.tests.test_event_map.react"
    assert rows(text)[2:] == [
        ["shop", "thing.made", "2", "local-events", "thing", "cellar", handler],
        ["shop", "thing.made", "2", "local-events", "thing", "attic", handler],
    ]


def test_the_table_has_a_line_for_an_event_that_nobody_handles():
    assert rows(table([flow()]))[2:] == [["shop", "thing.made", "1", "local-events", "thing", "–", "–"]]


def test_the_tables_columns_are_aligned():
    text = table([flow(groups=["a", "a-long-name"]), flow(publisher="a-long-publisher")])

    assert len({len(line) for line in text.splitlines()}) == 1
    assert len({tuple(at for at, sign in enumerate(line) if sign == "|") for line in text.splitlines()}) == 1


def test_the_flowchart_leads_from_app_over_event_to_group():
    assert mermaid([flow(groups=["cellar"])]) == (
        "flowchart LR\n"
        '    app.shop["shop"]\n'
        '    subgraph topic.local/events["local-events"]\n'
        '        event.thing.made("thing.made")\n'
        "    end\n"
        '    group.cellar[["cellar"]]\n'
        "    app.shop --> event.thing.made\n"
        "    event.thing.made --> group.cellar\n"
    )


def test_the_flowchart_keeps_app_topic_and_group_of_one_name_apart():
    text = mermaid([flow(publisher="stock", topic=Topic("stock"), groups=["stock"])])

    assert {'app.stock["stock"]', 'subgraph topic.stock["stock"]', 'group.stock[["stock"]]'} <= {
        line.strip() for line in text.splitlines()
    }


def test_no_name_in_the_flowchart_can_begin_an_arrow():
    text = mermaid([flow(publisher="a--b", topic=Topic("a-.b"), type="a-", groups=["a-->b"])])

    assert {'app.a//b["a--b"]', 'subgraph topic.a/.b["a-.b"]', 'event.a/("a-")'} <= {
        line.strip() for line in text.splitlines()
    }


def test_a_newer_version_shows_in_the_flowchart():
    assert 'event.thing.made("thing.made v3")' in mermaid([flow(version=3)])


def test_the_page_has_both():
    text = page([flow()])

    assert f"```mermaid\n{mermaid([flow()])}```\n" in text
    assert text.endswith(table([flow()]))


def test_events_and_handlers_of_tests_are_none_of_the_projects():
    found = flows()

    assert found
    assert not [flow for flow in found if flow.event_class.__module__.startswith("outbox.tests")]
    assert not [handler for flow in found for handler in flow.handlers if ".tests." in handler.call.__module__]


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("stock.events", False),
        ("shop.stock.events.levels", False),
        ("contest.events", False),
        ("testing.events", False),
        ("outbox.tests.sample", True),
        ("tests.shop", True),
        ("stock.conftest", True),
        ("stock.test_events", True),
    ],
)
def test_tells_a_module_of_the_tests_by_its_name(module, expected):
    assert is_of_a_test(module) is expected


def test_an_event_is_published_by_the_app_that_declares_it():
    assert {flow.event_class.__module__.removesuffix(".events") for flow in flows()} == {
        flow.publisher for flow in flows()
    }


@pytest.mark.parametrize(("format", "made"), [("table", table), ("mermaid", mermaid), ("page", page)])
def test_the_command_prints_each_format(format, made):
    out = StringIO()

    call_command("event_map", "--format", format, stdout=out)

    assert out.getvalue() == made(flows())


def test_the_command_knows_no_other_format():
    with pytest.raises(CommandError, match="invalid choice: 'png'"):
        call_command("event_map", "--format", "png")
