"""The outbox, the inbox and the dead letters in the admin: to look at. Only the relay and the consumers write them."""

import json
from contextlib import suppress
from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from outbox.dead_letters import decode_headers, storable
from outbox.models import FailedMessage, InboxEvent, OutboxEvent

# Characters of a value that a page shows; Kafka allows megabytes.
SHOWN_LIMIT = 20_000


def readable(content: bytes | memoryview | None) -> str:
    """Return bytes of Kafka for a person: JSON indented, other text as it is, anything else as a Python literal."""
    if content is None:
        return "null"
    content = bytes(content)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = repr(content)
    # What is no JSON is shown as it is: that may be just what is wrong with it.
    with suppress(ValueError, RecursionError):
        text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    # A page can hold neither NUL nor lone surrogates, no more than a table can.
    text = storable(text)
    if len(text) > SHOWN_LIMIT:
        return f"{text[:SHOWN_LIMIT]}\n… {len(content):,} bytes in all"
    return text


class ReadOnlyAdmin(admin.ModelAdmin):
    """Lists and shows rows, and lets nobody add, change or delete one."""

    # Counting a large table takes longer than showing a page of it.
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    @admin.display(description="key")
    def readable_key(self, row: Any) -> str:
        return readable(row.key)

    @admin.display(description="key")
    def key_in_short(self, row: Any) -> str:
        return Truncator(readable(row.key)).chars(50)

    @admin.display(description="value")
    def readable_value(self, row: Any) -> SafeString:
        return format_html("<pre>{}</pre>", readable(row.value))

    @admin.display(description="headers")
    def readable_headers(self, row: Any) -> SafeString | str:
        headers = ((name, readable(value)) for name, value in decode_headers(row.headers or []))
        return format_html_join("", "<div><b>{}</b>: {}</div>", headers) or "none"


@admin.register(OutboxEvent)
class OutboxEventAdmin(ReadOnlyAdmin):
    list_display = ["id", "event_type", "event_id", "topic", "key_in_short", "created_at"]
    list_filter = ["topic", "event_type"]
    search_fields = ["=event_id", "=event_type"]
    fields = [
        "event_id",
        "event_type",
        "event_version",
        "topic",
        "readable_key",
        "readable_value",
        "readable_headers",
        "traceparent",
        "created_at",
    ]


@admin.register(InboxEvent)
class InboxEventAdmin(ReadOnlyAdmin):
    list_display = ["id", "consumer_group", "event_type", "event_id", "topic", "partition", "offset", "applied_at"]
    list_filter = ["consumer_group", "event_type"]
    search_fields = ["=event_id"]


@admin.register(FailedMessage)
class FailedMessageAdmin(ReadOnlyAdmin):
    list_display = [
        "id",
        "status",
        "consumer_group",
        "event_type",
        "key_in_short",
        "error_in_short",
        "place",
        "attempts",
        "created_at",
    ]
    list_filter = ["status", "consumer_group", "event_type", "error_class", "created_at"]
    search_fields = ["=event_id", "error", "=topic"]
    fields = [
        "status",
        "consumer_group",
        ("topic", "partition", "offset"),
        ("event_type", "event_id"),
        "error_class",
        "readable_error",
        "readable_key",
        "readable_value",
        "readable_headers",
        ("attempts", "next_retry_at"),
        ("created_at", "processed_at"),
    ]

    @admin.display(description="error", ordering="error_class")
    def error_in_short(self, letter: FailedMessage) -> str:
        # A traceback says last what happened.
        last_line = letter.error.strip().rpartition("\n")[2]
        return Truncator(last_line if letter.error_class in last_line else f"{letter.error_class}: {last_line}").chars(
            100
        )

    @admin.display(description="topic / partition / offset", ordering="offset")
    def place(self, letter: FailedMessage) -> str:
        return f"{letter.topic} / {letter.partition} / {letter.offset}"

    @admin.display(description="error")
    def readable_error(self, letter: FailedMessage) -> SafeString:
        return format_html("<pre>{}</pre>", letter.error)
