"""The JSON of what analytics counts, and what can be asked for."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request

from analytics.models import CancelReason
from analytics.reports import LENGTHS, Span
from config.api import Money, refuse_parameters
from config.describing import example

# Of one answer: nearly three months by the hour.
MAX_BUCKETS = 2_000
# What one answer adds up, so that none takes many seconds.
LONGEST = timedelta(days=732)
DAY = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
TIME = r"[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})"


@extend_schema_field({"type": "string", "anyOf": [{"format": "date-time"}, {"format": "date"}]})
class Moment(serializers.Field[datetime, str, str, Any]):
    """A time with its zone (RFC 3339), or a date, which is its midnight in UTC."""

    default_error_messages = {
        "invalid": "Write a time with its zone, such as 2026-01-31T12:00:00Z (RFC 3339; a + is %2B), or a date."
    }

    def to_internal_value(self, data: str) -> datetime:
        text = data.upper()
        if not re.fullmatch(f"{DAY}([T ]{TIME})?", text):
            self.fail("invalid")
        try:
            moment = datetime.fromisoformat(text)
            return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            self.fail("invalid")


class SpanQuery(serializers.Serializer[Any]):
    """Query parameters. What is asked for is read as a Span, and what else there is."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        # Of which Python lets no field of a class be named.
        return {
            "from": Moment(
                source="start",
                required=False,
                help_text="Rounded down to a whole hour, or day where days are asked for. Left out: 30 days before the "
                "end, or 24 hours where sales by the hour are asked for.",
            ),
            "to": Moment(source="end", required=False, help_text="The end, rounded up. Left out: now."),
            **super().get_fields(),
        }

    def validate(self, given: dict[str, Any]) -> dict[str, Any]:
        start, end = given.pop("start", None), given.pop("end", None) or timezone.now()
        bucket = given.pop("bucket", "hour")
        if start is not None and start >= end:
            raise serializers.ValidationError({"from": ["It is not before the end."]})
        try:
            span = Span.covering(start, end, bucket) if start else Span.until(end, self.length(bucket), bucket)
        except OverflowError:
            raise serializers.ValidationError({"to": ["No time can be told so early or so late."]}) from None
        if bucket == "hour" and span.end - span.start > LONGEST:
            raise serializers.ValidationError({"from": [f"That is more than {LONGEST.days} days."]})
        return {"span": span, **given}

    def length(self, bucket: str) -> timedelta:
        """Return how long a span is of which the begin is left out."""
        return timedelta(days=30)

    @classmethod
    def read(cls, request: Request) -> dict[str, Any]:
        """Return what the query of a request asks for, or raise DRF's ValidationError."""
        query = cls(data=request.query_params.dict())
        refuse_parameters(request, known=query.fields)
        query.is_valid(raise_exception=True)
        return query.validated_data


class SalesQuery(SpanQuery):
    bucket = serializers.ChoiceField([*LENGTHS], default="day", help_text="What each result is of.")

    def length(self, bucket: str) -> timedelta:
        return timedelta(days=1) if bucket == "hour" else super().length(bucket)

    def validate(self, given: dict[str, Any]) -> dict[str, Any]:
        asked = super().validate(given)
        if len(asked["span"]) > MAX_BUCKETS:
            raise serializers.ValidationError({"from": [f"That is more than {MAX_BUCKETS:,} results."]})
        return asked


class ProductsQuery(SpanQuery):
    limit = serializers.IntegerField(min_value=1, max_value=1_000, default=10, help_text="How many products at most.")


class SalesOfBucket(serializers.Serializer[Any]):
    bucket = serializers.DateTimeField(help_text="When the hour or day begins.")
    orders = serializers.IntegerField(help_text="Paid in it.")
    units = serializers.IntegerField()
    revenue = Money()
    refunds = Money(help_text="Given back in it, whenever it was paid.")


class SalesOut(serializers.Serializer[Any]):
    currency = serializers.CharField()
    results = SalesOfBucket(many=True)


class SalesOfProduct(serializers.Serializer[Any]):
    sku = serializers.CharField()
    units = serializers.IntegerField()
    revenue = Money()


class ProductsOut(serializers.Serializer[Any]):
    currency = serializers.CharField()
    results = SalesOfProduct(many=True)


class Cancelled(serializers.Serializer[Any]):
    """How many were cancelled, by the reason."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {reason.value: serializers.IntegerField() for reason in CancelReason}


class Seconds(serializers.Serializer[Any]):
    """How long it took from one step to another, on average. Null: no order did both."""

    created_to_reserved = serializers.FloatField(allow_null=True)
    reserved_to_completed = serializers.FloatField(allow_null=True)
    created_to_completed = serializers.FloatField(allow_null=True)
    created_to_cancelled = serializers.FloatField(allow_null=True)


@example(
    created=5,
    reserved=4,
    completed=3,
    cancelled={"OUT_OF_STOCK": 1, "PAYMENT_FAILED": 1, "CUSTOMER": 0, "TIMEOUT": 0},
    seconds={
        "created_to_reserved": 0.031,
        "reserved_to_completed": 0.064,
        "created_to_completed": 0.095,
        "created_to_cancelled": 0.042,
    },
)
class FunnelOut(serializers.Serializer[Any]):
    created = serializers.IntegerField()
    reserved = serializers.IntegerField()
    completed = serializers.IntegerField()
    cancelled = Cancelled()
    seconds = Seconds()
