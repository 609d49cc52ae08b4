"""What waits in the outbox, what waits behind a dead letter, and a page with all that is known of one event."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from outbox import conf
from outbox.admin.filters import EventTypeFilter, GroupFilter, TopicFilter
from outbox.admin.letters import in_short
from outbox.admin.pages import ReadOnlyAdmin, link, may
from outbox.admin.published import published
from outbox.models import FailedMessage, InboxEvent, OutboxEvent, ParkedEvent
from outbox.registry import RELAY, groups, handlers_of

# Rows of one kind that the page of an event shows.
ROWS_LIMIT = 100
PLACES = {
    "waiting": OutboxEvent.objects.defer("value", "headers"),
    "applied": InboxEvent.objects.order_by("consumer_group"),
    "letters": FailedMessage.objects.defer("value", "headers").order_by("id"),
    "parked": ParkedEvent.objects.defer("value", "headers").order_by("id"),
}

AboutEvent = Callable[[HttpRequest, UUID], Iterable[SafeString]]
_about_event: list[AboutEvent] = []


def tells_of_event(function: AboutEvent) -> AboutEvent:
    """Let a function of another app say what the event belongs to.

    It takes a request and an event's id, and returns links that the page of the event shows, to such pages as the
    request's user may view. It is called for ids that nobody knows, too.
    """
    _about_event.append(function)
    return function


@dataclass(frozen=True)
class InGroup:
    """What became of an event in a consumer group."""

    group: str
    outcome: str | SafeString
    at: datetime | None = None
    # Empty: it has no place in Kafka that is known.
    topic: str = ""
    partition: int = -1
    offset: int = -1

    @classmethod
    def of(cls, row: InboxEvent | FailedMessage | ParkedEvent, outcome: str | SafeString, at: datetime) -> "InGroup":
        return cls(row.consumer_group, outcome, at, row.topic, row.partition, row.offset)


@admin.register(OutboxEvent)
class OutboxEventAdmin(ReadOnlyAdmin):
    list_display = ["id", "event_type", "event", "topic", "key_in_short", "created_at"]
    list_filter = [TopicFilter, EventTypeFilter]
    search_ids = ["event_id"]
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
        """Show when an event was made and published, where it is in Kafka, and what became of it in each group."""
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
                found: dict[str, list[Any]] = {
                    name: list(rows.filter(event_id=event_id)[:ROWS_LIMIT]) for name, rows in seen.items()
                }
                about = [link for tell in _about_event for link in tell(request, event_id)]
                context |= {**found, "about": about}
                if any(found.values()) or about:
                    context |= summary(event_id, found, sees_all=len(seen) == len(PLACES))
                else:
                    status = 404
                    context["problem"] = (
                        "Nothing is known of this event here: it was never published, or Kafka has it and no group has "
                        "applied it yet, or that was so long ago that it was forgotten."
                    )
        return TemplateResponse(request, "admin/outbox/outboxevent/event.html", context, status=status)


def summary(event_id: UUID, found: dict[str, list[Any]], *, sees_all: bool) -> dict[str, Any]:
    """Return what the rows of an event say of it together.

    `sees_all`: the rows are of all kinds; without, nobody can tell that something did not happen.
    """
    rows = [row for kind in ("applied", "letters", "parked", "waiting") for row in found.get(kind, [])]
    event_type = next((row.event_type for row in rows if row.event_type), "")
    in_groups = [
        *(InGroup.of(row, "Applied", row.applied_at) for row in found.get("applied", [])),
        *(InGroup.of(row, _letter(row), row.created_at) for row in found.get("letters", [])),
        *(InGroup.of(row, _parked(row), row.parked_at) for row in found.get("parked", [])),
    ]
    made = made_at(event_id)
    # What Kafka refused has no place there.
    in_kafka = next((row for row in in_groups if row.topic and row.group != RELAY), None)
    remembered_since = timezone.now() - timedelta(days=conf.get("INBOX_RETENTION_DAYS"))
    if sees_all and event_type and made and made > remembered_since:
        there = {row.group for row in in_groups}
        in_groups += [
            InGroup(group, "Not yet") for group in groups() if group not in there and event_type in handlers_of(group)
        ]
    return {
        "event_type": event_type,
        "made_at": made,
        "in_kafka": in_kafka,
        "published": in_kafka and published(event_id, in_kafka.topic, in_kafka.partition, in_kafka.offset),
        "has_left": sees_all and not found["waiting"] and not any(row.group == RELAY for row in in_groups),
        "in_groups": sorted(in_groups, key=lambda row: row.group),
    }


def made_at(event_id: UUID) -> datetime | None:
    """Return when an event was made, as its UUIDv7 (RFC 9562) says. Its transaction committed a moment later.

    None where the id says nothing, or a year after 9999.
    """
    if event_id.version == 7:
        with suppress(ValueError):
            return datetime.fromtimestamp((event_id.int >> 80) / 1000, UTC)
    return None


def _letter(letter: FailedMessage) -> SafeString:
    page = reverse("admin:outbox_failedmessage_change", args=[letter.pk])
    return link(page, f"Failed message {letter.pk}, {letter.get_status_display().lower()}: {in_short(letter)}")


def _parked(event: ParkedEvent) -> SafeString:
    return link(reverse("admin:outbox_parkedevent_change", args=[event.pk]), "Parked behind a failed message")


@admin.register(ParkedEvent)
class ParkedEventAdmin(ReadOnlyAdmin):
    list_display = ["id", "consumer_group", "event_type", "event", "key_in_short", "parked_at"]
    list_filter = [GroupFilter, EventTypeFilter]
    search_ids = ["event_id"]
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
