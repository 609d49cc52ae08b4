"""By what the lists are filtered, beside the columns as they are."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from outbox.events import event_classes
from outbox.kafka import topic_name
from outbox.models import FailedMessage
from outbox.registry import groups
from outbox.topics import declared_topics


class DeclaredFilter(admin.SimpleListFilter):
    """Offers what the code declares: to offer what stands in a table, all its rows would have to be read."""

    # As the column.
    parameter_name: str

    def declared(self) -> Iterable[str]:
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(value, value) for value in sorted(self.declared())]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset if self.value() is None else queryset.filter(**{self.parameter_name: self.value()})


class EventTypeFilter(DeclaredFilter):
    title = "event type"
    parameter_name = "event_type"

    def declared(self) -> Iterable[str]:
        return {cls.type for cls in event_classes}


class TopicFilter(DeclaredFilter):
    title = "topic"
    parameter_name = "topic"

    def declared(self) -> Iterable[str]:
        return map(topic_name, declared_topics())


class GroupFilter(DeclaredFilter):
    title = "consumer group"
    parameter_name = "consumer_group"

    def declared(self) -> Iterable[str]:
        return groups()


class StatusFilter(admin.SimpleListFilter):
    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("open", "Open: pending or failed"), *FailedMessage.Status.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet[FailedMessage]) -> QuerySet[FailedMessage]:
        if self.value() is None:
            return queryset
        return queryset.filter(status__in=FailedMessage.OPEN if self.value() == "open" else [self.value()])


class AgeFilter(admin.SimpleListFilter):
    title = "age"
    parameter_name = "age"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("hour", "Younger than an hour"),
            ("today", "Today"),
            ("day", "Older than a day"),
            ("week", "Older than a week"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[FailedMessage]) -> QuerySet[FailedMessage]:
        now = timezone.now()
        ages = {
            "hour": Q(created_at__gt=now - timedelta(hours=1)),
            "today": Q(created_at__gte=timezone.localtime(now).replace(hour=0, minute=0, second=0, microsecond=0)),
            "day": Q(created_at__lt=now - timedelta(days=1)),
            "week": Q(created_at__lt=now - timedelta(weeks=1)),
        }
        return queryset.filter(ages.get(self.value() or "", Q()))


class CauseFilter(admin.SimpleListFilter):
    """Is seen once it is chosen: by a link from a letter or from the page of causes."""

    title = "cause"
    parameter_name = "fingerprint"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(value, "Failures like this") for value in self.used_parameters.values()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[FailedMessage]) -> QuerySet[FailedMessage]:
        return queryset if self.value() is None else queryset.filter(fingerprint=self.value())
