"""What the pages have in common: bytes shown to a person, lists of large tables, and lists that nobody can write."""

import re
from contextlib import suppress
from typing import Any
from uuid import UUID

import msgspec
from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.views.main import ERROR_FLAG
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db import models
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from outbox.letters.dead_letters import decode_headers, storable

# Characters of a value that a page shows; Kafka allows megabytes.
SHOWN_LIMIT = 20_000
# Rows that a list counts, and leads to page by page.
COUNT_LIMIT = 10_000
# Digits of an id from which on its beginning is searched; fewer may be somebody's name.
ID_DIGITS = 8
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


def event_link(event_id: UUID | None, text: object = None) -> SafeString | None:
    """Return a link to all that is known of an event, as its id or another text."""
    page = reverse("admin:outbox_outboxevent_event", query={"id": event_id})
    return link(page, text or event_id) if event_id else None


def may(request: HttpRequest, permission: str) -> bool:
    """Return whether the user has a permission of this app."""
    return request.user.has_perm(f"outbox.{permission}")


def ids_beginning_with(text: str) -> tuple[UUID, UUID] | None:
    """Return the first and the last UUID that begin with the digits of a text, or None where that is no beginning."""
    digits = text.strip().replace("-", "")
    if not re.fullmatch(rf"[0-9a-fA-F]{{{ID_DIGITS},32}}", digits):
        return None
    return UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))


class LimitedPaginator(Paginator):
    """Pages of the first COUNT_LIMIT rows. What is behind them is found by a search or a filter."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        # All rows of a large table take longer to count than a page of them takes to show.
        return rows.order_by()[:COUNT_LIMIT].count()

    @property
    def is_full(self) -> bool:
        return self.count == COUNT_LIMIT


class ReadOnly:
    """For a ModelAdmin: shows rows, and lets nobody add, change or delete one."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


class LargeTableAdmin(admin.ModelAdmin):
    """Lists rows of which there may be millions, and answers whatever somebody writes into an address or a form."""

    # Would count without any filter, too.
    show_full_result_count = False
    paginator = LimitedPaginator
    change_list_template = "admin/outbox/large_table.html"
    # The columns of UUIDs, each with an index, that a search finds by their beginning.
    search_ids: list[str] | tuple[str, ...] = ()

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        # Of which PostgreSQL would say that no text can hold it.
        if any("\0" in value for values in request.GET.lists() for value in values[1]):
            return HttpResponseRedirect(f"{request.path}?{ERROR_FLAG}=1")
        return super().changelist_view(request, extra_context)

    def response_action(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse | None:
        form = request.POST.copy()
        form.setlist(ACTION_CHECKBOX_NAME, [pk for pk in form.getlist(ACTION_CHECKBOX_NAME) if self._may_be_id(pk)])
        request.POST = form  # type: ignore[assignment]
        return super().response_action(request, *args, **kwargs)

    def _may_be_id(self, text: str) -> bool:
        """Return whether a row can have this id; the database would be asked in vain for any other."""
        try:
            self.opts.pk.run_validators(self.opts.pk.to_python(text))
        except ValidationError:
            return False
        return "\0" not in text

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        return None if "\0" in object_id else super().get_object(request, object_id, from_field)

    def get_search_fields(self, request: HttpRequest) -> list[str] | tuple[str, ...]:
        # Without any, Django shows nothing to search by.
        return self.search_fields or self.search_ids

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        ids = ids_beginning_with(search_term)
        if ids and self.search_ids:
            # Of a range, PostgreSQL expects that it holds many rows, and may look for them without the index.
            whole = ids[0] == ids[1]
            sought = ((column, ids[0]) if whole else (f"{column}__range", ids) for column in self.search_ids)
            found = queryset.filter(models.Q(*sought, _connector=models.Q.OR))
            if found.exists():
                return found, False
        if search_term and not self.search_fields:
            return queryset.none(), False
        return super().get_search_results(request, queryset, search_term)


class ReadOnlyAdmin(ReadOnly, LargeTableAdmin):
    """Lists and shows rows of this app."""

    change_list_template = "admin/outbox/change_list.html"

    class Media:
        css = {"all": ["outbox/admin.css"]}

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
