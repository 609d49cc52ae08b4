"""What the pages have in common: bytes shown to a person, and lists that nobody can write."""

from contextlib import suppress
from typing import Any
from uuid import UUID

import msgspec
from django.contrib import admin
from django.contrib.admin.views.main import ERROR_FLAG
from django.db import models
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from outbox.letters.dead_letters import decode_headers, storable

# Characters of a value that a page shows; Kafka allows megabytes.
SHOWN_LIMIT = 20_000
# Bytes of JSON that are laid out. More are shown as they are: deep nesting would be indented to gigabytes.
LAID_OUT_LIMIT = 100_000


def readable(content: bytes | memoryview | None) -> str:
    """Return bytes of Kafka for a person: JSON indented, other text as it is, anything else as a Python literal."""
    if content is None:
        return "null"
    content = bytes(content)
    try:
        text = laid_out(content.decode())
    except UnicodeDecodeError:
        text = repr(content)
    # A page can hold neither NUL nor lone surrogates, no more than a table can.
    text = storable(text)
    if len(text) > SHOWN_LIMIT:
        return f"{text[:SHOWN_LIMIT]}\n… {len(content):,} bytes in all"
    return text


def laid_out(text: str) -> str:
    """Return JSON indented, and nothing else about it changed: no number, no escape, no repeated name."""
    # What is no JSON is shown as it is: that may be just what is wrong with it.
    if len(text) <= LAID_OUT_LIMIT:
        with suppress(ValueError, RecursionError):
            return msgspec.json.format(text, indent=2)
    return text


def what_happened(error: str) -> str:
    """Return the line of an error, which may be a traceback, that says it."""
    # It stands below the last frame; PostgreSQL's details follow it.
    frame = error.rfind('\n  File "')
    return next((line for line in error[frame + 1 :].splitlines() if line and not line.startswith(" ")), error)


def link(url: str, text: object) -> SafeString:
    return format_html('<a href="{}">{}</a>', url, text)


def listed(model: str, count: int, **query: str) -> SafeString:
    """Return a count of rows with a link to the list of them."""
    return link(reverse(f"admin:outbox_{model}_changelist", query=query), count)


def event_link(event_id: UUID | None) -> SafeString | None:
    """Return a link to all that is known of an event."""
    return link(reverse("admin:outbox_outboxevent_event", query={"id": event_id}), event_id) if event_id else None


def may(request: HttpRequest, permission: str) -> bool:
    """Return whether the user has a permission of this app."""
    return request.user.has_perm(f"outbox.{permission}")


class ReadOnlyAdmin(admin.ModelAdmin):
    """Lists and shows rows, and lets nobody add, change or delete one."""

    # Counting a large table takes longer than showing a page of it.
    show_full_result_count = False

    class Media:
        css = {"all": ["outbox/admin.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        # Of which PostgreSQL would say that no text can hold it.
        if any("\0" in value for values in request.GET.lists() for value in values[1]):
            return HttpResponseRedirect(f"{request.path}?{ERROR_FLAG}=1")
        return super().changelist_view(request, extra_context)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        return None if "\0" in object_id else super().get_object(request, object_id, from_field)

    @admin.display(description="key")
    def readable_key(self, row: Any) -> SafeString:
        return format_html('<pre class="outbox-text">{}</pre>', readable(row.key))

    @admin.display(description="key")
    def key_in_short(self, row: Any) -> str:
        return Truncator(readable(row.key)).chars(50)

    @admin.display(description="value")
    def readable_value(self, row: Any) -> SafeString:
        return format_html('<pre class="outbox-text">{}</pre>', readable(row.value))

    @admin.display(description="headers")
    def readable_headers(self, row: Any) -> SafeString | str:
        headers = ((name, readable(value)) for name, value in decode_headers(row.headers or []))
        return format_html_join("", "<div><b>{}</b>: {}</div>", headers) or "none"

    @admin.display(description="event id", ordering="event_id")
    def event(self, row: Any) -> SafeString | str:
        return event_link(row.event_id) or "-"
