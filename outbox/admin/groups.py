"""The consumer groups: which are halted, what waits in each, and a page of how everything stands."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import router, transaction
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.safestring import SafeString

from outbox.admin.acts import log
from outbox.admin.pages import ReadOnlyAdmin, listed, may
from outbox.admin.standing import how_things_stand
from outbox.consuming.group_state import resume
from outbox.models import ConsumerGroup, FailedMessage, ParkedEvent


def _count(rows: QuerySet[Any]) -> Coalesce:
    """Return how many of the rows belong to a group."""
    of_group = rows.filter(consumer_group=OuterRef("name")).order_by().values("consumer_group")
    return Coalesce(Subquery(of_group.annotate(count=Count("pk")).values("count")), 0)


@admin.register(ConsumerGroup)
class ConsumerGroupAdmin(ReadOnlyAdmin):
    list_display = fields = ("name", "state", "failures_in_a_row", "open_letters", "parked_events", "generation")
    actions = ["resume_groups"]
    ordering = ["name"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[ConsumerGroup]:
        return (
            super()
            .get_queryset(request)
            .annotate(
                letters=_count(FailedMessage.objects.open()),
                parked=_count(ParkedEvent.objects.all()),
            )
        )

    @admin.display(ordering="halted_at")
    def state(self, group: ConsumerGroup) -> str:
        return f"halted since {group.halted_at:%Y-%m-%d %H:%M:%S %Z}" if group.halted_at else "running"

    @admin.display(ordering="letters")
    def open_letters(self, group: Any) -> SafeString:
        return listed("failedmessage", group.letters, consumer_group=group.name, status="open")

    @admin.display(ordering="parked")
    def parked_events(self, group: Any) -> SafeString:
        return listed("parkedevent", group.parked, consumer_group=group.name)

    def get_urls(self) -> list[URLPattern]:
        standing = self.admin_site.admin_view(self.standing_view)
        return [path("standing/", standing, name="outbox_consumergroup_standing"), *super().get_urls()]

    def standing_view(self, request: HttpRequest) -> HttpResponse:
        """Show how the outbox and the groups stand, and how far the groups are behind in each partition."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            **how_things_stand(),
            "title": "How things stand",
            "opts": self.opts,
            "media": self.media,
        }
        return TemplateResponse(request, "admin/outbox/consumergroup/standing.html", context)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if "resume_groups" in request.POST.getlist("action") and not self.has_resume_permission(request):
            raise PermissionDenied
        return super().changelist_view(request, extra_context)

    def has_resume_permission(self, request: HttpRequest) -> bool:
        return may(request, "change_consumergroup")

    @admin.action(description="Resume", permissions=["resume"])
    def resume_groups(self, request: HttpRequest, groups: QuerySet[ConsumerGroup]) -> None:
        for group in groups:
            with transaction.atomic(using=router.db_for_write(ConsumerGroup)):
                resumed = resume(group.name)
                if resumed:
                    log(request.user.pk, [group], f"Resumed. It was {self.state(group)}.")
            if resumed:
                self.message_user(request, f"{group.name} goes on.", messages.SUCCESS)
            else:
                self.message_user(request, f"{group.name} was not halted.", messages.WARNING)
