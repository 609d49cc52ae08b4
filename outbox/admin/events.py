"""What waits in the outbox, what waits behind a dead letter, and a page with all that is known of one event."""

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from outbox.admin.pages import ReadOnlyAdmin, may
from outbox.models import FailedMessage, InboxEvent, OutboxEvent, ParkedEvent

# Rows of one kind that the page of an event shows.
ROWS_LIMIT = 100
PLACES = {
    "waiting": OutboxEvent.objects.defer("value", "headers"),
    "applied": InboxEvent.objects.order_by("consumer_group"),
    "letters": FailedMessage.objects.defer("value", "headers", "error").order_by("id"),
    "parked": ParkedEvent.objects.defer("value", "headers").order_by("id"),
}


@admin.register(OutboxEvent)
class OutboxEventAdmin(ReadOnlyAdmin):
    list_display = ["id", "event_type", "event", "topic", "key_in_short", "created_at"]
    list_filter = ["topic", "event_type"]
    search_fields = ["=event_id", "=event_type"]
    fields = [
        "event",
        "event_type",
        "event_version",
        "topic",
        "readable_key",
        "readable_value",
        "readable_headers",
        "traceparent",
        "created_at",
    ]

    def get_urls(self) -> list[URLPattern]:
        event = self.admin_site.admin_view(self.event_view)
        return [path("event/", event, name="outbox_outboxevent_event"), *super().get_urls()]

    def event_view(self, request: HttpRequest) -> HttpResponse:
        """Show where an event is: in the outbox, applied, a dead letter, parked."""
        seen = {name: rows for name, rows in PLACES.items() if may(request, f"view_{rows.model._meta.model_name}")}
        if not seen:
            raise PermissionDenied
        text = request.GET.get("id", "").strip()
        context: dict[str, Any] = {
            **self.admin_site.each_context(request),
            "title": "Event",
            "subtitle": text or None,
            "opts": self.opts,
            "media": self.media,
            "text": text,
        }
        status = 200
        if text:
            try:
                event_id = UUID(text)
            except ValueError:
                status, context["problem"] = 400, "That is no event id. An event id is a UUID."
            else:
                found = {name: list(rows.filter(event_id=event_id)[:ROWS_LIMIT]) for name, rows in seen.items()}
                context |= found
                if not any(found.values()):
                    status = 404
                    context["problem"] = (
                        "Nothing is known of this event here: it was never published, or Kafka has it and no group has "
                        "applied it yet, or that was so long ago that it was forgotten."
                    )
        return TemplateResponse(request, "admin/outbox/outboxevent/event.html", context, status=status)


@admin.register(ParkedEvent)
class ParkedEventAdmin(ReadOnlyAdmin):
    list_display = ["id", "consumer_group", "event_type", "event", "key_in_short", "parked_at"]
    list_filter = ["consumer_group", "event_type"]
    search_fields = ["=event_id"]
    fields = [
        "consumer_group",
        ("topic", "partition", "offset"),
        "event",
        "event_type",
        "readable_key",
        "readable_value",
        "readable_headers",
        "parked_at",
    ]

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).defer("value", "headers")
