"""Who publishes what, and who handles it: read off the event classes and the handlers. See: manage.py event_map"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from django.apps import apps

from outbox.events import Event, event_classes
from outbox.registry import Handler, groups, handlers_of

HEADINGS = ("published by", "event type", "version", "topic", "key", "handled by group", "handler")
NOBODY = "–"


@dataclass(frozen=True)
class Flow:
    """An event class, the label of the app that publishes it, and its handlers by group."""

    publisher: str
    event_class: type[Event]
    handlers: tuple[Handler, ...]


def flows() -> list[Flow]:
    """Return the flow of each event of the project, by publisher and then as its file has them."""
    handlers = [
        handler
        for group in groups()
        for handler in handlers_of(group).values()
        if not is_of_a_test(handler.call.__module__)
    ]
    found = [
        Flow(_app_of(cls), cls, tuple(handler for handler in handlers if handler.event_class is cls))
        for cls in event_classes
        if not is_of_a_test(cls.__module__)
    ]
    return sorted(found, key=lambda flow: flow.publisher)


def is_of_a_test(module: str) -> bool:
    """Return whether a module is part of the tests: their sample events are none of the project's."""
    return any(part in {"tests", "conftest"} or part.startswith("test_") for part in module.split("."))


def _app_of(cls: type[Event]) -> str:
    config = apps.get_containing_app_config(cls.__module__)
    return config.label if config else cls.__module__.partition(".")[0]


def table(flows: Iterable[Flow]) -> str:
    """Return flows as a Markdown table, a line for each handler, that a terminal shows in columns, too."""
    rows = [HEADINGS, *(row for flow in flows for row in _rows(flow))]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "-|-".join("-" * width for width in widths))
    # The line below the headings has no spaces of its own.
    return "".join(f"|-{line}-|\n" if number == 1 else f"| {line} |\n" for number, line in enumerate(lines))


def _rows(flow: Flow) -> Iterator[tuple[str, ...]]:
    cls = flow.event_class
    event = (flow.publisher, cls.type, str(cls.version), cls.topic.name, cls.key_field)
    for handler in flow.handlers:
        yield (*event, handler.group, f"{handler.call.__module__}.{handler.call.__qualname__}")
    if not flow.handlers:
        yield (*event, NOBODY, NOBODY)


def mermaid(flows: Iterable[Flow]) -> str:
    """Return flows as a Mermaid flowchart: apps, their events within topics, and the groups that handle them."""
    flows = list(flows)
    topics: dict[str, list[Flow]] = {}
    for flow in flows:
        topics.setdefault(flow.event_class.topic.name, []).append(flow)
    handling = sorted({handler.group for flow in flows for handler in flow.handlers})
    lines = ["flowchart LR"]
    lines += [f'    {_node("app", name)}["{name}"]' for name in sorted({flow.publisher for flow in flows})]
    for topic in sorted(topics):
        lines.append(f'    subgraph {_node("topic", topic)}["{topic}"]')
        lines += [f'        {_event(flow)}("{_title(flow.event_class)}")' for flow in topics[topic]]
        lines.append("    end")
    lines += [f'    {_node("group", group)}[["{group}"]]' for group in handling]
    lines += [f"    {_node('app', flow.publisher)} --> {_event(flow)}" for flow in flows]
    lines += [f"    {_event(flow)} --> {_node('group', handler.group)}" for flow in flows for handler in flow.handlers]
    return "\n".join(lines) + "\n"


def _event(flow: Flow) -> str:
    return _node("event", flow.event_class.type)


def _node(kind: str, name: str) -> str:
    # Two hyphens, or one before a dot, would be the beginning of an arrow.
    return f"{kind}.{name}".replace("-", "/")


def _title(cls: type[Event]) -> str:
    return cls.type if cls.version == 1 else f"{cls.type} v{cls.version}"


def page(flows: Iterable[Flow]) -> str:
    """Return flows as a Markdown page with both."""
    flows = list(flows)
    return (
        "# Events\n\n"
        "Who publishes what, and which consumer groups handle it. Made by `manage.py event_map`.\n\n"
        f"```mermaid\n{mermaid(flows)}```\n\n"
        f"{table(flows)}"
    )
